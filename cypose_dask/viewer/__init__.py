"""Results and movies in napari. Nothing here is imported unless napari asks for it."""
