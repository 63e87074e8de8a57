"""Made-up microscopy with exact labels: growing cells, and the microscope that films them.

Micrometres and habits of cells (`colony`, `filament`, `scenes`) become pixels (`raster`), light
(`optics`, `microscope`) and at last single frames to train on (`synthetic`) or a whole time-lapse
(`movie`). Everything random follows from a seed.
"""

from cypose_dask.learn.generator.movie import (
    MOVIE_LOOKS,
    SPECIES,
    MovieRequest,
    SyntheticMovie,
    film,
    synthetic_movie,
)
from cypose_dask.learn.generator.synthetic import SyntheticFrame, synthetic_frame, training_set

__all__ = [
    "MOVIE_LOOKS",
    "SPECIES",
    "MovieRequest",
    "SyntheticFrame",
    "SyntheticMovie",
    "film",
    "synthetic_frame",
    "synthetic_movie",
    "training_set",
]
