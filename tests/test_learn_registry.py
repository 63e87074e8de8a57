"""A model goes into a registry.toml, and what a person wrote there stays."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from cypose_dask import learn
from cypose_dask.errors import ModelError
from cypose_dask.learn.training.registry import HEADING, read_registry, with_entry

ENTRY = {"file": "m", "wants": (("phase", "bf"),), "trained": 'by "us", 1 epoch'}
BY_HAND = """# Our models, keep in step with the wiki.
default = "first"  # the one for rods

# Made in March; do not delete.
[models.first]
file = "first"
# measured on movie 3
diameter = 18.0

# From the other laptop.
[models."a b"]
file = 'a b'
wants = [
  ["phase", "bf"],
  ["chl"],
]

# the end
"""
names = st.text(st.characters(codec="utf-8"), min_size=1)


def comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("name", ["first", "a b", "new"])
def test_comments_and_other_tables_stay(name):
    edited = with_entry(BY_HAND, name, ENTRY)
    assert comments(edited) == comments(BY_HAND)
    before, after = tomllib.loads(BY_HAND), tomllib.loads(edited)
    assert after["default"] == "first"
    assert after["models"].pop(name) == json.loads(json.dumps(ENTRY))
    before["models"].pop(name, None)
    assert after == before


def test_lines_of_other_tables_are_not_written_anew():
    edited = with_entry(BY_HAND, "new", ENTRY)
    assert edited.startswith(BY_HAND)
    lines = with_entry(BY_HAND, "first", ENTRY).splitlines()
    assert lines[lines.index("# From the other laptop.") :] == BY_HAND.splitlines()[9:]


@given(names, names)
def test_models_of_any_name_are_added_and_replaced(one, other):
    text = with_entry(with_entry(HEADING, one, ENTRY), other, ENTRY | {"file": "o"})
    again = with_entry(text, one, ENTRY | {"diameter": 2.5})
    found = tomllib.loads(again)
    assert found["default"] == one
    assert set(found["models"]) == {one, other}
    assert found["models"][one]["diameter"] == 2.5
    assert with_entry(again, one, ENTRY | {"diameter": 2.5}) == again


@pytest.mark.parametrize("text", ["", "[models.x]\nfile = 'x'", "# mine\n[models.x]\nfile = 'x'\n"])
def test_a_registry_without_a_default_gets_one_above_its_tables(text):
    edited = with_entry(text, "m", ENTRY)
    assert tomllib.loads(edited)["default"] == "m"
    assert comments(edited) == comments(text)


@pytest.mark.parametrize(
    "text",
    [
        "default = 'm'\nmodels = { m = { file = 'old' } }\n",
        "default = 'm'\n[models]\nm.file = 'old'\n",
        "default = 'm'\n[models.m]\nfile = 'old'\n[models.m.more]\nx = 1\n",
        "default = 'm'\n[models.m]\nwants = [\n['a']\n]\n",
    ],
)
def test_a_registry_that_cannot_be_changed_by_lines_is_refused(text):
    with pytest.raises(ModelError, match=r"Make the entry of 'm' a table \[models\.m\]"):
        with_entry(text, "m", ENTRY)


def test_a_registry_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "registry.toml").write_text("not [ toml")
    with pytest.raises(ModelError, match="is not TOML"):
        read_registry(tmp_path / "registry.toml")


def test_the_bundled_registry_is_one_that_this_would_write():
    text = (ROOT / "models" / "registry.toml").read_text()
    assert text.startswith(HEADING)
    assert learn.bundle_model.__name__ in HEADING
    for name, entry in tomllib.loads(text)["models"].items():
        assert with_entry(text, name, entry) == text
