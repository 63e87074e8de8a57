"""Settings: validated when made, frozen, and the same after a way through JSON."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from cypose_dask import RunOptions, Settings
from cypose_dask.errors import SettingsError

NAN, INF = math.nan, math.inf

REFUSED = {
    "model": ["", "  ", None, 3],
    "channels": [(), (0, 1, 2, 3), "0", 0, (-1,), (True,), (1.5,), ("",), (None,)],
    "diameter": [0, -3, NAN, INF, "large", None, True, "20", np.array([20.0, 30.0])],
    "niter": [-1, NAN, INF, "200", True, 2**32],
    "flow_threshold": [-0.1, NAN, INF, None, "0.4", True],
    "cellprob_threshold": [NAN, INF, None, "0"],
    "min_size_px": [-2, 1.5, NAN, None, "15", True],
    "normalize": ["percentile", None, (1,), (1, 2, 3), (5, 5), (9, 1), (NAN, 1), ("0", "1"), True],
    "percentiles": [(99, 1), (1, 1), (-1, 99), (1, 101), (1,), (1, 2, 3), 5, (NAN, 99), ("1", "2")],
    "invert": [1, "no", None],
    "denoise": ["", 3, "upsample_cyto3", True],
    "start_frame": [-1, 1.5, NAN, "2", None, True],
    "end_frame": [0, -1, 2.5, "9", True],
    "gpu": [1, "cuda", None],
    "engine": ["faster", None, 1],
    "runtime": ["tensorrt", None, 1],
    "precision": ["double", None, 16],
    "dynamics_device": ["gpu", None, 0],
    "skip_empty": [1, "yes", None],
    "fix_small_masks": [1, "yes", None],
}
REFUSED_OPTIONS = {
    "frames_per_block": [0, -1, 1.5, "4", True, NAN],
    "blocks_in_flight": [0, -1, 2.5, "4", True],
    "wait_for_workers_s": [0, -1, NAN, INF, None, "9"],
    "debug": [1, "yes", None],
    "restart": [1, "yes", None],
}
EVERY_FIELD = Settings(
    model="cyto3",
    channels=(1, "GFP"),
    diameter=20.5,
    niter=600,
    flow_threshold=0.6,
    cellprob_threshold=-1.0,
    min_size_px=-1,
    normalize=(10.0, 200.0, 5.0, 90.0),
    percentiles=(2.0, 98.0),
    invert=True,
    denoise="denoise_cyto3",
    start_frame=2,
    end_frame=9,
    gpu=True,
    runtime="torch",
    precision="half",
    dynamics_device="cpu",
    skip_empty=True,
    fix_small_masks=True,
)


def cases(table):
    return [(name, value) for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), cases(REFUSED))
def test_settings_refuse_with_what_was_found_and_what_to_do(name, value):
    with pytest.raises(SettingsError) as raised:
        Settings(**{name: value})
    message = str(raised.value)
    assert message.startswith(name)
    shown = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    assert repr(shown) in message or str(shown) in message
    assert any(word in message for word in ("give", "choose", "Choose", "must"))


@pytest.mark.parametrize(("name", "value"), cases(REFUSED_OPTIONS))
def test_run_options_refuse_with_what_was_found_and_what_to_do(name, value):
    with pytest.raises(SettingsError, match=rf"{name} is .*give "):
        RunOptions(**{name: value})


def test_an_end_before_the_start_is_refused_with_both():
    with pytest.raises(SettingsError, match="end_frame is 3 and start_frame 3"):
        Settings(start_frame=3, end_frame=3)


def test_invert_without_normalisation_is_refused():
    with pytest.raises(SettingsError, match="normalize is 'none', but invert"):
        Settings(normalize="none", invert=True)


@pytest.mark.parametrize("value", ["frame", "movie", "none", (0, 1), (0.5, 1.5, 3, 4), (0, 1) * 3])
def test_every_documented_normalisation_is_taken(value):
    assert Settings(normalize=value).normalize == value


@pytest.mark.parametrize("value", [None, "mean", (0,), ("GFP", 2), (0, 1, 2)])
def test_every_documented_choice_of_channels_is_taken(value):
    assert Settings(channels=value).channels == value


def test_edges_that_mean_off_are_taken():
    settings = Settings(flow_threshold=0, niter=0, min_size_px=-1, cellprob_threshold=-6)
    assert settings.changed() == {
        "flow_threshold": 0, "niter": 0, "min_size_px": -1, "cellprob_threshold": -6,
    }  # fmt: skip


def test_every_field_has_a_refusal_test():
    assert set(REFUSED) == {field.name for field in dataclasses.fields(Settings)}
    assert set(REFUSED_OPTIONS) == {field.name for field in dataclasses.fields(RunOptions)}


def test_settings_are_equal_after_a_way_through_json():
    assert Settings(**json.loads(json.dumps(EVERY_FIELD.to_dict()))) == EVERY_FIELD
    assert Settings(**json.loads(json.dumps(Settings().to_dict()))) == Settings()


def test_every_field_differs_from_its_default_in_the_round_trip():
    same = {"engine"}  # the reference engine has none of the choices after it
    assert set(EVERY_FIELD.changed()) == set(EVERY_FIELD.to_dict()) - same


@pytest.mark.parametrize(
    "choice",
    [
        {"runtime": "torch"},
        {"precision": "half", "gpu": True},
        {"skip_empty": True},
        {"fix_small_masks": True},
    ],
)
def test_the_reference_engine_has_no_choices(choice):
    with pytest.raises(SettingsError, match="reference engine does not have"):
        Settings(engine="reference", **choice)
    assert Settings(engine="fast", **choice).engine == "fast"


@pytest.mark.parametrize("choice", [{"precision": "half"}, {"dynamics_device": "cuda"}])
def test_choices_of_a_gpu_need_a_gpu(choice):
    with pytest.raises(SettingsError, match="add --gpu"):
        Settings(engine="fast", **choice)


def test_cellposes_own_network_call_belongs_to_the_reference_engine():
    assert Settings(engine="reference", runtime="cellpose").runtime == "cellpose"
    with pytest.raises(SettingsError, match="--engine reference"):
        Settings(engine="fast", runtime="cellpose")


def test_settings_pickle_and_hash():
    assert pickle.loads(pickle.dumps(EVERY_FIELD)) == EVERY_FIELD
    assert len({EVERY_FIELD, EVERY_FIELD.replace()}) == 1


def test_lists_paths_and_numpy_numbers_become_plain():
    made = Settings(
        model=Path("weights"),
        channels=[0, np.int64(1)],
        diameter=np.float32(20),
        percentiles=[1, 99],
        normalize=[np.uint16(3), 7],
        end_frame=np.int32(5),
    )
    assert made == Settings(
        model="weights", channels=(0, 1), diameter=20.0, normalize=(3, 7), end_frame=5
    )
    json.dumps(made.to_dict())
    assert RunOptions(frames_per_block=np.int64(4)).frames_per_block == 4


def test_changed_names_only_what_differs():
    assert Settings().changed() == {}
    assert Settings(diameter=20, channels=(1,)).changed() == {"diameter": 20, "channels": [1]}


def test_replace_validates_again():
    assert Settings().replace(diameter=12).diameter == 12
    with pytest.raises(SettingsError, match="diameter is -1"):
        Settings().replace(diameter=-1)


@pytest.mark.parametrize("options", [Settings(), RunOptions()])
def test_options_are_frozen_and_take_no_new_names(options):
    name = dataclasses.fields(options)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options, name, 1)
    with pytest.raises((AttributeError, TypeError)):
        options.typo = 1


def test_options_take_names_only():
    with pytest.raises(TypeError):
        Settings("cyto3")
    with pytest.raises(TypeError):
        Settings(diametre=20)


def test_diameter_px_is_a_number_or_an_error():
    assert Settings(diameter=20).diameter_px == 20.0
    with pytest.raises(SettingsError, match="diameter is still 'model'; resolve"):
        _ = Settings().diameter_px
