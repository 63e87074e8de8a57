"""The network's input, bit by bit as Cellpose normalises it."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cypose_dask import Settings
from cypose_dask.engine.normalize import cellpose_normalization, network_input
from cypose_dask.errors import SettingsError

DTYPES = ["bool", "uint8", "int16", "uint16", "uint32", "float16", "float32", "float64"]
# No subnormal numbers: training, in the same process, tells the processor to flush them.
plain_floats = partial(st.floats, allow_subnormal=False)
percentiles = st.tuples(plain_floats(0, 50), plain_floats(50.5, 100))


def cellpose_input(frame, how):
    from cellpose import transforms

    used = np.moveaxis(frame, 0, -1).astype(np.float32)[np.newaxis]
    full = cellpose_normalization(how)
    if full["lowhigh"] is not None and len(full["lowhigh"]) == 1:
        full["lowhigh"] = np.repeat(full["lowhigh"], len(frame), axis=0)
    return transforms.normalize_img(used, **full)[0]


def check_equal(frame, how):
    ours = network_input(frame, 3, how)
    theirs = cellpose_input(frame, how)
    assert ours.dtype == theirs.dtype == np.float32
    assert ours[..., : len(frame)].tobytes() == theirs.tobytes()
    assert not ours[..., len(frame) :].any()


@st.composite
def frames(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(8, 80), st.integers(8, 80)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    # Flat, faint, ordinary and bright channels.
    spread = draw(st.sampled_from([0, 1e-4, 3, 200]))
    frame = rng.normal(100, spread, shape).clip(0, 250)
    if draw(st.booleans()):
        frame[0] = 7
    return frame.astype(draw(st.sampled_from(DTYPES)))


@given(frames(), percentiles, st.booleans())
@settings(max_examples=150, deadline=None)
def test_percentiles_equal_cellpose(frame, percentiles, invert):
    check_equal(frame, Settings(percentiles=percentiles, invert=invert))


@given(frames(), plain_floats(-50, 99), plain_floats(100, 70_000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_fixed_intensities_equal_cellpose(frame, low, high, invert):
    check_equal(frame, Settings(normalize=(low, high), invert=invert))
    pairs = tuple(v + i for i in range(len(frame)) for v in (low, high))
    check_equal(frame, Settings(normalize=pairs, invert=invert))


@given(frames())
@settings(max_examples=30, deadline=None)
def test_raw_intensities_equal_cellpose(frame):
    check_equal(frame, Settings(normalize="none"))


@pytest.mark.parametrize("shape", [(4000, 2900), (224, 224**2), (224, 224**2 + 1)])
def test_percentiles_of_large_frames_equal_cellpose(shape):
    frame = np.random.default_rng(1).gamma(2.0, 300.0, (1, *shape)).astype(np.uint16)
    check_equal(frame, Settings())


@pytest.mark.parametrize("spread", [0, 1e-4, 3e-4, 1e-3, 1])
@pytest.mark.parametrize("invert", [False, True])
def test_faint_channels_equal_cellpose(spread, invert):
    frame = np.random.default_rng(3).normal(1, spread, (1, 40, 40)).astype(np.float32)
    check_equal(frame, Settings(invert=invert))


def test_the_frame_is_not_changed():
    frame = np.random.default_rng(2).normal(size=(2, 32, 32)).astype(np.float32)
    before = frame.copy()
    network_input(frame, 2, Settings())
    np.testing.assert_array_equal(frame, before)


def test_pairs_of_intensities_for_other_channels_are_refused():
    with pytest.raises(SettingsError, match="2 pairs of intensities for 3 channels"):
        network_input(np.zeros((3, 16, 16)), 3, Settings(normalize=(0.0, 1.0, 0.0, 2.0)))


def test_normalising_and_tiling_import_neither_torch_nor_cellpose():
    code = (
        "import sys; import cypose_dask.engine.tiles; import numpy as np;"
        "from cypose_dask.engine.normalize import network_input;"
        "from cypose_dask.settings import Settings;"
        "network_input(np.ones((1, 9, 9)), 1, Settings());"
        "assert not {'torch', 'cellpose'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
