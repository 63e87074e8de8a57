"""Pooled tiles through the torch network: batches, memory, precision, and the order of copies."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from cypose_dask.engine.gpu import forward, transfer
from cypose_dask.engine.gpu.forward import TorchRuntime
from cypose_dask.engine.gpu.memory import is_out_of_memory
from cypose_dask.errors import DeviceError


class SmallNet(torch.nn.Module):
    """As a Cellpose network is called; notes the batches that it saw."""

    def __init__(self, limit=10_000):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.nout, self.mkldnn = torch.nn.Conv2d(2, 3, 3, padding=1), 3, True
        self.limit, self.seen, self.grad = limit, [], None

    def forward(self, x):
        self.seen.append(len(x))
        self.grad = torch.is_grad_enabled()
        if len(x) > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        y = self.conv(x)
        return y, y.mean((2, 3)).repeat(1, 86)[:, :256], []


def some_tiles(n, side=32):
    return np.random.default_rng(n).normal(size=(n, 2, side, side)).astype(np.float32)


def assert_near(found, expected, share=1e-5):
    """Equal but for rounding, as a share of the largest output."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < share * np.abs(expected).max()


@pytest.fixture(scope="module")
def cellpose_net(model_path):
    from cellpose.models import CellposeModel

    return CellposeModel(pretrained_model=model_path).net


def test_output_is_that_of_cellposes_forward(cellpose_net):
    from cellpose import core

    tiles = some_tiles(5, 64)
    cellpose_net.mkldnn = False
    expected, expected_styles = core._forward(cellpose_net, tiles)
    output, styles = TorchRuntime(cellpose_net, "cpu")(tiles)
    assert output.shape == (5, 3, 64, 64)
    assert output.dtype == styles.dtype == np.float32
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(styles, expected_styles)


def test_pooled_tiles_equal_single_tiles(cellpose_net):
    runtime, tiles = TorchRuntime(cellpose_net, "cpu", batch_size=3), some_tiles(7, 48)
    pooled = runtime(tiles)
    for k in range(7):
        for together, alone in zip(pooled, runtime(tiles[k : k + 1]), strict=True):
            # Convolutions of one tile are summed in another order.
            assert_near(together[k], alone[0])


@pytest.mark.parametrize(
    ("n", "seen"), [(8, [4, 4]), (9, [4, 4, 1]), (3, [3]), (4, [4]), (0, [])], ids=str
)
def test_batches_are_full(n, seen):
    net = SmallNet()
    output, styles = TorchRuntime(net, "cpu", batch_size=4)(some_tiles(n))
    assert net.seen == seen
    assert output.shape == (n, 3, 32, 32)
    assert styles.shape == (n, 256)
    assert net.grad is False or not seen


def test_tiles_may_be_views_of_another_dtype():
    runtime, tiles = TorchRuntime(SmallNet(), "cpu"), some_tiles(4)
    view = np.moveaxis(np.moveaxis(tiles, 1, 3).astype(np.float64), 3, 1)
    np.testing.assert_array_equal(runtime(view)[0], runtime(tiles)[0])


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_the_batch_is_halved_until_it_fits_and_stays_so(limit, caplog):
    net, tiles = SmallNet(limit), some_tiles(11)
    expected, _ = TorchRuntime(SmallNet(), "cpu")(tiles)
    runtime = TorchRuntime(net, "cpu", batch_size=8)
    with caplog.at_level(logging.WARNING):
        output, _ = runtime(tiles)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert runtime.batch_size == {1: 1, 2: 2, 3: 2, 7: 4}[limit]
    assert "going on with 4" in caplog.text
    net.seen.clear()
    runtime(tiles)
    assert max(net.seen) <= limit


def test_a_batch_is_halved_from_the_tiles_that_there_are():
    net = SmallNet(2)
    TorchRuntime(net, "cpu", batch_size=64)(some_tiles(4))
    assert net.seen == [4, 2, 2]


def test_a_single_tile_that_does_not_fit_is_an_error_that_says_what_to_do():
    runtime = TorchRuntime(SmallNet(0), "cpu", batch_size=4)
    for _ in range(2):  # the next block fails as clearly, and nothing hangs
        with pytest.raises(DeviceError, match=r"single tile of 32 x 32 px: CUDA out of memory"):
            runtime(some_tiles(4))
    assert runtime.batch_size == 1


