"""The fast engine around the runtimes: pooled tiles, empty tiles, frames that fail alone."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from cypose_dask.engine import gpu as gpu_room
from cypose_dask.engine import (
    load_networks,
    segment_frame,
    segment_frames,
    segment_group,
    settle_engine,
    settle_numbers,
    tiles_of,
)
from cypose_dask.engine.empty import occupied
from cypose_dask.engine.fast import TiledForward, label
from cypose_dask.engine.network import Network, Networks
from cypose_dask.engine.tiles import tiling_of
from cypose_dask.errors import MovieError
from cypose_dask.learn import synthetic_frame
from cypose_dask.models import resolve_model
from cypose_dask.settings import Settings


class Counting:
    """A runtime that counts the tiles that it is given."""

    name = "counting"

    def __init__(self, runtime):
        self.runtime, self.calls = runtime, []

    def __call__(self, tiles):
        self.calls.append(len(tiles))
        return self.runtime(tiles)


@pytest.fixture(scope="module")
def loaded():
    spec = resolve_model()
    device, settings = settle_engine(Settings(diameter=18), spec)
    networks = load_networks(spec, device, settings=settings, threads=1)
    return networks.segmentation, settle_numbers(settings, spec)


@pytest.fixture
def counted(loaded):
    """Networks whose runtime pools up to 64 tiles and counts them; the count; settings."""
    network, settings = loaded
    runtime = Counting(network.forward.runtime)
    forward = TiledForward(runtime, 64, one_at_a_time=False, pools_frames=True)
    return Networks(Network(forward, network.spec, "cpu")), runtime, settings


def one_colony(side=700, at=300):
    """A frame (1, Y, X) of noise with one colony of 150 px in it."""
    made = synthetic_frame(4, shape=(150, 150), kind="colony", look="phase")
    rng = np.random.default_rng(1)
    edge = np.concatenate([made.frame[0], made.frame[-1], made.frame[:, 0], made.frame[:, -1]])
    frame = rng.normal(np.median(edge), 0.01 * np.median(edge), (side, side))
    frame[at : at + 150, at : at + 150] = made.frame
    return frame[np.newaxis].astype(np.uint16)


def test_labels_do_not_depend_on_the_frames_beside(counted, synthetic):
    networks, runtime, settings = counted
    frames = list(synthetic.frames[:, :1])
    assert networks.frames_at_once(frames[0].shape[1:], settings) >= len(frames)
    together = segment_group(frames, networks, settings)
    assert runtime.calls == [len(frames) * tiles_of(frames[0].shape[1:], 1.0)]
    for frame, made in zip(frames, together, strict=True):
        alone = segment_frame(frame, networks, settings)
        np.testing.assert_array_equal(made.labels, alone.labels)
        assert made.labels.max() > 0


@pytest.mark.slow
def test_outputs_do_not_depend_on_how_many_tiles_are_in_memory(loaded):
    network, _ = loaded
    image = np.random.default_rng(0).random((500, 260, 2)).astype(np.float32)
    outputs = []
    for at_once in (1, 5, 64):
        runtime = Counting(network.forward.runtime)
        ((output, style),) = TiledForward(runtime, at_once, one_at_a_time=False)([image], 1.0)
        assert max(runtime.calls) <= at_once
        outputs.append((output, style))
    for output, style in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0][0])
        np.testing.assert_array_equal(style, outputs[0][1])


def test_a_frame_that_fails_leaves_the_others_alone(counted, synthetic):
    networks, _, settings = counted
    good = synthetic.frames[-1, :1]
    bad = good.astype(float)
    bad[0, 0, 0] = np.nan
    first, second, third, fourth = segment_group(
        [good, bad, np.full_like(good, 7), good], networks, settings
    )
    assert isinstance(second, MovieError)
    assert third.stats.blank
    np.testing.assert_array_equal(first.labels, fourth.labels)
    assert first.labels.max() > 0


def test_a_group_of_bad_frames_asks_the_network_nothing(counted):
    networks, runtime, settings = counted
    assert segment_group([], networks, settings) == []
    (made,) = segment_group([np.full((1, 32, 32), 3, np.uint16)], networks, settings)
    assert made.labels.max() == 0
    assert runtime.calls == []


def test_empty_tiles_are_left_out_and_labels_stay(counted):
    networks, runtime, settings = counted
    frame = one_colony()
    everything = segment_frame(frame, networks, settings)
    skipping = segment_frame(frame, networks, settings.replace(skip_empty=True))
    assert everything.labels.max() > 5
    np.testing.assert_array_equal(skipping.labels, everything.labels)
    plain, kept = runtime.calls
    assert 1 <= kept <= plain / 2


@pytest.mark.slow
def test_a_frame_that_is_nearly_empty_costs_a_fifth_or_less(counted):
    """Of 144 tiles, those around the colony and hardly another."""
    networks, runtime, settings = counted
    segment_frame(one_colony(2048, 1000), networks, settings.replace(skip_empty=True))
    assert sum(runtime.calls) <= tiles_of((2048, 2048), 1.0) / 5


def test_a_frame_without_anything_keeps_its_shape(counted):
    networks, _, settings = counted
    noise = np.random.default_rng(0).normal(1000, 10, (1, 300, 300)).astype(np.uint16)
    made = segment_frame(noise, networks, settings.replace(skip_empty=True))
    assert made.labels.shape == (300, 300)


@pytest.mark.parametrize("kind", ["sparse", "colony", "scatter", "lawn", "threads"])
@pytest.mark.parametrize("look", ["phase", "brightfield", "fluorescence"])
def test_no_tile_with_a_cell_is_called_empty(kind, look):
    for seed in range(3):
        made = synthetic_frame(8000 + seed, shape=(500, 500), kind=kind, look=look)
        low, high = np.percentile(made.frame, [1, 99])
        image = ((made.frame - low) / (high - low)).astype(np.float32)[..., np.newaxis]
        windows = np.array(tiling_of((500, 500)).windows())
        cells = [(made.labels[max(0, y) : b, max(0, x) : r] > 0).any() for y, b, x, r in windows]
        assert not (np.array(cells) & ~occupied(image, windows, 18.0)).any()


@pytest.mark.slow
def test_real_frames_have_the_same_labels_without_their_empty_tiles(counted, shared_data):
    from helpers.real_truth import real_sets

    networks, runtime, settings = counted
    (wide,) = (one for one in real_sets(shared_data) if "Oufti, outlines" in one.name)
    frame = wide.examples.frames[0]
    everything = segment_frame(frame, networks, settings)
    skipping = segment_frame(frame, networks, settings.replace(skip_empty=True))
    np.testing.assert_array_equal(skipping.labels, everything.labels)
    assert runtime.calls[1] < runtime.calls[0]


def test_the_gpus_dynamics_are_given_the_whole_group(loaded, monkeypatch, synthetic):
    """On CPU tensors, as there is no card: every frame comes back in its place."""
    network, settings = loaded
    batches = []

    def on_cpu(flows, cellprob, settings, *, device):
        batches.append((len(flows), device))
        return gpu_follow(flows, cellprob, settings, device="cpu")

    gpu_follow = gpu_room.follow_batch
    monkeypatch.setattr(gpu_room, "follow_batch", on_cpu)
    made = [segment_frame(frame, Networks(network), settings) for frame in synthetic.frames[:, :1]]
    on_gpu = settings.replace(gpu=True, dynamics_device="cuda")
    found = label([(one.flows, one.cellprob) for one in made], on_gpu, network)
    assert batches == [(len(made), "cuda")]
    for (labels, errors), one in zip(found, made, strict=True):
        assert labels.max() == one.stats.cells == len(errors[errors <= 0.75])
        assert ((labels > 0) == (one.labels > 0)).mean() > 0.99


@pytest.mark.parametrize("runtime", ["winograd", "openvino", "torch"])
def test_labels_do_not_depend_on_the_threads_of_a_frame(runtime, synthetic):
    spec, frame = resolve_model(), synthetic.frames[-1, :1]
    device, settings = settle_engine(Settings(runtime=runtime), spec)
    settings = settle_numbers(settings, spec)
    load = partial(load_networks, spec, device, settings=settings)
    one, two = (segment_frame(frame, load(threads=n), settings) for n in (1, 2))
    np.testing.assert_array_equal(one.labels, two.labels)


def test_segmenting_needs_neither_torch_nor_cellpose(tmp_path, synthetic, monkeypatch):
    """Their imports cost every worker ten seconds; the weights were converted before."""
    np.save(tmp_path / "frames.npy", synthetic.frames[-1:, :1])
    segment_frames(synthetic.frames[-1:, :1])
    code = (
        "import sys, numpy as np\n"
        "from cypose_dask.engine import segment_frames\n"
        "done = segment_frames(np.load(sys.argv[1]))\n"
        "assert done.labels.max() > 0\n"
        "print(sorted({'torch', 'cellpose'} & set(sys.modules)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "frames.npy")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert out.stdout.strip() == "[]"
