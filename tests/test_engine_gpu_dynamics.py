"""Batched dynamics give the labels of Cellpose's CUDA path, run here on CPU tensors."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from cellpose import dynamics, metrics
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.utils._python_dispatch import TorchDispatchMode

from cypose_dask.engine.gpu import check, follow, gather, labels_from_flows_batched
from cypose_dask.engine.gpu import dynamics as batched
from cypose_dask.engine.reference import follow_and_label
from cypose_dask.errors import DeviceError
from cypose_dask.learn import synthetic_frame
from cypose_dask.settings import Settings

DEFAULTS = Settings(niter=200)


@pytest.fixture(scope="module", autouse=True)
def cuda_path():
    """Cellpose takes its CUDA path, whatever the device."""
    source = inspect.getsource(dynamics.steps_interp)
    there = source.replace('device.type == "cuda"', "True")
    assert there != source
    namespace = dict(vars(dynamics))
    exec(there, namespace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamics, "steps_interp", namespace["steps_interp"])
        patch.setattr(dynamics, "masks_to_flows_cpu", dynamics.masks_to_flows_gpu)
        yield


def noisy(labels, noise=0.6, seed=0):
    """Flows (2, Y, X) and logit (Y, X) as a network might predict them from labels."""
    random = np.random.default_rng(seed)
    smooth = [gaussian_filter(random.normal(size=labels.shape), 1.5) for _ in range(3)]
    flows = np.zeros((2, *labels.shape))
    if labels.any():
        flows = dynamics.masks_to_flows_gpu(labels.astype(np.int64))[0]
    flows = 5 * (flows + noise * np.stack(smooth[:2]) / smooth[0].std())
    cellprob = np.where(labels > 0, 4, -4) + 2 * smooth[2] / smooth[2].std()
    return flows.astype(np.float32), cellprob.astype(np.float32)


def noisy_batch(kinds, shape=(96, 112), noise=0.6):
    frames = [
        noisy(synthetic_frame(k, shape=shape, kind=kind).labels, noise, k)
        for k, kind in enumerate(kinds)
    ]
    return np.stack([f for f, _ in frames]), np.stack([c for _, c in frames])


@pytest.fixture(scope="module")
def batch():
    """Frames whose longest cells differ, so that they need different numbers of steps."""
    return noisy_batch(["colony", "threads", "scatter", "lawn"], noise=0.35)


def assert_equals_cellpose(flows, cellprob, settings=DEFAULTS, *, rtol=1e-12):
    ours = labels_from_flows_batched(flows, cellprob, settings, device="cpu")
    assert len(ours) == len(flows)
    for k, (labels, errors) in enumerate(ours):
        expected, expected_errors = follow_and_label(flows[k], cellprob[k], settings, "cpu")
        assert labels.dtype == np.uint32
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_allclose(errors, expected_errors, rtol=rtol, atol=0)
    return ours


@pytest.mark.parametrize(
    "options",
    [
        {"niter": 200},
        {"niter": 99.99},
        {"niter": 9},
        {"flow_threshold": 0.4},
        {"flow_threshold": 0.0},
        {"cellprob_threshold": -3.3},
        {"cellprob_threshold": 2.7, "min_size_px": -1},
        {"min_size_px": 60},
    ],
    ids=str,
)
def test_labels_and_errors_equal_cellposes_cuda_path(options, batch):
    ours = assert_equals_cellpose(*batch, Settings(**{"niter": 80, **options}))
    assert sum(labels.max() for labels, _ in ours) > 10


def test_many_steps_equal_cellpose():
    ours = assert_equals_cellpose(*noisy_batch(["colony"], (64, 64)), Settings(niter=2000))
    assert ours[0][0].max() > 1


def test_the_check_drops_cells(batch):
    checked, free = (
        labels_from_flows_batched(*batch, Settings(niter=80, flow_threshold=t), device="cpu")
        for t in (0.4, 0)
    )
    assert sum(x.max() for x, _ in checked) < sum(x.max() for x, _ in free)
    assert all(len(errors) == 0 for _, errors in free)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.5, 4.0])
def test_any_noise_equals_cellpose(noise):
    assert_equals_cellpose(*noisy_batch(["colony", "chains"], noise=noise), Settings(niter=60))


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 3), width=st.integers(9, 70))
@example(seed=1787, frames=3, width=59)
@hypothesis_settings(max_examples=25, deadline=None)
def test_random_flows_equal_cellpose(seed, frames, width):
    random = np.random.default_rng(seed)
    shape, blur = (frames, 2, 53, width), random.uniform(0.5, 5)
    flows = gaussian_filter(random.normal(size=shape), (0, 0, blur, blur))
    flows *= random.uniform(1, 6) / flows.std()
    cellprob = gaussian_filter(random.normal(size=(frames, 53, width)), (0, blur, blur))
    assert_equals_cellpose(
        flows.astype(np.float32),
        cellprob.astype(np.float32),
        Settings(niter=40, flow_threshold=2.0, min_size_px=-1),
        rtol=0.05,  # a slope that cancels to rounding noise still becomes a unit vector: seed 1787
    )


def test_empty_and_full_frames_in_one_batch_equal_cellpose(batch):
    flows, cellprob = (part.copy() for part in batch)
    cellprob[0], cellprob[2] = -9, 9
    ours = assert_equals_cellpose(flows, cellprob, Settings(niter=30))
    assert ours[0][0].max() == 0
    assert len(ours[0][1]) == 0


def test_a_batch_without_cells_is_empty(batch):
    flows, cellprob = batch
    for labels, errors in labels_from_flows_batched(
        flows, np.full_like(cellprob, -9), DEFAULTS, device="cpu"
    ):
        assert labels.shape == cellprob.shape[1:]
        assert labels.max() == len(errors) == 0


def test_a_few_pixels_are_no_seed():
    flows, cellprob = np.zeros((2, 2, 20, 20), np.float32), np.full((2, 20, 20), -1, np.float32)
    cellprob[0, 3, 3] = 1
    cellprob[1, :5, :5] = 1  # none of them moves
    ours = assert_equals_cellpose(flows, cellprob)
    assert max(labels.max() for labels, _ in ours) == 0


def test_one_cell_over_the_whole_frame_is_dropped():
    labels = np.ones((40, 44), int)
    flows, cellprob = noisy(labels, noise=0.0)
    ours = assert_equals_cellpose(flows[None], cellprob[None])
    assert ours[0][0].max() == 0


def test_cells_at_the_border_equal_cellpose():
    labels = np.zeros((60, 70), int)
    for k, (rows, columns) in enumerate(
        [
            (slice(0, 8), slice(0, 8)),
            (slice(52, 60), slice(62, 70)),
            (slice(0, 5), slice(30, 50)),
            (slice(20, 50), slice(66, 70)),
        ]
    ):
        labels[rows, columns] = k + 1
    flows, cellprob = noisy(labels, noise=0.1)
    ours = assert_equals_cellpose(flows[None], cellprob[None])
    assert ours[0][0].max() == 4


@pytest.mark.parametrize("size", [1, 3])
def test_labels_do_not_depend_on_the_batch(size, batch):
    together = labels_from_flows_batched(*batch, DEFAULTS, device="cpu")
    for start in range(0, 4, size):
        part = slice(start, start + size)
        alone = labels_from_flows_batched(batch[0][part], batch[1][part], DEFAULTS, device="cpu")
        for (labels, errors), (expected, expected_errors) in zip(
            alone, together[part], strict=True
        ):
            np.testing.assert_array_equal(labels, expected)
            np.testing.assert_allclose(errors, expected_errors, rtol=1e-12)


def all_ends_at(places, shape):
    """Ends and pixels of one frame in which a given number of pixels ends at each place."""
    ends = np.concatenate([np.tile(place, (n, 1)) for place, n in places])
    inds = tuple(i[: len(ends)] for i in np.indices(shape).reshape(2, -1))
    return ends.T.astype(np.float32), inds


@given(seed=st.integers(0, 10_000))
@hypothesis_settings(max_examples=60, deadline=None)
def test_territories_of_tied_neighbours_equal_cellpose(seed):
    """Equally high seeds side by side, more than the 16 up to which torch's sort is stable."""
    random = np.random.default_rng(seed)
    shape = (64, 64)
    spots = random.integers(0, 40, (60, 2))
    places = [(spot, int(random.integers(10, 13))) for spot in spots]
    places += [(spot + random.integers(-2, 3, 2), 3) for spot in spots]
    ends, inds = all_ends_at(places, shape)
    ends = ends.clip(0, 63)
    expected = dynamics.get_masks_torch(torch.from_numpy(ends).int(), inds, shape)
    cells = np.zeros((1, *shape), bool)
    cells[0][inds] = True
    pixels = follow.cell_pixels(torch.from_numpy(cells))
    labels, per_frame = gather.gather(torch.from_numpy(ends), pixels, (1, *shape), 0.4)
    np.testing.assert_array_equal(labels[0].numpy(), expected)
    assert per_frame == [expected.max()]


