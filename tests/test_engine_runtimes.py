"""Every runtime gives what Cellpose's forward pass gives."""

import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cypose_dask.engine import runtimes
from cypose_dask.engine.runtimes import choose_runtime, open_runtime
from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.models import ModelSpec, resolve_model
from cypose_dask.models.spec import file_sha256

NAMES = ["winograd", "openvino", "torch"]
BUNDLED = ["cyano-rods", "cyano-chlorophyll"]
# Of the largest output. Cellpose's own two ways, with and without MKL-DNN, differ by 7e-7 of it.
CLOSE = 2e-6


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYPOSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def random_network(inputs, seed=0):
    """A network whose every number matters, its outputs within about one."""
    import torch
    from cellpose.resnet_torch import CPnet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CPnet([inputs, 32, 64, 128, 256], 3, sz=3)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, 0, 0.3)
    return net


def spec_of(path, inputs=2) -> ModelSpec:
    return ModelSpec(
        name=path.name,
        path=str(path),
        sha256=file_sha256(path),
        kind="file",
        network_inputs=inputs,
        diam_mean=30.0,
        diameter=30.0,
    )


def save(net, path, dtype) -> Path:
    import torch

    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    torch.save(state, path)
    return path


@pytest.fixture(scope="module", params=[(1, "float32"), (2, "float16"), (3, "float32")], ids=str)
def random_spec(request, tmp_path_factory):
    import torch

    inputs, dtype = request.param
    path = tmp_path_factory.mktemp("weights") / "net"
    return spec_of(save(random_network(inputs), path, getattr(torch, dtype)), inputs)


def cellpose_forward(spec, tiles):
    from cellpose import core
    from cellpose.resnet_torch import CPnet

    net = CPnet([spec.network_inputs, 32, 64, 128, 256], 3, sz=3, mkldnn=True)
    net.load_model(spec.path)
    return core._forward(net, tiles)


def tiles_of(spec, count=2, side=(224, 224), seed=0):
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(count, spec.network_inputs, *side))
    smooth = gaussian_filter(noise, (0, 0, 3, 3))
    return (0.5 + smooth / (4 * smooth.std())).astype(np.float32)


def check_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=CLOSE * np.abs(theirs).max())


def check_equals_cellpose(spec, name, tiles):
    check_close(open_runtime(spec, name, threads=1)(tiles), cellpose_forward(spec, tiles))


@pytest.fixture(scope="module")
def cells():
    """Two normalised tiles of a colony, (2, 2, 224, 224)."""
    from cypose_dask.learn import synthetic_movie

    movie = synthetic_movie(n_frames=2, shape=(224, 224), seed=3, start_cells=20)
    low, high = np.percentile(movie.frames, (1, 99), axis=(0, 2, 3), keepdims=True)
    return ((movie.frames - low) / (high - low)).astype(np.float32)


@pytest.mark.parametrize("model", BUNDLED)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_for_cells_equal_cellpose(name, model, cells):
    spec = resolve_model(model)
    tiles = np.zeros((2, spec.network_inputs, 224, 224), np.float32)
    tiles[:, : len(spec.wants)] = cells[:, : len(spec.wants)]
    (output, styles), (theirs, style) = (
        open_runtime(spec, name, threads=1)(tiles),
        cellpose_forward(spec, tiles),
    )
    assert 5 < theirs.max() < 20
    np.testing.assert_allclose(output, theirs, rtol=0, atol=2e-5)
    np.testing.assert_allclose(styles, style, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_one_to_three_inputs_equal_cellpose(name, random_spec):
    check_equals_cellpose(random_spec, name, tiles_of(random_spec, side=(64, 96)))


@pytest.mark.parametrize("side", [(16, 16), (32, 224), (224, 48)])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_of_small_frames_equal_cellpose(name, side):
    spec = resolve_model("cyano-chlorophyll")
    check_equals_cellpose(spec, name, tiles_of(spec, 3, side))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_do_not_depend_on_the_batch_or_on_threads(name):
    spec = resolve_model("cyano-rods")
    tiles = tiles_of(spec, 8, (64, 64))
    alone = open_runtime(spec, name, threads=1)
    one_by_one = [alone(tiles[i : i + 1]) for i in range(8)]
    expected = [np.concatenate(parts) for parts in zip(*one_by_one, strict=True)]
    for threads in (1, 2, 8):
        runtime = open_runtime(spec, name, threads=threads)
        for count in (1, 2, 8):
            check_close(runtime(tiles[:count]), [right[:count] for right in expected])


@pytest.mark.parametrize("name", NAMES)
def test_several_threads_may_call_one_runtime(name):
    spec = resolve_model("cyano-rods")
    runtime = open_runtime(spec, name, threads=1)
    given = [tiles_of(spec, 1 + i % 2, (32 + 16 * i, 64), seed=i) for i in range(4)]
    alone = [runtime(tiles) for tiles in given]
    found = [[] for _ in given]

    def call(i):
        found[i] += [runtime(given[i]) for _ in range(5)]

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for several, right in zip(found, alone, strict=True):
        assert len(several) == 5
        for output, styles in several:
            np.testing.assert_array_equal(output, right[0])
            np.testing.assert_array_equal(styles, right[1])


@pytest.mark.parametrize("name", NAMES)
def test_results_outlive_the_next_call(name):
    spec = resolve_model("cyano-rods")
    runtime = open_runtime(spec, name, threads=1)
    tiles = tiles_of(spec, 2, (32, 32))
    first, _ = runtime(tiles[:1])
    kept = first.copy()
    runtime(tiles[1:])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", NAMES)
def test_no_tiles_give_no_outputs(name):
    spec = resolve_model("cyano-rods")
    output, styles = open_runtime(spec, name, threads=1)(tiles_of(spec, 1, (32, 32))[:0])
    assert (output.shape, styles.shape) == ((0, 3, 32, 32), (0, 256))


@pytest.mark.parametrize("name", NAMES)
def test_an_opened_runtime_is_the_one_that_was_chosen(name):
    spec = resolve_model("cyano-rods")
    assert choose_runtime(spec, name) == name
    assert open_runtime(spec, name, threads=1).name == name


def test_auto_is_winograd_which_needs_no_package(monkeypatch):
    spec = resolve_model("cyano-rods")
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    assert choose_runtime(spec) == "winograd"
    with pytest.raises(SettingsError, match=r"cypose-dask\[cpu\]"):
        choose_runtime(spec, "openvino")


def test_a_transformer_runs_in_torch_only():
    spec = replace(resolve_model("cyano-rods"), backbone="transformer")
    assert choose_runtime(spec) == choose_runtime(spec, "torch") == "torch"
    for name in ("openvino", "winograd"):
        with pytest.raises(ModelError, match="is a transformer"):
            choose_runtime(spec, name)


def test_an_unknown_runtime_is_refused():
    with pytest.raises(SettingsError, match="onnx"):
        choose_runtime(resolve_model("cyano-rods"), "onnx")


def test_a_file_that_was_changed_is_refused(tmp_path):
    from helpers.weights import write_weights

    spec = spec_of(write_weights(tmp_path / "net"))
    write_weights(tmp_path / "net", seed=1)
    with pytest.raises(ModelError, match="changed") as caught:
        open_runtime(spec, "openvino", threads=1)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
