"""Shared fixtures: a small synthetic movie in several files, and one cluster for all tests."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from helpers.nd2_writer import write_nd2

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_configure(config):
    """Begin with an empty cache, which workers and subprocesses share; repeat unless --slow.

    The ordinary suite tries the same examples every time, so that it says something about a
    change; --slow looks for new ones. A machine that is busy is no failure.
    """
    hypothesis.settings.register_profile(
        "cypose",
        derandomize=not config.getoption("--slow"),
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("cypose")
    folder = tempfile.TemporaryDirectory(prefix="cypose-cache-")
    config.add_cleanup(folder.cleanup)
    os.environ["CYPOSE_CACHE"] = folder.name


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        mark = pytest.mark.timeout(1800)
    else:
        mark = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(mark)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real microscope files; the test skips where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real files are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def synthetic():
    """A growing colony: 5 frames of 64 x 64 px, two channels, with exact labels."""
    from cypose_dask.learn import synthetic_movie

    return synthetic_movie(n_frames=5, shape=(64, 64), seed=3, start_cells=3)


@pytest.fixture(scope="session")
def nd2_path(synthetic, tmp_path_factory) -> Path:
    """The synthetic movie as ND2, T x C."""
    path = tmp_path_factory.mktemp("movie") / "movie.nd2"
    return Path(
        write_nd2(
            path,
            synthetic.frames,
            axes="TCYX",
            channels=list(synthetic.channel_names),
            pixel_size_um=synthetic.pixel_size_um,
        )
    )


@pytest.fixture(scope="session")
def movie(nd2_path):
    """The synthetic movie, opened."""
    from cypose_dask.movies import open_movie

    return open_movie(nd2_path)


@pytest.fixture
def cli(capsys):
    """Run a command line in this process: (exit code, stdout, stderr)."""
    from cypose_dask.cli import main

    def run(*args):
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def client():
    """A client of two worker processes, started once for all tests."""
    from cypose_dask.run import connect

    with connect(workers=2) as client:
        yield client


@pytest.fixture(scope="session")
def model_path() -> str:
    """The bundled default's weights."""
    from cypose_dask.models import resolve_model

    return resolve_model().path


@pytest.fixture(scope="session")
def expected_labels(synthetic, model_path) -> np.ndarray:
    """Labels (T, Y, X) by `CellposeModel.eval`, frame by frame, as its users call it."""
    from cellpose.models import CellposeModel

    model = CellposeModel(pretrained_model=model_path)
    return np.stack(
        [
            model.eval(frame[0], channels=[0, 0], flow_threshold=0.75)[0]
            for frame in synthetic.frames
        ]
    )
