"""Labels are those of `CellposeModel.eval` on the CPU, whatever the engine and the runtime.

The reference engine's flows are `eval`'s bit for bit; other runtimes add in another order.
"""

from __future__ import annotations

import numpy as np
import pytest

from cypose_dask.engine import segment_frames
from cypose_dask.models import resolve_model
from cypose_dask.settings import Settings

# Our settings, and what a user of Cellpose would pass to `eval` for the same.
PAIRS = {
    "defaults": (Settings(), {}),
    "diameter": (Settings(diameter=14), {"diameter": 14}),
    "large diameter": (Settings(diameter=31.5), {"diameter": 31.5}),
    "niter": (Settings(niter=33), {"niter": 33}),
    "niter 0 is auto": (Settings(niter=0), {"niter": 0}),
    "strict flow": (Settings(flow_threshold=0.2), {"flow_threshold": 0.2}),
    "no flow check": (Settings(flow_threshold=0), {"flow_threshold": 0}),
    "cellprob": (Settings(cellprob_threshold=-2), {"cellprob_threshold": -2}),
    "min size": (Settings(min_size_px=80), {"min_size": 80}),
    "keep all": (
        Settings(min_size_px=-1, flow_threshold=0.3),
        {"min_size": -1, "flow_threshold": 0.3},
    ),
    "percentiles": (Settings(percentiles=(5, 90)), {"normalize": {"percentile": (5, 90)}}),
    "invert": (Settings(invert=True), {"normalize": {"invert": True}}),
    "raw": (Settings(normalize="none"), {"normalize": {"normalize": False}}),
}


ENGINES = {
    "reference": {"engine": "reference"},
    "winograd": {"engine": "fast", "runtime": "winograd"},
    "openvino": {"engine": "fast", "runtime": "openvino"},
    "torch": {"engine": "fast", "runtime": "torch"},
}
# Largest difference between runtimes, as a share of the largest flow or logit.
TOLERANCE = 5e-6


def assert_close(engine, ours, theirs):
    if engine == "reference":
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


@pytest.fixture(scope="module")
def cellpose_model(model_path):
    from cellpose.models import CellposeModel

    return CellposeModel(pretrained_model=model_path)


@pytest.fixture
def pristine_cellpose():
    """`eval` edits Cellpose's normalisation defaults; each comparison starts from the same."""
    from cellpose import models

    before = dict(models.normalize_default)
    yield
    models.normalize_default.clear()
    models.normalize_default.update(before)


@pytest.mark.parametrize("name", PAIRS)
def test_labels_and_flows_equal_eval(name, synthetic, cellpose_model, pristine_cellpose):
    settings, options = PAIRS[name]
    frame = synthetic.frames[-1, 0]
    options = {"flow_threshold": 0.75, "channels": [0, 0], **options}
    masks, (_, flows, cellprob), _ = cellpose_model.eval(frame, **options)
    for engine, choice in ENGINES.items():
        ours = segment_frames(frame[None, None], resolve_model(), settings.replace(**choice))
        np.testing.assert_array_equal(ours.labels[0], masks, err_msg=engine)
        assert_close(engine, ours.flows[0], flows)
        assert_close(engine, ours.cellprob[0], cellprob)


def test_the_comparison_has_cells(synthetic):
    labels = segment_frames(synthetic.frames[-1:, :1]).labels
    assert labels.max() >= 4


def test_fixed_intensities_equal_eval(synthetic, cellpose_model, pristine_cellpose):
    frame = synthetic.frames[-1, 0]
    low, high = float(np.percentile(frame, 3)), float(np.percentile(frame, 95))
    ours = segment_frames(frame[None, None], settings=Settings(normalize=(low, high)))
    # Cellpose would shift the empty second input too; [0, 1] leaves it at zero.
    masks, *_ = cellpose_model.eval(
        frame, channels=[0, 0], flow_threshold=0.75, normalize={"lowhigh": [[low, high], [0, 1]]}
    )
    np.testing.assert_array_equal(ours.labels[0], masks)


