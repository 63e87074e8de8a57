"""A name or a path becomes a `ModelSpec`, or an error with near names. Never another model."""

from __future__ import annotations

import difflib
from pathlib import Path

from cypose_dask.errors import ModelError, ModelNotFoundError
from cypose_dask.models import builtin, registry
from cypose_dask.models.probe import probe_weights
from cypose_dask.models.spec import ModelSpec, file_sha256

__all__ = ["list_models", "resolve_model", "resolve_restoration"]


def resolve_model(name: str | Path = "default") -> ModelSpec:
    """Find, hash and probe a segmentation model.

    Parameters
    ----------
    name : str or Path
        ``"default"``, a bundled name, a Cellpose 2 or 3 name, a name in Cellpose's
        ``gui_models.txt``, or a path to weights. An existing path wins over a user name, never
        over a bundled or built-in one.

    Raises
    ------
    ModelNotFoundError
        If nothing has this name, or a built-in is neither cached nor downloadable.
    ModelError
        If the file is damaged, of another kind, or not the one that the registry hashes.
    """
    name = registry.default_name() if str(name) == "default" else str(name)
    if name in registry.bundled_names():
        return _bundled(name)
    if name in builtin.BUILTIN or name in builtin.FORGOTTEN:
        return _spec(name, "built-in", builtin.fetch_builtin(name))
    path = Path(name).expanduser()
    if path.is_file():
        return _spec(path.name, "file", path)
    if name in user_names():
        return _spec(name, "user", builtin.model_folder() / name)
    raise _not_found(name, "model", list_models())


def resolve_restoration(name: str | Path) -> ModelSpec:
    """Find, hash and probe a Cellpose 3 restoration network (denoise, deblur, oneclick).

    Raises
    ------
    ModelNotFoundError
        If nothing has this name, or it is neither cached nor downloadable.
    ModelError
        If the file is damaged or no restoration network.
    """
    name = str(name)
    if name in builtin.RESTORATION:
        return _spec(name, "built-in", builtin.fetch_builtin(name), classes=1)
    path = Path(name).expanduser()
    if path.is_file():
        return _spec(path.name, "file", path, classes=1)
    raise _not_found(name, "restoration network", builtin.RESTORATION)


def list_models() -> tuple[str, ...]:
    """Return every known name: bundled (default first), built-in, then the user's own."""
    return (*registry.bundled_names(), *builtin.BUILTIN, *builtin.FORGOTTEN, *user_names())


def user_names() -> tuple[str, ...]:
    """Return the names in Cellpose's ``gui_models.txt``, which its GUI writes."""
    listing = builtin.model_folder() / "gui_models.txt"
    if not listing.is_file():
        return ()
    return tuple(line.strip() for line in listing.read_text().splitlines() if line.strip())


def _bundled(name: str) -> ModelSpec:
    entry = registry.bundled_entry(name)
    wants = tuple(tuple(words) for words in entry.get("wants", ()))
    spec = _spec(name, "bundled", registry.bundled_file(name), wants=wants)
    if spec.sha256 != entry["sha256"]:
        raise ModelError(
            f"{spec.path}: SHA-256 is {spec.sha256}, the registry says {entry['sha256']}. The file "
            "was changed or damaged; install the package again."
        )
    return spec


def _spec(
    name: str,
    kind: str,
    path: Path,
    *,
    classes: int = 3,
    wants: tuple[tuple[str, ...], ...] = (),
) -> ModelSpec:
    if not path.is_file():
        raise ModelNotFoundError(f"Model {name!r}: its file {path} does not exist.")
    probe = probe_weights(path, classes=classes)
    forced = builtin.builtin_diam_mean(name) if kind == "built-in" else None
    return ModelSpec(
        name=name,
        path=str(path.resolve()),
        sha256=file_sha256(path),
        kind=kind,
        network_inputs=probe.network_inputs,
        diam_mean=forced or probe.diam_mean,
        diameter=probe.diameter,
        backbone=probe.backbone,
        wants=wants,
    )


def _not_found(name: str, what: str, known: tuple[str, ...]) -> ModelNotFoundError:
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    beside = _near_files(Path(name))
    hint += f" Files with a near name: {', '.join(beside)}." if beside else ""
    return ModelNotFoundError(
        f"No {what} is called {name!r}, and there is no such file.{hint} "
        "`cypose-dask models` lists all names."
    )


def _near_files(path: Path) -> list[str]:
    folder = path.expanduser().parent
    if len(path.parts) < 2 or not folder.is_dir():
        return []
    files = [file.name for file in folder.iterdir() if file.is_file()]
    return [str(path.parent / file) for file in difflib.get_close_matches(path.name, files, n=3)]
