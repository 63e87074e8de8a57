"""The probe tells Cellpose networks from everything else, without running what is in a file."""

import pickle
import re
import sys
import types
import zipfile

import numpy as np
import pytest

from cypose_dask.errors import ModelError
from cypose_dask.models import probe
from cypose_dask.models.probe import Probe, probe_weights
from helpers.weights import network_state, write_weights

LAYER = "upsample.up.res_up_1.conv.conv_0.0.bias"
FIRST = "downsample.down.res_down_0.conv.conv_0.0.weight"


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_networks_of_one_to_three_inputs_are_read(tmp_path, inputs):
    path = write_weights(tmp_path / "net", inputs=inputs, diameters=(17.0, 12.5))
    assert probe_weights(path) == Probe(inputs, 17.0, 12.5, "default")


def test_a_cellpose_1_file_has_cellposes_default_diameters(tmp_path):
    path = write_weights(tmp_path / "net", diameters=None)
    assert probe_weights(path) == Probe(2, 30.0, 30.0, "default")


def test_the_older_format_of_torch_is_read(tmp_path):
    import torch

    torch.save(network_state(), tmp_path / "net", _use_new_zipfile_serialization=False)
    assert probe_weights(tmp_path / "net").network_inputs == 2


def test_half_precision_is_read(tmp_path):
    state = {k: v.half() if v.is_floating_point() else v for k, v in network_state().items()}
    assert probe_weights(write_weights(tmp_path / "net", state)) == Probe(2, 30.0, 18.0, "default")


def test_counters_of_batch_norms_may_be_absent(tmp_path):
    state = {k: v for k, v in network_state().items() if not k.endswith("num_batches_tracked")}
    assert probe_weights(write_weights(tmp_path / "net", state)).network_inputs == 2


def test_a_restoration_network_is_read_as_one_and_refused_as_a_model(tmp_path):
    path = write_weights(tmp_path / "net", inputs=1, outputs=1)
    assert probe_weights(path, classes=1) == Probe(1, 30.0, 18.0, "default")
    with pytest.raises(ModelError, match=r"1 output, .* restoration network .*--denoise"):
        probe_weights(path)


def test_a_model_is_refused_as_a_restoration_network(tmp_path):
    with pytest.raises(ModelError, match=r"3 outputs, .* segmentation network .*--model"):
        probe_weights(write_weights(tmp_path / "net"), classes=1)


@pytest.mark.parametrize(
    ("outputs", "words"), [(4, "4 outputs, .* older Omnipose"), (2, "2 outputs, .* unknown kind")]
)
def test_networks_of_other_outputs_are_refused(tmp_path, outputs, words):
    with pytest.raises(ModelError, match=f"{words}.*expected segmentation"):
        probe_weights(write_weights(tmp_path / "net", outputs=outputs))


@pytest.mark.parametrize("inputs", [4, 5])
def test_networks_of_more_inputs_are_refused(tmp_path, inputs):
    with pytest.raises(ModelError, match=f"{inputs} input channels"):
        probe_weights(write_weights(tmp_path / "net", inputs=inputs))


def without(*keys):
    return {k: v for k, v in network_state().items() if k not in keys}


def changed(key, value):
    return {**network_state(), key: value}


def refused_states():
    import torch

    one, bias = torch.ones(1), "output.2.bias"
    return {
        "DataParallel": ({f"module.{k}": v for k, v in network_state().items()}, "net.module"),
        "Cellpose 4": (changed("W2", one), "weights of Cellpose 4"),
        "empty": ({}, "no Cellpose network"),
        "other network": ({"fc.weight": one}, "no Cellpose network"),
        "missing layer": (without(LAYER), rf"missing: {re.escape(LAYER)}\)"),
        "many missing": (without(*list(network_state())[9:40]), "missing: .* and 24 more"),
        "unknown layer": (changed("attention.weight", one), r"unknown: attention\.weight\)"),
        "other shape": (changed(bias, torch.ones(7)), r"another shape: output\.2\.bias\)"),
        "scalar first layer": (changed(FIRST, torch.tensor(1.0)), "0 input channels"),
        "scalar last layer": (changed("output.2.weight", torch.tensor(1.0)), "0 outputs"),
        "NaN": (changed(bias, torch.full((3,), torch.nan)), r"finite numbers in output\.2\.bias"),
        "infinity": (changed(bias, torch.full((3,), torch.inf)), "finite numbers"),
        "integers": (changed(bias, torch.ones(3, dtype=torch.int32)), "finite numbers"),
        "complex": (changed(bias, torch.ones(3, dtype=torch.complex64)), "finite numbers"),
        "sparse": (changed(bias, torch.ones(3).to_sparse()), "finite numbers"),
        "without data": (changed(bias, torch.ones(3, device="meta")), "finite numbers"),
        "no diameter": (changed("diam_mean", torch.zeros(1)), "diam_mean is 0"),
        "negative diameter": (changed("diam_labels", -one), "diam_labels is -1"),
        "empty diameter": (changed("diam_mean", torch.ones(0)), "diam_mean is nan"),
        "numbers as keys": ({0: one}, "flat dictionary"),
        "checkpoint": ({"state_dict": network_state(), "epoch": 3}, r"Save the network's state_d"),
        "list": ([one], "holds a list"),
        "tensor": (one, "holds a Tensor"),
    }  # fmt: skip