def test_the_runtime_goes_on_after_a_block_that_did_not_fit():
    net = SmallNet(0)
    runtime = TorchRuntime(net, "cpu", batch_size=4)
    with pytest.raises(DeviceError):
        runtime(some_tiles(4))
    net.limit = 9
    assert np.isfinite(runtime(some_tiles(4))[0]).all()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("x"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
    ids=str,
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_other_errors_are_not_swallowed():
    with pytest.raises(RuntimeError, match="expected input") as caught:
        TorchRuntime(SmallNet(), "cpu")(np.zeros((2, 5, 32, 32), np.float32))
    assert not isinstance(caught.value, DeviceError)


def test_one_thread_at_a_time_is_on_the_device():
    inside, most = [], []

    class Slow(SmallNet):
        def forward(self, x):
            inside.append(1)
            time.sleep(0.01)  # long enough for another thread to come in, if it may
            most.append(len(inside))
            inside.pop()
            return super().forward(x)

    runtime, tiles = TorchRuntime(Slow(), "cpu", batch_size=3), [some_tiles(n) for n in (5, 6, 7)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(runtime, tiles))
    assert max(most) == 1
    for k, (output, _) in enumerate(found):
        np.testing.assert_allclose(output, runtime(tiles[k])[0], atol=1e-6)


def frame_tiles(synthetic):
    """Tiles of real brightness: (2, 2, 64, 64), the second input zero."""
    frames = synthetic.frames[-2:, 0].astype(np.float32)
    low, high = np.percentile(frames, (1, 99))
    return np.stack([(frames - low) / (high - low), np.zeros_like(frames)], 1)


def test_half_precision_gives_float32_near_single(cellpose_net, synthetic):
    tiles = frame_tiles(synthetic)
    single, _ = TorchRuntime(cellpose_net, "cpu")(tiles)
    half, styles = TorchRuntime(cellpose_net, "cpu", "half")(tiles)
    assert half.dtype == styles.dtype == np.float32
    assert_near(half, single, share=0.05)
    assert not np.array_equal(half, single)
    np.testing.assert_array_equal(half, half.astype(np.float16))  # it was computed in float16


def test_tiles_that_overflow_half_precision_are_computed_in_single(cellpose_net, synthetic, caplog):
    tiles = frame_tiles(synthetic)
    tiles = np.concatenate([tiles, 1e4 * tiles[:1]])
    single, single_styles = TorchRuntime(cellpose_net, "cpu")(tiles)
    with caplog.at_level(logging.WARNING):
        half, styles = TorchRuntime(cellpose_net, "cpu", "half")(tiles)
    assert_near(half[2], single[2])
    assert_near(styles[2], single_styles[2])
    assert not np.array_equal(half[:2], single[:2])
    assert "1 tiles are too bright" in caplog.text


@pytest.fixture
def log(monkeypatch):
    """Stand-ins for CUDA streams and events that note what is asked of them."""
    log = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_event(self, event):
            log.append(("wait", self.name, event.n))

        def wait_stream(self, other):
            log.append(("wait", self.name, other.name))

    class Event:
        made = 0

        def __init__(self, blocking):
            assert blocking  # else a core spins
            self.n, Event.made = Event.made, Event.made + 1

        def record(self, stream):
            log.append(("record", stream.name, self.n))

        def synchronize(self):
            log.append(("synchronize", "host", self.n))

    names, computing = iter(["in", "out", "in", "out"]), Stream("compute")

    @contextmanager
    def on(stream):
        log.append(("enter", stream.name, 0))
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(next(names)))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda t, s: log.append(("keep", s.name, 0)))
    monkeypatch.setattr(transfer, "_pinned", torch.empty)
    return log


def through_lanes(net, tiles, batch, lanes=None):
    lanes = lanes or transfer.CudaLanes(torch.device("cpu"))
    runtime = TorchRuntime(net, "cpu", batch_size=batch)
    runtime._lanes = lanes
    return runtime(tiles), lanes


@pytest.mark.parametrize("n", [1, 4, 5, 8, 9, 13])
def test_lanes_give_what_the_plain_way_gives(n, log):
    tiles = some_tiles(n)
    plain = TorchRuntime(SmallNet(), "cpu", batch_size=4)(tiles)
    lanes, _ = through_lanes(SmallNet(), tiles, 4)
    for a, b in zip(lanes, plain, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_batch_is_launched_before_the_last_one_is_waited_for(log):
    through_lanes(SmallNet(), some_tiles(12), 4)
    # Events 0 and 1 are the first slot's (loaded, drained), 2 and 3 the second's.
    once = [
        [
            ("synchronize", "host", n),
            ("enter", "in", 0),
            ("record", "in", n),
            ("wait", "compute", n),
            ("keep", "compute", 0),
            ("wait", "out", "compute"),
            ("enter", "out", 0),
            ("record", "out", n + 1),
            ("keep", "out", 0),
            ("keep", "out", 0),
        ]
        for n in (0, 2)
    ]
    drains = [[("synchronize", "host", n)] for n in (1, 3)]
    assert log == once[0] + once[1] + drains[0] + once[0] + drains[1] + drains[0]


def test_staging_memory_is_kept_for_tiles_of_one_shape(log):
    tiles = some_tiles(8)
    _, lanes = through_lanes(SmallNet(), tiles, 4)
    before = lanes._slots
    through_lanes(SmallNet(), tiles, 4, lanes)
    assert lanes._slots is before
    through_lanes(SmallNet(), some_tiles(8, 16), 4, lanes)
    assert lanes._slots is not before


def test_lanes_go_on_after_a_halving(log):
    tiles = some_tiles(10)
    expected, _ = TorchRuntime(SmallNet(), "cpu")(tiles)
    (output, _), lanes = through_lanes(SmallNet(3), tiles, 8)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert len(lanes._slots[0].tiles) == 2


@pytest.mark.parametrize(
    ("free", "expected"), [(1_000, 8), (100, 1), (10, 1), (10**9, forward._MOST_TILES)], ids=str
)
def test_the_batch_follows_free_memory(free, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 150)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(forward, "free_bytes", lambda device: free)
    net = SmallNet()
    runtime = TorchRuntime(net, "cpu")
    runtime._on_cuda = True
    runtime(some_tiles(100, 16))
    assert net.seen[0] == 1  # the tile that was measured
    assert runtime.batch_size == expected


def test_memory_that_torch_holds_unused_counts_as_free(monkeypatch):
    from cypose_dask.engine.gpu.memory import free_bytes

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_bytes(torch.device("cuda")) == 1_300


def test_the_network_may_be_channels_last(cellpose_net):
    """The layout of CUDA, here on the CPU: the same numbers but for rounding."""
    tiles = some_tiles(3, 64)
    expected, _ = TorchRuntime(cellpose_net, "cpu")(tiles)
    runtime = TorchRuntime(cellpose_net, "cpu", batch_size=2)
    runtime._on_cuda = True
    output, _ = runtime(tiles)
    assert_near(output, expected)
