"""A registry.toml beside a user's weights says what channels they want, and nothing more."""

from __future__ import annotations

import hashlib

import pytest

from cypose_dask.errors import ModelError
from cypose_dask.models import resolve_model
from helpers.weights import write_weights


@pytest.fixture
def weights(tmp_path):
    """Weights of a user, ``models/mine``."""
    return write_weights(tmp_path / "models" / "mine")


def register(weights, *, key="mine", **changes):
    """Write a registry with one entry beside weights; values are TOML."""
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    fields = {"file": '"mine"', "sha256": f'"{sha256}"', "wants": '[["phase", "bf"], ["chl"]]'}
    lines = [f"{name} = {value}" for name, value in (fields | changes).items() if value]
    text = "\n".join(['default = "mine"', f"[models.{key}]", *lines, ""])
    (weights.parent / "registry.toml").write_text(text)


def test_weights_without_a_registry_want_nothing(weights):
    assert resolve_model(weights).wants == ()


def test_wants_are_taken_from_the_registry_beside_the_weights(weights, monkeypatch):
    register(weights)
    assert resolve_model(weights).wants == (("phase", "bf"), ("chl",))
    assert resolve_model(weights).kind == "file"
    monkeypatch.chdir(weights.parent)
    assert (
        resolve_model("mine").wants == resolve_model("./mine").wants == resolve_model(weights).wants
    )


def test_an_entry_is_found_by_its_file_whatever_its_name(weights):
    register(weights, key="other")
    assert resolve_model(weights).wants == (("phase", "bf"), ("chl",))


def test_the_registry_says_nothing_about_other_files(weights):
    register(weights)
    assert resolve_model(write_weights(weights.parent / "theirs", seed=3)).wants == ()


def test_everything_but_wants_comes_from_the_weights_themselves(weights):
    plain = resolve_model(weights)
    register(weights, diameter="99.0", inputs="1", generation="4", name='"evil"')
    found = resolve_model(weights)
    assert (found.diameter, found.diam_mean, found.network_inputs, found.name) == (
        plain.diameter,
        plain.diam_mean,
        plain.network_inputs,
        plain.name,
    )


def test_another_hash_is_refused(weights):
    register(weights)
    write_weights(weights, seed=5)
    with pytest.raises(ModelError, match=r"mine: SHA-256 is .*registry\.toml says .*Restore it"):
        resolve_model(weights)


@pytest.mark.parametrize("sha256", ["", "3", '["x"]'])
def test_an_entry_without_a_hash_is_refused(weights, sha256):
    register(weights, sha256=sha256)
    with pytest.raises(ModelError, match="SHA-256 is"):
        resolve_model(weights)


@pytest.mark.parametrize("file", ['"../mine"', '"sub/mine"', '"/etc/passwd"', '".."', "3", ""])
def test_an_entry_of_this_name_that_points_elsewhere_is_refused(weights, file):
    write_weights(weights.parent.parent / "mine", seed=8)
    register(weights, file=file)
    with pytest.raises(ModelError, match=r"entry 'mine' points to .*Mend or remove"):
        resolve_model(weights)


@pytest.mark.parametrize("wants", ['"phase"', "[3]", '["phase"]', "[[3]]", "3"])
def test_wants_of_another_kind_are_refused(weights, wants):
    register(weights, wants=wants)
    with pytest.raises(ModelError, match=r"'wants' of 'mine' is .*list of lists"):
        resolve_model(weights)


def test_channels_without_names_are_chosen_by_hand(weights):
    register(weights, wants="[[], []]")
    assert resolve_model(weights).wants == ()


@pytest.mark.parametrize("text", ["[[", "= 3", "models"])
def test_a_damaged_registry_is_refused_by_name(weights, text):
    (weights.parent / "registry.toml").write_text(text)
    with pytest.raises(ModelError, match=r"registry\.toml lies beside models and cannot be read"):
        resolve_model(weights)


def test_a_registry_that_is_no_text_is_refused_by_name(weights):
    (weights.parent / "registry.toml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ModelError, match="cannot be read"):
        resolve_model(weights)


@pytest.mark.parametrize("text", ["", "[crates]\nio = 3\n", "models = 3\n", "[models]\nmine = 3\n"])
def test_a_registry_of_something_else_is_left_alone(weights, text):
    (weights.parent / "registry.toml").write_text(text)
    assert resolve_model(weights).wants == ()


def test_a_folder_called_registry_is_left_alone(weights):
    (weights.parent / "registry.toml").mkdir()
    assert resolve_model(weights).wants == ()


def test_a_bundled_model_by_its_path_wants_what_it_wants_by_its_name():
    spec = resolve_model()
    assert resolve_model(spec.path).wants == spec.wants != ()
