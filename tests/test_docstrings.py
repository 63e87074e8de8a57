"""Every example in a docstring runs, and every public name is documented."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import warnings

import pytest

import cypose_dask

MODULES = [
    "cypose_dask",
    *(m.name for m in pkgutil.walk_packages(cypose_dask.__path__, "cypose_dask.")),
]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        module = importlib.import_module(name)
        found = finder.find(module, name, module=module)
        yield from (test for test in found if test.examples)


@pytest.mark.parametrize("example", list(examples()), ids=lambda test: test.name)
def test_example_runs(example, movie, nd2_path, tmp_path):
    example.globs.update(movie=movie, path=nd2_path, tmp_path=tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, tried = doctest.DocTestRunner(optionflags=flags).run(example)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_names_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, public