def test_one_pair_of_intensities_serves_both_channels(synthetic):
    frame = synthetic.frames[-1:]
    once, twice = (
        segment_frames(frame, settings=Settings(channels=(0, 1), normalize=limits))
        for limits in ((100.0, 30_000.0), (100.0, 30_000.0, 100.0, 30_000.0))
    )
    np.testing.assert_array_equal(once.cellprob, twice.cellprob)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_channels_equal_eval(engine, synthetic, cellpose_model, pristine_cellpose):
    frame = synthetic.frames[-1]
    ours = segment_frames(frame[None], settings=Settings(**ENGINES[engine]))
    masks, (_, flows, _), _ = cellpose_model.eval(
        frame, channels=[1, 2], channel_axis=0, flow_threshold=0.75
    )
    np.testing.assert_array_equal(ours.labels[0], masks)
    assert_close(engine, ours.flows[0], flows)


def test_mean_of_channels_equals_gray_eval(synthetic, cellpose_model, pristine_cellpose):
    frame = synthetic.frames[-1]
    ours = segment_frames(frame[None], settings=Settings(channels="mean"))
    masks, *_ = cellpose_model.eval(frame, channels=[0, 0], channel_axis=0, flow_threshold=0.75)
    np.testing.assert_array_equal(ours.labels[0], masks)


def test_an_eval_in_between_changes_nothing(synthetic, cellpose_model, pristine_cellpose):
    frame = synthetic.frames[-1:, :1]
    before = segment_frames(frame).labels
    cellpose_model.eval(frame[0, 0], channels=[0, 0], invert=True)  # leaks into Cellpose's defaults
    np.testing.assert_array_equal(segment_frames(frame).labels, before)


def test_frames_do_not_influence_each_other(synthetic):
    frames = synthetic.frames[:3, :1]
    together = segment_frames(frames).labels
    alone = [segment_frames(frame[None]).labels[0] for frame in frames]
    np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", ">u2"])
def test_dtype_of_the_frame_does_not_matter_to_eval_equality(
    dtype, synthetic, cellpose_model, pristine_cellpose
):
    frame = (synthetic.frames[-1, 0] // 300).astype(dtype)
    frame.flags.writeable = False
    masks, *_ = cellpose_model.eval(frame, channels=[0, 0], flow_threshold=0.75)
    np.testing.assert_array_equal(segment_frames(frame[None, None]).labels[0], masks)


@pytest.mark.parametrize("name", ["Sample000033.png", "Sample000193.png"])
@pytest.mark.parametrize(
    "settings",
    [Settings(diameter=16), Settings(diameter=20, niter=120, flow_threshold=0.4)],
    ids=["defaults", "varied"],
)
def test_real_phase_images_equal_eval(
    name, settings, shared_data, cellpose_model, pristine_cellpose
):
    from cypose_dask.movies import open_movie

    movie = open_movie(shared_data / "omnipose_phase" / name, rgb="mean")
    frame = movie.read_frame(0)[:, -200:, -200:]
    ours = segment_frames(frame[None], settings=settings)
    masks, *_ = cellpose_model.eval(
        frame[0],
        channels=[0, 0],
        diameter=settings.diameter,
        niter=settings.niter,
        flow_threshold=settings.flow_threshold,
    )
    assert masks.max() > 10
    np.testing.assert_array_equal(ours.labels[0], masks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Sample000033.png", "Sample000193.png"])
def test_whole_real_phase_images_equal_eval(name, shared_data, cellpose_model, pristine_cellpose):
    from cypose_dask.movies import open_movie

    frame = open_movie(shared_data / "omnipose_phase" / name, rgb="mean").read_frame(0)
    for options in ({}, {"diameter": 14.0}, {"niter": 400}, {"flow_threshold": 0.4}):
        ours = segment_frames(frame[None], settings=Settings(**options))
        masks, *_ = cellpose_model.eval(
            frame[0], channels=[0, 0], **{"flow_threshold": 0.75, **options}
        )
        np.testing.assert_array_equal(ours.labels[0], masks)