def test_what_is_no_cellpose_network_is_refused(tmp_path):
    for what, (state, words) in refused_states().items():
        path = write_weights(tmp_path / what, state)
        with pytest.raises(ModelError, match=words) as raised:
            probe_weights(path)
        assert str(path) in str(raised.value)


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_code_in_a_file_does_not_run(tmp_path, wrapped):
    bomb, path = Touch(tmp_path / "ran"), tmp_path / "net"
    if wrapped:
        write_weights(path, {**network_state(), "bomb": bomb})
    else:
        path.write_bytes(pickle.dumps(bomb, protocol=2))
    with pytest.raises(ModelError, match="never loaded"):
        probe_weights(path)
    assert not (tmp_path / "ran").exists()
    with path.open("rb") as file, zipfile.ZipFile(file) if wrapped else file as opened:
        content = opened.read("net/data.pkl") if wrapped else opened.read()
    assert b"ran" in content  # the bomb was armed


def test_a_file_with_code_names_it_without_advice_to_run_it(tmp_path):
    path = write_weights(tmp_path / "net", {"bomb": Touch(tmp_path / "ran")})
    with pytest.raises(ModelError, match=r"it names io\.open, which is code") as raised:
        probe_weights(path)
    assert "weights_only" not in str(raised.value)


def damaged_files(tmp_path):
    import torch

    whole = write_weights(tmp_path / "whole").read_bytes()
    torch.save(network_state(), tmp_path / "old", _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a.txt", "text")
    np.save(tmp_path / "array.npy", np.ones(3))
    return {
        "truncated": whole[: len(whole) // 2],
        "hole": whole[:5000] + bytes(5000) + whole[10_000:],
        "truncated old": (tmp_path / "old").read_bytes()[:30_000],
        "text": b"hello world\n" * 50,
        "one byte": b"\x80",
        "newer pickle": pickle.dumps(Touch(tmp_path / "ran"), protocol=4),
        "empty": b"",
        "another archive": (tmp_path / "zip").read_bytes(),
        "numpy": (tmp_path / "array.npy").read_bytes(),
        "html": b"<!DOCTYPE html><html>404 not found</html>",
        "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    }


def test_damaged_files_are_refused_without_warnings(tmp_path, recwarn):
    for what, content in damaged_files(tmp_path).items():
        path = tmp_path / what
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"{what}: not a file of plain PyTorch weights"):
            probe_weights(path)
    assert [str(w.message) for w in recwarn] == []


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "net").touch()
    with pytest.raises(ModelError, match="it is empty"):
        probe_weights(tmp_path / "net")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        probe_weights(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_random_damage_never_raises_anything_else(tmp_path, zipped):
    import torch

    few = dict(list(network_state().items())[:6])
    path, random = tmp_path / "net", np.random.default_rng(0)
    torch.save(few, path, _use_new_zipfile_serialization=zipped)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        damaged = whole.copy()
        damaged[random.integers(len(whole), size=3)] = random.integers(256, size=3)
        path.write_bytes(damaged[: random.integers(1, 2 * len(whole))].tobytes())
        with pytest.raises(ModelError):
            probe_weights(path)


def forget_transformers():
    sys.modules.pop("cellpose.segformer", None)
    probe._transformer_shapes.cache_clear()


@pytest.fixture
def transformers(monkeypatch):
    """A small network in the place of segmentation_models_pytorch's."""
    import torch

    class MAnet(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.encoder = torch.nn.Conv2d(options["in_channels"], 2, 1)
            self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(2, options["classes"], 3))

    package = types.ModuleType("segmentation_models_pytorch")
    package.MAnet = MAnet
    monkeypatch.setitem(sys.modules, package.__name__, package)
    forget_transformers()
    yield
    forget_transformers()


def transformer_state(classes=3):
    import torch

    return {
        "net.encoder.weight": torch.ones(2, 3, 1, 1),
        "net.encoder.bias": torch.ones(2),
        "net.segmentation_head.0.weight": torch.ones(classes, 2, 3, 3),
        "net.segmentation_head.0.bias": torch.ones(classes),
        "diam_mean": torch.tensor([30.0]),
        "diam_labels": torch.tensor([25.0]),
    }


@pytest.mark.usefixtures("transformers")
def test_transformers_are_read_and_compared_layer_by_layer(tmp_path):
    path = write_weights(tmp_path / "net", transformer_state())
    assert probe_weights(path) == Probe(3, 30.0, 25.0, "transformer")
    state = transformer_state()
    del state["net.encoder.bias"]
    with pytest.raises(ModelError, match=r"missing: net\.encoder\.bias"):
        probe_weights(write_weights(path, state))


@pytest.mark.usefixtures("transformers")
def test_transformers_of_other_outputs_are_refused(tmp_path):
    with pytest.raises(ModelError, match="4 outputs"):
        probe_weights(write_weights(tmp_path / "net", transformer_state(classes=4)))
    with pytest.raises(ModelError, match="expected restoration"):
        probe_weights(write_weights(tmp_path / "net", transformer_state()), classes=1)


def test_transformers_say_which_extra_they_need(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    path = write_weights(tmp_path / "net", transformer_state())
    with pytest.raises(ModelError, match=r"cypose-dask\[transformer\]"):
        probe_weights(path)
