"""The table of faults is complete, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = 5


def rows():
    """Return the cells of every row below a head of a table."""
    lines = (ROOT / "docs" / "faults.md").read_text().splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return [row for row in cells if row[0] != "#" and set(row[0]) != {"-"}]


def names(row):
    return re.findall(r"`([\w/]+\.py)::(\w+)`", row[-1])


@cache
def found_in(file):
    path = ROOT / "tests" / file
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_fault_of_the_list_has_its_row():
    numbered = [row[0] for row in rows() if row[0].isdigit()]
    assert numbered == [str(i) for i in range(1, 41)]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_no_cell_is_empty_and_a_test_is_named(row):
    assert len(row) == COLUMNS
    assert all(row)
    assert names(row)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_named_test_exists(row):
    for file, name in names(row):
        assert name.startswith("test_")
        assert name in found_in(file), f"{file} has no {name}"
