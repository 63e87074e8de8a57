"""Cellpose's flow dynamics on a CPU, from our own kernels; neither torch nor cellpose is loaded.

Kernels are compiled on their first call and kept on disk: in `NUMBA_CACHE_DIR` where that is set,
else beside this file, else in the user's own cache folder; where none of them can be written,
numba raises on import, as it does for Cellpose, and `NUMBA_CACHE_DIR` is the way out. Numba looks
only at the file of a kernel when it asks whether a kept one is still good, so a kernel calls no
kernel of another file.
"""

from cypose_dask.engine.dynamics.labels import labels_from_flows

__all__ = ["labels_from_flows"]
