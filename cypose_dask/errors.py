"""The error tree.

Every error derives from `CyposeError` and from the built-in that it stands for, so that
``except FileNotFoundError`` and ``except cypose_dask.CyposeError`` both work::

    CyposeError
    ├── MovieError (ValueError)                 unreadable, ambiguous or damaged input
    │   ├── MovieNotFoundError (FileNotFoundError)
    │   └── DamagedFrameError                   one frame is missing or unreadable
    ├── SettingsError (ValueError)              an argument that cannot be honoured
    ├── ModelError (ValueError)                 weights of another kind, or damaged
    │   └── ModelNotFoundError (FileNotFoundError)
    ├── ResultError (ValueError)                a result store that contradicts itself
    │   ├── ResultMismatchError                 resume with another plan; names the fields
    │   ├── ResultLockedError                   another run writes it at this moment
    │   └── IncompleteResultError               export of frames that were never segmented
    └── RunError (RuntimeError)                 the cluster or the device failed
        ├── RunStoppedError                     stopped on request; the same command continues
        └── DeviceError                         a GPU was asked for and is not there
            └── DeviceMemoryError               not even one tile fits; fails its block alone

Each message says what was found, what was expected and what to do. Errors take the message
alone, positionally, because an error that takes more cannot be unpickled on the client.
"""

from __future__ import annotations

__all__ = [
    "CyposeError",
    "DamagedFrameError",
    "DeviceError",
    "DeviceMemoryError",
    "IncompleteResultError",
    "ModelError",
    "ModelNotFoundError",
    "MovieError",
    "MovieNotFoundError",
    "ResultError",
    "ResultLockedError",
    "ResultMismatchError",
    "RunError",
    "RunStoppedError",
    "SettingsError",
]


class CyposeError(Exception):
    """Base of every error that this package raises on purpose."""

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # Distributed pickles errors through tblib, which cannot remake an error that is both a
        # ValueError and an OSError from what Python's own reducers give.
        return type(self), self.args


class MovieError(CyposeError, ValueError):
    """A movie cannot be read, is ambiguous or is damaged."""


class MovieNotFoundError(MovieError, FileNotFoundError):
    """There is no movie at this path."""


class DamagedFrameError(MovieError):
    """One frame is missing in the file or cannot be decoded."""


class SettingsError(CyposeError, ValueError):
    """An argument is out of range or contradicts another."""


class ModelError(CyposeError, ValueError):
    """A weights file is damaged, or of a kind that Cellpose 3 cannot use."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """No model has this name or path; the message lists near names."""


class ResultError(CyposeError, ValueError):
    """A result store is unreadable or contradicts itself."""


class ResultMismatchError(ResultError):
    """A run that would continue a result differs from the one that began it."""


class ResultLockedError(ResultError):
    """Another run writes this result at this moment."""


class IncompleteResultError(ResultError):
    """Frames of this result were never segmented, or failed."""


class RunError(CyposeError, RuntimeError):
    """The run could not go on: no workers, scheduler lost, device failed."""


class RunStoppedError(RunError):
    """The run was asked to stop; what was under way is finished and kept."""


class DeviceError(RunError):
    """The device that was asked for is not there or does not work."""


class DeviceMemoryError(DeviceError):
    """The device has no room for a single tile."""
