"""The same labels as another program's: what it would set, and the call of it that equals ours.

::

    presets     what CyPose, Cellpose's command line, GUI and Python set when nobody says anything
    seg_file    what a person had set in Cellpose's GUI, from the ``_seg.npy`` that it saved
    calls       the ``python -m cellpose`` and the Python call that give the labels of a result
"""

from cypose_dask.likeness.calls import EqualCalls, Ran, equal_calls
from cypose_dask.likeness.presets import PRESETS, Likeness, preset
from cypose_dask.likeness.seg_file import seg_file_likeness

__all__ = [
    "PRESETS",
    "EqualCalls",
    "Likeness",
    "Ran",
    "equal_calls",
    "preset",
    "seg_file_likeness",
]