def test_flows_that_are_not_finite_stay_inside(batch):
    flows, cellprob = (part.copy() for part in batch)
    flows[1, :, 40:60] = np.nan
    finite = labels_from_flows_batched(flows, cellprob, Settings(niter=20), device="cpu")
    clean = labels_from_flows_batched(*batch, Settings(niter=20), device="cpu")
    for k in (0, 2, 3):
        np.testing.assert_array_equal(finite[k][0], clean[k][0])


def test_errors_equal_cellposes_for_given_labels(batch):
    """Also without rounding between our sums and theirs, and where cells touch."""
    flows = batch[0]
    labels = np.stack([synthetic_frame(k, shape=(96, 112)).labels for k in range(4)])
    per_frame = [int(frame.max()) for frame in labels]
    squared = check.disagreement(
        torch.from_numpy(labels.astype(np.int32)), torch.from_numpy(flows) / 5, per_frame
    )
    for k in range(4):
        expected, _ = metrics.flow_error(labels[k], flows[k], torch.device("cpu"))
        np.testing.assert_allclose(check.flow_errors(labels[k], squared[k]), expected, rtol=1e-12)


class CountOperations(TorchDispatchMode):
    """Counts calls into torch, and among them those that wait for the device."""

    def __init__(self):
        super().__init__()
        self.calls = self.waits = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        # What brings a value or a size to the host; `index` with a mask would, too.
        waiting = {"nonzero", "_local_scalar_dense", "bincount", "unique", "_unique2"}
        self.waits += func.overloadpacket.__name__ in waiting
        return func(*args, **(kwargs or {}))


