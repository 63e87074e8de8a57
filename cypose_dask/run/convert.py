"""Convert a movie to OME-Zarr, block by block on the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import CyposeError, MovieError, ResultError, RunError
from cypose_dask.movies import LazyFrames, Movie, open_movie
from cypose_dask.results.atomic import whole_folder
from cypose_dask.results.image import create_image, write_frames
from cypose_dask.run.clusters import active_client, connect
from cypose_dask.run.directory import names_of
from cypose_dask.run.finding import Source
from cypose_dask.run.watch import keys_under_way, let_go

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["convert_files", "convert_movie"]

_SHARD_BYTES = 64 * 2**20
_BLOCKS_IN_FLIGHT = 16
# While blocks end that nobody wants any more, s.
_LOOK_EVERY_S = 0.1


def convert_movie(
    movie: Movie,
    path: str | Path,
    *,
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a movie's pixels as OME-Zarr 0.5 (zarr 3, sharded), whole or not at all.

    Parameters
    ----------
    movie : Movie
    path : str or Path
        The ``.zarr`` folder; must not exist.
    client : distributed.Client or None
        None uses the active client; without one, the threads of this process.
    progress : callable or None
        Called with frames done and their total.

    Returns
    -------
    Path

    Raises
    ------
    ResultError
        If `path` exists.
    MovieError
        If a frame is damaged: a hole would read as black in the copy.
    RunError
        If the cluster loses its scheduler or too many workers.
    """
    path = Path(path)
    if path.exists():
        raise ResultError(f"{path} exists already. Remove it, or choose another place.")
    if movie.info.damaged:
        raise MovieError(
            f"{movie.info.path}: {len(movie.info.damaged)} frames are damaged and would be black "
            "in the copy. Only whole movies are converted."
        )
    client = client or active_client()
    cluster = nullcontext(client) if client else connect(processes=False)
    with cluster as client, whole_folder(path) as partial:
        per_shard = _frames_per_shard(movie)
        create_image(partial, movie.info, per_shard)
        _copy(movie, partial, (client, per_shard, progress))
    return path


def convert_files(
    sources: Sequence[Source],
    folder: str | Path,
    *,
    client: Client | None = None,
    open_options: dict[str, Any] | None = None,
) -> list[tuple[str, Path, str | None]]:
    """Convert several movies to ``NAME.ome.zarr`` in one folder; none stops the rest.

    Returns
    -------
    list of (str, Path, str or None)
        Source, copy, and what went wrong with it.
    """
    targets = [names.zarr.with_suffix(".ome.zarr") for names in names_of(sources, folder)]
    outcomes: list[tuple[str, Path, str | None]] = []
    for source, target in zip(sources, targets, strict=True):
        try:
            convert_movie(open_movie(source.path, **(open_options or {})), target, client=client)
            outcomes.append((source.path, target, None))
        except (CyposeError, OSError) as error:
            outcomes.append((source.path, target, str(error)))
    return outcomes


def _frames_per_shard(movie: Movie) -> int:
    sizes = movie.info.sizes
    frame_bytes = int(np.prod([sizes[a] for a in "ZCYX"])) * movie.info.dtype.itemsize
    return max(1, min(sizes["T"], _SHARD_BYTES // frame_bytes))


def _copy(
    movie: Movie, path: Path, how: tuple[Client, int, Callable[[int, int], None] | None]
) -> None:
    from distributed import futures_of

    client, per_shard, progress = how
    t, positions = movie.info.sizes["T"], movie.info.sizes["P"]
    step = per_shard * _BLOCKS_IN_FLIGHT
    for position in range(positions):
        for start in range(0, t, step):
            stop = min(start + step, t)
            blocks = movie.blocks(start, stop, position, per_shard)
            chunks = (tuple(1 for _ in blocks.chunks[0]), *((1,),) * 5)
            copied = blocks.map_blocks(
                _copy_block,
                path.resolve(),
                dtype=bool,
                chunks=chunks,
                meta=np.empty((0,) * 6, bool),
            )
            _finish(client, futures_of(client.persist(copied)), movie.info.path)
            if progress:
                progress(position * t + stop, positions * t)


def _finish(client: Client, futures: list[Future], name: str) -> None:
    """Wait for blocks and raise what one raised; none is being written afterwards."""
    from distributed import KilledWorker, wait

    try:
        wait(futures)
        client.gather(futures)
    except BaseException as error:
        # A block that is under way would write into a folder that is being removed.
        keys = {future.key for future in futures}
        let_go(client, futures)
        while keys & keys_under_way(client):
            time.sleep(_LOOK_EVERY_S)
        if isinstance(error, KilledWorker):
            raise RunError(
                f"{name}: workers died while it was converted ({error}). Nothing was kept; run "
                "again, with fewer --workers if memory was short."
            ) from error
        raise


def _copy_block(frames: LazyFrames, path: Path) -> np.ndarray:
    write_frames(path, (frames.position, frames.start), np.asarray(frames)[:, 0])
    return np.ones((1,) * 6, bool)
