"""How the house is built: what an import costs, what is public, and how long files are."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cypose_dask
from cypose_dask.cli import COMMANDS, group

PACKAGE = Path(cypose_dask.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LARGEST_FILE_LINES = 400
HEAVY = [
    "PIL", "cellpose", "cv2", "dask", "distributed", "imagecodecs", "matplotlib", "nd2", "numba",
    "numpy", "scipy", "skimage", "tifffile", "torch", "zarr",
]  # fmt: skip


def loaded_by(code: str) -> list[str]:
    """Return which heavy packages a fresh interpreter has loaded after some code."""
    report = (
        f"import json, sys; sys.stderr.write(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    script = f"try:\n    {code}\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return json.loads(done.stderr)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import cypose_dask; dir(cypose_dask)") == []


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["segment", "--help"]])
def test_help_loads_nothing_heavy(args):
    assert loaded_by(f"from cypose_dask.cli import main; main({args})") == []


def test_the_error_and_settings_rooms_load_nothing_heavy():
    assert loaded_by("import cypose_dask.errors, cypose_dask.settings") == []


@pytest.mark.parametrize("name", cypose_dask.__all__)
def test_every_public_name_resolves_and_has_a_docstring(name):
    value = getattr(cypose_dask, name)
    assert value is getattr(cypose_dask, name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_public_names_are_sorted_and_unique():
    assert sorted(set(cypose_dask.__all__)) == cypose_dask.__all__
    assert dir(cypose_dask) == cypose_dask.__all__


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'sgment'"):
        _ = cypose_dask.sgment


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= LARGEST_FILE_LINES


def test_no_file_is_called_utils():
    assert [path for path in FILES if path.stem in ("util", "utils", "helpers", "misc")] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_has_help(name):
    command = group.get_command(click.Context(group), name)
    assert command.name == name
    assert command.help
    shown = CliRunner().invoke(group, [name, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_has_help(name):
    command = group.get_command(click.Context(group), name)
    bare = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert bare == []


def test_the_groups_help_lists_every_command():
    shown = CliRunner().invoke(group, ["--help"]).output
    assert all(f"  {name} " in shown and line in shown for name, line in COMMANDS.items())
