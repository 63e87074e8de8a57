"""Every real file in ../shared/data opens, or is refused, as real_files.toml says."""

import tomllib
from pathlib import Path

import nd2
import numpy as np
import pytest
import tifffile

from cypose_dask.errors import MovieError
from cypose_dask.movies import open_movie

TABLE = Path(__file__).with_name("real_files.toml")
ENTRIES = tomllib.loads(TABLE.read_text())["file"]
DATA = Path(__file__).parents[2] / "shared" / "data"
IMAGES = (".tif", ".tiff", ".png", ".nd2")

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


def name(entry):
    return f"{entry['path']}-{entry.get('options', '')}"


@needs_data
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e["outcome"] == "opens"], ids=name)
def test_real_file_opens(entry):
    movie = open_movie(DATA / entry["path"], **entry.get("options", {}))
    assert list(movie.info.sizes.values()) == entry["sizes"]
    assert movie.info.damaged == ()
    for words in entry.get("words", ()):
        assert any(words in note for note in movie.info.notes), movie.info.notes
    last = [size - 1 for size in entry["sizes"][:3]]
    assert movie.read_frame(*last).shape == tuple(entry["sizes"][3:])


@needs_data
@pytest.mark.parametrize("entry", [e for e in ENTRIES if e["outcome"] == "refused"], ids=name)
def test_real_file_is_refused(entry):
    with pytest.raises(MovieError) as refusal:
        open_movie(DATA / entry["path"], **entry.get("options", {}))
    for words in entry["words"]:
        assert words in str(refusal.value)


@needs_data
def test_every_real_file_is_listed():
    listed = {path for entry in ENTRIES for path in DATA.glob(entry["path"])}
    images = {path for path in DATA.rglob("*") if path.suffix.lower() in IMAGES}
    assert images <= listed


def unselected(entry):
    """Whether tifffile or nd2 alone would read the same pixels."""
    plain = not {"rgb", "channels"} & set(entry.get("options", {}))
    return plain and "sizes" in entry and not entry["path"].endswith(("*.tif", ".png"))


@needs_data
@pytest.mark.parametrize("entry", [e for e in ENTRIES if unselected(e)], ids=name)
def test_pixels_are_those_of_the_library(entry):
    path = DATA / entry["path"]
    expected = nd2.imread(path) if path.suffix == ".nd2" else tifffile.imread(path)
    movie = open_movie(path, **entry.get("options", {}))
    frames = movie.frames.compute(scheduler="sync")
    np.testing.assert_array_equal(frames, np.reshape(expected, frames.shape))
