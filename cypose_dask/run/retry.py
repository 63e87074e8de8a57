"""Try again what a file server may refuse for a moment."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cypose_dask.errors import CyposeError

__all__ = ["patiently"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# A server that fails over is back within some seconds.
_WAITS_S = (0.2, 1.0, 5.0)
# Waiting helps against none of these.
_FINAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


def patiently(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call a function, again after a while if the system reports an error of input or output.

    Raises
    ------
    OSError
        The last one, or one that time does not mend: no space, no permission.
    """
    for wait in _WAITS_S:
        try:
            return function(*args, **options)
        except OSError as error:
            # Errors of our own say what is wrong with the file; they stand.
            if isinstance(error, CyposeError) or error.errno in _FINAL:
                raise
            logger.warning("%s; again in %.1f s", error, wait)
            time.sleep(wait)
    return function(*args, **options)
