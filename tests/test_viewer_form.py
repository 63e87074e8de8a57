"""The fields of the widget: what they show of settings, and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from cypose_dask.errors import SettingsError
from cypose_dask.settings import Settings
from cypose_dask.viewer.form import LARGEST, fields_of, settings_meant

MODELS = ["default", "cyano-rods", "cyto3"]
SETTINGS = [
    Settings(),
    Settings(diameter=17.43218, flow_threshold=0.12345, cellprob_threshold=-1.98765),
    Settings(model="/weights/mine", min_size_px=40, normalize=(1.0, 2.0)),
    Settings(model="./mine"),
    Settings(diameter=1e9, cellprob_threshold=-1e9, flow_threshold=1e9),
    Settings(gpu=True, precision="half", dynamics_device="cuda"),
]


def rounded(fields):
    """Values as a field with two decimals gives them back."""
    return {n: round(v, 2) if isinstance(v, float) else v for n, v in fields.items()}


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_nobody_touched_stays_as_it_was_to_the_last_digit(settings):
    fields = rounded(fields_of(settings, MODELS))
    assert settings_meant(settings, fields, dict(fields)) == settings


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("diameter", 21.5, {"diameter": 21.5}),
        ("flow_threshold", 0.5, {"flow_threshold": 0.5}),
        ("cellprob_threshold", 3.5, {"cellprob_threshold": 3.5}),
        ("model", "cyto3", {"model": "cyto3"}),
        ("own_weights", Path("mine/w"), {"model": "mine/w"}),
    ],
)
def test_a_field_changes_its_own_setting_alone(settings, name, value, changed):
    fields = rounded(fields_of(settings, MODELS))
    now = {**fields, "own_weights": None} if name == "model" else fields
    assert settings_meant(settings, fields, {**now, name: value}) == settings.replace(**changed)


def test_no_diameter_is_that_of_the_model():
    settings = Settings(diameter=20)
    fields = fields_of(settings, MODELS)
    assert fields["diameter"] == 20
    assert settings_meant(settings, fields, {**fields, "diameter": 0.0}) == Settings()
    assert fields_of(Settings(), MODELS)["diameter"] == 0


def test_weights_of_a_file_win_over_the_list_until_they_are_removed():
    settings = Settings(model="/weights/mine")
    fields = fields_of(settings, MODELS)
    assert (fields["model"], fields["own_weights"]) == ("default", Path("/weights/mine"))
    kept = settings_meant(settings, fields, {**fields, "model": "cyto3"})
    assert kept.model == "/weights/mine"
    removed = settings_meant(settings, fields, {**fields, "own_weights": None})
    assert removed.model == "default"


def test_without_the_gpu_nothing_is_asked_that_only_a_gpu_has():
    settings = Settings(gpu=True, precision="half", dynamics_device="cuda")
    fields = fields_of(settings, MODELS)
    assert settings_meant(settings, fields, {**fields, "gpu": False}) == Settings()
    plain = fields_of(Settings(), MODELS)
    assert settings_meant(Settings(), plain, {**plain, "gpu": True}) == Settings(gpu=True)


def test_values_fit_the_fields():
    fields = fields_of(SETTINGS[4], MODELS)
    assert (fields["diameter"], fields["cellprob_threshold"]) == (LARGEST, -LARGEST)


def test_a_value_that_means_nothing_is_refused():
    fields = fields_of(Settings(), MODELS)
    with pytest.raises(SettingsError, match="flow_threshold"):
        settings_meant(Settings(), fields, {**fields, "flow_threshold": -1.0})
