"""Which frames of a movie are worth annotating: as different as possible, and with cells in them.

`features` looks at frames, `windows` cuts squares with cells out of them, `choice` takes the most
different ones, `selection` does so for whole movies and `files` saves what a person annotates.
"""

from cypose_dask.learn.frames.files import RECORD_NAME, SavedFrames, save_frames
from cypose_dask.learn.frames.selection import (
    ChosenFrame,
    FrameRequest,
    FrameSelection,
    select_frames,
)

__all__ = [
    "RECORD_NAME",
    "ChosenFrame",
    "FrameRequest",
    "FrameSelection",
    "SavedFrames",
    "save_frames",
    "select_frames",
]
