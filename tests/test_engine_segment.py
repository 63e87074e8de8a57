"""The engine's own promises: words, odd frames, networks loaded once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cypose_dask.engine import choose_device, load_networks, network, segment_frames
from cypose_dask.engine.normalize import intensity_range, network_input
from cypose_dask.engine.segment import resolve_settings
from cypose_dask.errors import DamagedFrameError, DeviceError, ModelError, MovieError, SettingsError
from cypose_dask.models import resolve_model
from cypose_dask.settings import Settings


def test_labels_are_uint32_numbered_without_gaps(synthetic):
    labels = segment_frames(synthetic.frames[:2, :1]).labels
    assert labels.dtype == np.uint32
    for frame in labels:
        np.testing.assert_array_equal(np.unique(frame), np.arange(frame.max() + 1))


def test_stats_describe_the_labels(synthetic):
    done = segment_frames(synthetic.frames[-1:, :1])
    stats, labels = done.stats[0], done.labels[0]
    assert stats.cells == labels.max() > 0
    assert stats.covered_area == pytest.approx((labels > 0).mean())
    assert stats.mean_cellprob == pytest.approx(float(done.cellprob[0][labels > 0].mean()))
    assert 0 < stats.flow_error < 1
    assert set(stats.seconds) == {"normalise", "tile", "forward", "average", "dynamics"}
    assert not stats.blank
    assert not stats.saturated


def test_flow_error_is_unknown_when_the_check_is_off(synthetic):
    stats = segment_frames(synthetic.frames[-1:, :1], settings=Settings(flow_threshold=0)).stats[0]
    assert stats.cells > 0
    assert stats.flow_error is None


def test_focus_falls_when_a_frame_is_blurred(synthetic):
    from scipy.ndimage import gaussian_filter

    sharp = synthetic.frames[-1:, :1]
    blurred = gaussian_filter(sharp, (0, 0, 3, 3))
    assert segment_frames(blurred).stats[0].focus < segment_frames(sharp).stats[0].focus / 2


@pytest.mark.parametrize("value", [0, 100, 65535])
def test_a_frame_of_one_intensity_has_no_cells_and_is_flagged(value):
    done = segment_frames(np.full((1, 1, 40, 40), value, np.uint16))
    assert not done.labels.any()
    assert done.stats[0].blank
    assert done.stats[0].saturated == (value == 65535)


def test_a_frame_is_blank_only_when_all_its_channels_are(synthetic):
    frame = synthetic.frames[-1:].copy()
    frame[:, 0] = 500
    assert not segment_frames(frame).stats[0].blank
    frame[:, 1] = 7
    assert segment_frames(frame).stats[0].blank


def test_boolean_frames_are_segmented(synthetic):
    frame = synthetic.frames[-1:, :1]
    assert segment_frames(frame < np.median(frame)).labels.shape == (1, 64, 64)


def test_complex_frames_are_refused():
    with pytest.raises(MovieError, match="complex64"):
        segment_frames(np.zeros((1, 1, 20, 20), np.complex64))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_refused(bad, synthetic):
    frame = synthetic.frames[:1, :1].astype(np.float32)
    frame[0, 0, 5, 5] = bad
    with pytest.raises(DamagedFrameError, match="1 of 4096 pixels are NaN or infinite"):
        segment_frames(frame)


@pytest.mark.parametrize("shape", [(1, 1), (7, 30), (30, 7)])
def test_a_tiny_frame_is_refused(shape):
    with pytest.raises(MovieError, match="at least 8 x 8"):
        segment_frames(np.zeros((1, 1, *shape), np.uint16))


def test_the_smallest_frame_runs():
    frame = np.arange(64, dtype=np.uint16).reshape(1, 1, 8, 8)
    assert segment_frames(frame).labels.shape == (1, 8, 8)


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(MovieError, match=r"expected four, \(N, C, Y, X\)"):
        segment_frames(np.zeros((20, 20)))


def test_no_frames_give_no_labels():
    assert segment_frames(np.zeros((0, 1, 20, 20))).labels.shape == (0, 20, 20)


def test_more_channels_than_inputs_are_refused(synthetic):
    with pytest.raises(ModelError, match="3 channels were chosen, but the network has 2 inputs"):
        segment_frames(np.repeat(synthetic.frames[:1, :1], 3, axis=1))


def test_a_spare_input_stays_zero_even_with_given_intensities(synthetic):
    settings = Settings(normalize=(10.0, 5000.0), invert=True)
    image = network_input(synthetic.frames[0, :1], 2, settings)
    assert image[..., 0].any()
    assert not image[..., 1].any()


def test_movie_normalisation_is_the_pooled_percentiles(synthetic):
    frames = synthetic.frames[:, :2]
    found = intensity_range(frames, (1, 99))
    expected = [np.percentile(frames[:, c], q) for c in (0, 1) for q in (1, 99)]
    np.testing.assert_allclose(found, expected)
    resolved = resolve_settings(
        Settings(normalize="movie"), load_networks(resolve_model(), "cpu"), frames
    )
    assert resolved.normalize == found


def test_movie_normalisation_of_a_constant_channel_is_refused():
    with pytest.raises(DamagedFrameError, match="one intensity only"):
        intensity_range(np.ones((3, 1, 9, 9)), (1, 99))


def test_resolved_settings_have_no_words_left(synthetic):
    spec = resolve_model()
    networks = load_networks(spec, "cpu")
    resolved = resolve_settings(Settings(), networks, synthetic.frames[:, :1])
    assert resolved.diameter == spec.diameter
    assert resolved.niter == pytest.approx(200 * spec.diameter / spec.diam_mean)


def test_a_gpu_that_is_not_there_is_an_error(synthetic, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="sees neither CUDA nor MPS"):
        segment_frames(synthetic.frames[:1, :1], settings=Settings(gpu=True))


def test_a_gpu_that_cannot_run_a_kernel_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def fail(*_args, **_kwargs):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch, "ones", fail)
    with pytest.raises(DeviceError, match="no kernel image"):
        choose_device(gpu=True)


def test_a_network_is_loaded_once_however_many_threads_ask(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    loads = []
    monkeypatch.setattr(network, "_loaded", {})
    monkeypatch.setattr(network, "_load_segmentation", lambda *how: loads.append(how))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: load_networks(resolve_model(), "cpu"), range(16)))
    assert len(loads) == 1


def test_weights_that_change_after_they_were_hashed_are_refused(tmp_path, model_path, monkeypatch):
    copy = tmp_path / "weights"
    copy.write_bytes(open(model_path, "rb").read())  # noqa: PTH123, SIM115
    spec = resolve_model(copy)
    copy.write_bytes(copy.read_bytes() + b"x")
    monkeypatch.setattr(network, "_loaded", {})
    with pytest.raises(ModelError, match="was changed meanwhile"):
        load_networks(spec, "cpu")


def test_unknown_diameter_word_is_refused():
    with pytest.raises(SettingsError, match="'estimate'"):
        Settings(diameter="auto")
