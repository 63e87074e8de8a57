"""Blocks of a finished result, worked on by a cluster and given back in order."""

from __future__ import annotations

import os
import time
from threading import Timer

import numpy as np
import pytest

from cypose_dask.errors import RunError
from cypose_dask.run.each_block import Block, each_block
from helpers.results import write_result


def stored(folder, *, t=7, p=2, block=3):
    labels = np.zeros((t, p, 1, 4, 5), np.uint32)
    return write_result(folder / "movie.zarr", labels, frames_per_block=block)


def late(path, block):
    """The first blocks take longest."""
    time.sleep(0.2 if block.start == 0 else 0)
    return path.name, block.start


def sign_off(path, block):
    (path.parent / f"{block.position}-{block.start}").touch()


def die(path, block):
    os._exit(1)


def complain(path, block):
    raise KeyError(block.start)


def test_values_come_by_position_and_time(tmp_path, client):
    blocks, values = zip(*each_block(stored(tmp_path), late, client=client), strict=True)
    starts = [(0, 3), (3, 6), (6, 7)]
    assert blocks == tuple(Block(p, *times) for p in (0, 1) for times in starts)
    assert values == tuple(("movie.zarr", start) for _ in (0, 1) for start, _ in starts)


def test_a_caller_that_stops_stops_the_blocks(tmp_path, client):
    result = stored(tmp_path, t=600, p=1, block=1)
    given = each_block(result, sign_off, client=client)
    next(given)
    given.close()
    assert len(list(tmp_path.glob("0-*"))) < 50


def test_what_a_block_raises_is_raised(tmp_path, client):
    with pytest.raises(KeyError):
        list(each_block(stored(tmp_path), complain, client=client))


def test_workers_that_die_end_it(tmp_path):
    from cypose_dask.run import connect

    with connect(workers=1) as client, pytest.raises(RunError, match=r"Workers died.*run again"):
        list(each_block(stored(tmp_path), die, client=client))


def test_workers_may_come_later(tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        Timer(1, cluster.scale, [1]).start()
        assert len(list(each_block(stored(tmp_path), late, client=client))) == 6


def test_a_scheduler_that_dies_ends_it(tmp_path):
    from cypose_dask.run import connect, link
    from helpers.cluster_processes import no_hang, running_cluster

    result = stored(tmp_path, t=60, p=1, block=1)
    with (
        running_cluster(tmp_path) as cluster,
        no_hang(90),
        connect(scheduler_file=str(cluster.scheduler_file)) as client,
        pytest.raises(RunError, match=r"scheduler was lost.*run the same command again"),
    ):
        link(result, client=client, progress=lambda *_: cluster.scheduler.kill())
    assert not list(tmp_path.glob("movie_*"))
