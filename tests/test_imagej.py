"""Labelled TIFs and hyperstacks as ImageJ itself sees them: axes, scale, every page."""

from __future__ import annotations

import numpy as np
import pytest

from cypose_dask.results import export_tif, export_trackmate
from cypose_dask.results.handoff import hyperstack
from helpers.handed_on import hand_on
from helpers.imagej import look_in_imagej


def pages_in(seen: dict[str, str]) -> list[tuple[float, ...]]:
    """Return minimum, mean and maximum of every page that ImageJ looked at."""
    return [tuple(map(float, v.split())) for k, v in seen.items() if k.startswith("page")]


def expected_of(pages: np.ndarray) -> list[tuple[float, ...]]:
    flat = pages.reshape(-1, *pages.shape[-2:])
    return [(page.min(), pytest.approx(page.mean(), abs=1e-3), page.max()) for page in flat]


def require_scale(seen: dict[str, str]) -> None:
    assert seen["unit"] in ("µm", "um", "micron", "microns")
    assert float(seen["pixel"]) == pytest.approx(0.065, abs=1e-6)
    assert float(seen["interval"]) == 300


def sizes_in(seen: dict[str, str]) -> list[int]:
    return [int(seen[name]) for name in ("frames", "slices", "channels", "height", "width")]


def test_imagej_sees_the_labels(tmp_path):
    made = hand_on(tmp_path, t=3, z=2)
    (path,) = export_tif(made.result, tmp_path / "x.tif", ids="movie")
    seen = look_in_imagej(path, tmp_path)
    assert sizes_in(seen) == [3, 2, 1, 36, 40]
    assert seen["bits"] == "16"
    assert float(seen["depth"]) == 1
    require_scale(seen)
    highest = np.cumsum(made.labels.max(axis=(1, 3, 4)))
    empty = made.labels.max(axis=(1, 3, 4)).ravel() == 0
    found = [most for _, _, most in pages_in(seen)]
    assert found == np.where(empty, 0, highest).tolist()


@pytest.mark.parametrize("largest_classic", [2**32, 1000])
def test_imagej_sees_movie_and_labels(tmp_path, monkeypatch, largest_classic):
    monkeypatch.setattr(hyperstack, "_LARGEST_CLASSIC_BYTES", largest_classic)
    made = hand_on(tmp_path, t=3, z=2)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    seen = look_in_imagej(path, tmp_path)
    assert sizes_in(seen) == [3, 2, 3, 36, 40]
    assert seen["bits"] == "16"
    require_scale(seen)
    both = np.concatenate([made.pixels[:, 0], made.labels[:, 0, :, np.newaxis]], axis=2)
    assert pages_in(seen) == expected_of(both)