def discs(rows, columns):
    """A frame of equal discs: as many steps whatever their number."""
    y, x = np.indices((16 * rows, 16 * columns))
    disc = ((y % 16 - 7.5) ** 2 + (x % 16 - 7.5) ** 2) < 36
    return disc * (1 + y // 16 * columns + x // 16)


def count_operations(rows, columns):
    flows, _ = noisy(discs(rows, columns), noise=0.0)
    cellprob = np.where(discs(rows, columns), 4, -4).astype(np.float32)
    with CountOperations() as count:
        found = labels_from_flows_batched(flows[None], cellprob[None], DEFAULTS, device="cpu")
    assert found[0][0].max() == rows * columns
    return count.calls, count.waits


def test_calls_into_torch_do_not_grow_with_cells():
    few, many = count_operations(4, 5), count_operations(10, 20)
    assert few == many
    assert many[1] <= 3


def out_of_memory_above(limit, tried):
    inner = batched._follow

    def follow_some(flows, *args, **kwargs):
        tried.append(len(flows))
        if len(flows) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return inner(flows, *args, **kwargs)

    return follow_some


def test_frames_are_halved_when_memory_runs_out(batch, monkeypatch):
    expected, tried = labels_from_flows_batched(*batch, DEFAULTS, device="cpu"), []
    monkeypatch.setattr(batched, "_follow", out_of_memory_above(1, tried))
    ours = labels_from_flows_batched(*batch, DEFAULTS, device="cpu")
    assert tried == [4, 2, 1, 1, 1, 1]
    for (labels, _), (wanted, _) in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(labels, wanted)


def test_one_frame_that_does_not_fit_is_an_error_that_says_what_to_do(batch, monkeypatch):
    monkeypatch.setattr(batched, "_follow", out_of_memory_above(0, []))
    with pytest.raises(DeviceError, match=r"96 x 112 px: CUDA out of memory.*--dynamics-device"):
        labels_from_flows_batched(*batch, DEFAULTS, device="cpu")


def test_other_errors_of_the_device_are_not_swallowed(batch, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(batched, "_follow", broken)
    with pytest.raises(RuntimeError, match="illegal memory access") as caught:
        labels_from_flows_batched(*batch, DEFAULTS, device="cpu")
    assert not isinstance(caught.value, DeviceError)


def test_frames_at_once_follow_free_memory(monkeypatch):
    monkeypatch.setattr(batched, "free_bytes", lambda device: 4_000_000_000)
    cuda = torch.device("cuda")
    assert batched._frames_that_fit((100, 1000, 1000), cuda) == 8
    assert batched._frames_that_fit((2, 1000, 1000), cuda) == 2
    assert batched._frames_that_fit((100, 9000, 9000), cuda) == 1
