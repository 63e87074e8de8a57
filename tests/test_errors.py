"""The error tree: what derives from what, and that errors survive the way back from a worker."""

import pickle
import re

import pytest

from cypose_dask import errors

ERRORS = [getattr(errors, name) for name in errors.__all__]
BUILTINS = {
    "CyposeError": Exception,
    "MovieError": ValueError,
    "MovieNotFoundError": FileNotFoundError,
    "SettingsError": ValueError,
    "ModelError": ValueError,
    "ModelNotFoundError": FileNotFoundError,
    "ResultError": ValueError,
    "RunError": RuntimeError,
}


def tree_of_docstring() -> dict[str, str]:
    """Return child -> parent as the module's docstring draws it."""
    parents, above = {}, {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([ │├└─]*)([A-Z]\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            above[depth] = found[2]
            parents[found[2]] = above.get(depth - 1)
    return parents


@pytest.mark.parametrize("error", ERRORS)
def test_errors_pickle_with_their_message(error):
    copy = pickle.loads(pickle.dumps(error("found 1, expected 2: do 3")))
    assert type(copy) is error
    assert str(copy) == "found 1, expected 2: do 3"


@pytest.mark.parametrize("error", ERRORS)
def test_errors_derive_from_cypose_error_and_their_builtin(error):
    assert issubclass(error, errors.CyposeError)
    named = [BUILTINS[c.__name__] for c in error.__mro__ if c.__name__ in BUILTINS]
    assert all(issubclass(error, builtin) for builtin in named)


def test_every_error_that_is_raised_by_name_has_its_builtin_in_the_docstring():
    drawn = dict(re.findall(r"(\w+Error)\s+\((\w+)\)", errors.__doc__))
    assert drawn == {k: v.__name__ for k, v in BUILTINS.items() if v is not Exception}


def test_the_tree_in_the_docstring_is_the_tree():
    tree = {
        error.__name__: None if error is errors.CyposeError else error.__bases__[0].__name__
        for error in ERRORS
    }
    assert tree_of_docstring() == tree


def test_all_names_every_error():
    defined = {n for n, v in vars(errors).items() if isinstance(v, type)}
    assert sorted(defined) == errors.__all__


@pytest.mark.parametrize("error", ERRORS)
def test_errors_survive_the_pickling_of_distributed(error):
    import distributed  # noqa: F401  installs tblib's reducers for the errors that exist by now
    import tblib.pickling_support

    tblib.pickling_support.install(error)
    try:
        raise error("found 1, expected 2: do 3")
    except error as raised:
        copy = pickle.loads(pickle.dumps(raised))
    assert type(copy) is error
    assert str(copy) == "found 1, expected 2: do 3"
