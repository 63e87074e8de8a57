"""The newcomer's page does what it says: from an ND2 to a table of growth curves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from cypose_dask.learn import synthetic_movie
from helpers.nd2_writer import write_nd2

PAGE = (ROOT / "docs" / "growth_curves.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.S)
FRAMES = 9


@pytest.mark.slow
def test_the_page_ends_with_a_table_of_growth_curves(tmp_path, monkeypatch):
    film = synthetic_movie(n_frames=FRAMES, shape=(160, 160), seed=5, start_cells=3)
    write_nd2(
        tmp_path / "movie.nd2",
        film.frames,
        axes="TCYX",
        channels=list(film.channel_names),
        pixel_size_um=film.pixel_size_um,
        period_ms=1000 * film.interval_s,
    )
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shared: dict[str, object] = {}
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, "growth_curves.md", "exec"), shared)
        else:
            run = ["bash", "-euo", "pipefail", "-c", code]
            subprocess.run(run, check=True, env={**os.environ, "PATH": path})

    curves = pd.read_csv("growth_curves.csv", index_col="hours")
    assert len(curves) == FRAMES
    assert curves.index[-1] == (FRAMES - 1) * film.interval_s / 3600
    # How the colony grew, against the truth; the model draws cells thinner in brightfield.
    area, truth = curves.sum(axis=1), np.count_nonzero(film.labels, axis=(1, 2))
    np.testing.assert_allclose(area / area.iloc[0], truth / truth[0], rtol=0.08)
    for name in re.findall(r"`(\w+\.(?:png|tif|html|csv|parquet))`", PAGE):
        assert Path(name).exists(), name
