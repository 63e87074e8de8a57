"""Restoration and diameter: equal to Cellpose's own classes on weights that we make."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from cypose_dask.engine import estimate_diameter, load_networks, segment_frames
from cypose_dask.engine.diameter import read_size_model
from cypose_dask.engine.network import load_networks as load
from cypose_dask.engine.restore import restore_frame
from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.models import resolve_model, resolve_restoration
from cypose_dask.settings import Settings


@pytest.fixture(scope="module")
def restoration_path(tmp_path_factory) -> str:
    """A restoration network with random weights: one input, one output."""
    from cellpose.resnet_torch import CPnet

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("restoration") / "denoise_test"
    torch.save(CPnet([1, 32, 64, 128, 256], 1, sz=3).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def networks(restoration_path):
    return load(resolve_model(), "cpu", resolve_restoration(restoration_path))


def test_restored_channel_equals_denoise_model(synthetic, restoration_path, networks):
    from cellpose.denoise import DenoiseModel

    frame = synthetic.frames[-1]
    ours = restore_frame(frame, networks.restoration, Settings(diameter=20))
    model = DenoiseModel(pretrained_model=restoration_path)
    for channel, restored in zip(frame, ours, strict=True):
        theirs = model.eval(channel, channels=None, diameter=20)
        np.testing.assert_array_equal(restored, theirs[..., 0])


def test_denoised_labels_equal_the_two_steps_of_cellpose(synthetic, restoration_path, model_path):
    from cellpose.denoise import DenoiseModel
    from cellpose.models import CellposeModel

    frame = synthetic.frames[-1, 0]
    settings = Settings(diameter=20, denoise=restoration_path, cellprob_threshold=-3)
    ours = segment_frames(frame[None, None], settings=settings)
    restored = DenoiseModel(pretrained_model=restoration_path).eval(frame, diameter=20)
    masks, (_, flows, _), _ = CellposeModel(pretrained_model=model_path).eval(
        restored[..., 0], channels=[0, 0], diameter=20, flow_threshold=0.75, cellprob_threshold=-3
    )
    np.testing.assert_allclose(ours.flows[0], flows, rtol=0, atol=3e-5)
    np.testing.assert_array_equal(ours.labels[0], masks)


def test_restoration_inverts_once(synthetic, networks):
    frame = synthetic.frames[-1, :1]
    straight = restore_frame(frame, networks.restoration, Settings(diameter=20))
    inverted = restore_frame(frame, networks.restoration, Settings(diameter=20, invert=True))
    assert not np.array_equal(straight, inverted)


def test_given_intensities_are_paired_with_their_channels(synthetic, networks):
    frame = synthetic.frames[-1]
    both = Settings(diameter=20, normalize=(0.0, 30000.0, 0.0, 900.0))
    second = Settings(diameter=20, normalize=(0.0, 900.0))
    np.testing.assert_array_equal(
        restore_frame(frame, networks.restoration, both)[1],
        restore_frame(frame[1:], networks.restoration, second)[0],
    )


def test_a_segmentation_network_is_no_restoration(model_path):
    with pytest.raises(ModelError, match="expected restoration"):
        resolve_restoration(model_path)


def test_upsampling_is_refused():
    with pytest.raises(SettingsError, match="changes the size of a frame"):
        Settings(denoise="upsample_cyto3")


@pytest.fixture
def sized_model(tmp_path, model_path):
    """The bundled weights with a size model of Cellpose's format beside them."""
    path = tmp_path / "sized"
    path.write_bytes(open(model_path, "rb").read())  # noqa: PTH123, SIM115
    rng = np.random.default_rng(0)
    size = {
        "A": rng.normal(0, 0.3, 256),
        "smean": np.full(256, 0.06),
        "diam_mean": 18.0,
        "ymean": np.float64(0.2),
    }
    np.save(f"{path}_size.npy", size)
    return path


def test_diameter_equals_cellpose_size_model(synthetic, sized_model):
    from cellpose.models import CellposeModel, SizeModel

    frame = synthetic.frames[-1, 0]
    network = load_networks(resolve_model(sized_model), "cpu").segmentation
    ours = estimate_diameter([frame[None]], network, Settings())
    cellpose_model = CellposeModel(pretrained_model=str(sized_model))
    size_model = SizeModel(cellpose_model, pretrained_size=f"{sized_model}_size.npy")
    theirs, from_style = size_model.eval(frame, channels=[0, 0])
    assert ours.diameter == pytest.approx(float(theirs), rel=1e-6)
    assert from_style != pytest.approx(18.0)
    assert "its size model" in ours.method


def test_diameter_without_size_model_finds_the_true_one(synthetic):
    from cellpose.utils import diameters

    network = load_networks(resolve_model(), "cpu").segmentation
    found = estimate_diameter(synthetic.frames[-2:, :1], network, Settings())
    truth = np.median([diameters(labels)[0] for labels in synthetic.labels[-2:]])
    assert found.diameter == pytest.approx(truth, rel=0.2)
    assert len(found.per_frame) == 2


def test_blank_frames_do_not_count(synthetic):
    network = load_networks(resolve_model(), "cpu").segmentation
    blank = np.full_like(synthetic.frames[0, :1], 7)
    with_blank = estimate_diameter([blank, synthetic.frames[-1, :1]], network, Settings())
    without = estimate_diameter([synthetic.frames[-1, :1]], network, Settings())
    assert with_blank.diameter == without.diameter


def test_no_cells_at_all_is_an_error():
    network = load_networks(resolve_model(), "cpu").segmentation
    blank = np.full((1, 64, 64), 7, np.uint16)
    with pytest.raises(SettingsError, match="No cell was found on the 1 sampled frames"):
        estimate_diameter([blank], network, Settings())


class _RunsCode:
    def __reduce__(self):
        return (print, ("code from a size model",))


def test_a_size_model_with_code_in_it_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "evil_size.npy"
    np.save(path, np.array({"A": _RunsCode()}, dtype=object))
    with pytest.raises(ModelError, match=r"it names builtins\.print"):
        read_size_model(path)
    assert "code from a size model" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"no numpy file", pickle.dumps({"A": 1})])
def test_a_damaged_size_model_is_refused(content, tmp_path):
    path = tmp_path / "x_size.npy"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a size model"):
        read_size_model(path)
