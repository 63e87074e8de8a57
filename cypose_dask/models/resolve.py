"""A name or a path becomes a `ModelSpec`, or an error with near names. Never another model."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from pathlib import Path

from cypose_dask.errors import ModelError, ModelNotFoundError
from cypose_dask.models import builtin, registry
from cypose_dask.models.probed import probe_once
from cypose_dask.models.spec import ModelSpec, file_sha256

__all__ = ["list_models", "resolve_model", "resolve_restoration"]


def resolve_model(name: str | Path = "default") -> ModelSpec:
    """Find, hash and probe a segmentation model.

    Parameters
    ----------
    name : str or Path
        ``"default"``, a bundled name, a Cellpose 2 or 3 name, a name in Cellpose's
        ``gui_models.txt``, or a path to weights. An existing path wins over a user name, never
        over a bundled or built-in one. A ``registry.toml`` beside the weights, as
        `cypose-dask train` writes it, says which channels they want.

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
        return _builtin(name, classes=3)
    path = _existing_file(name)
    if path:
        return _own_file(path)
    if name in _listed_names():
        return _spec(name, "user", _user_file(name))
    hint = " It is a restoration network: use --denoise." if name in builtin.RESTORATION else ""
    raise _not_found(name, "model", (list_models(), hint))


def resolve_restoration(name: str | Path) -> ModelSpec:
    """Find, hash and probe a Cellpose 3 restoration network (denoise, deblur, oneclick).

    Raises
    ------
    ModelNotFoundError
        If nothing has this name, or it is neither cached nor downloadable.
    ModelError
        If the file is damaged, no restoration network, or one that enlarges frames.
    """
    name = str(name)
    _refuse_upsampling(name)
    path = _existing_file(name)
    if name in builtin.RESTORATION:
        spec = _builtin(name, classes=1)
    elif path:
        spec = _spec(path.name, "file", path, classes=1)
    else:
        hint = " It is a segmentation model: use --model." if name in list_models() else ""
        raise _not_found(name, "restoration network", (builtin.RESTORATION, hint))
    _refuse_upsampling(spec.path)
    return spec


def list_models() -> tuple[str, ...]:
    """Return every known name: bundled (default first), built-in, then the user's own."""
    names = (*registry.bundled_names(), *builtin.BUILTIN, *builtin.FORGOTTEN, *user_names())
    return tuple(dict.fromkeys(names))


def user_names() -> tuple[str, ...]:
    """Return the names in Cellpose's ``gui_models.txt``, which its GUI writes."""
    return tuple(name for name in _listed_names() if _is_plain(name))


def _listed_names() -> tuple[str, ...]:
    listing = builtin.model_folder() / "gui_models.txt"
    if not listing.is_file():
        return ()
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _is_plain(name: str) -> bool:
    return Path(name).name == name and name not in (".", "..") and "\\" not in name


def _user_file(name: str) -> Path:
    if not _is_plain(name):
        raise ModelError(
            f"Cellpose's gui_models.txt lists {name!r}, which leads out of its folder "
            f"{builtin.model_folder()}; refused. Give the path of the weights itself."
        )
    return builtin.model_folder() / name


def _existing_file(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, no such home, a NUL
        return None


def _own_file(path: Path) -> ModelSpec:
    """Resolve a path; `cypose-dask train` writes down beside its models what channels they want."""
    spec = _spec(path.name, "file", path)
    wants = registry.entry_beside(path, spec.sha256).get("wants", [])
    # A channel without a name can be any; then the movie's channels must be chosen by hand.
    known = tuple(tuple(words) for words in wants) if all(wants) else ()
    return dataclasses.replace(spec, wants=known)


def _bundled(name: str) -> ModelSpec:
    entry, path = registry.bundled_entry(name), registry.bundled_file(name)
    found = file_sha256(path)
    if found != entry["sha256"]:
        raise ModelError(
            f"{path}: SHA-256 is {found}, the registry says {entry['sha256']}. The file "
            "was changed or damaged; install the package again."
        )
    wants = tuple(tuple(words) for words in entry.get("wants", ()))
    return _spec(name, "bundled", path, wants=wants)


def _builtin(name: str, classes: int) -> ModelSpec:
    path = builtin.fetch_builtin(name)
    try:
        return _spec(name, "built-in", path, classes=classes)
    except ModelNotFoundError:
        raise
    except ModelError as error:
        # Cellpose keeps a download that broke off under the final name.
        raise ModelError(f"{error} Delete {path} to have it downloaded again.") from error


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
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    probe = probe_once(path, sha256, classes=classes)
    by_name = builtin.builtin_diam_mean(name) if kind == "built-in" else None
    by_path = builtin.path_diam_mean(path) if classes == 3 else None
    return ModelSpec(
        name=name,
        path=str(path.resolve()),
        sha256=sha256,
        kind=kind,
        network_inputs=probe.network_inputs,
        diam_mean=by_name or by_path or probe.diam_mean,
        diameter=probe.diameter,
        backbone=probe.backbone,
        wants=wants,
    )


def _refuse_upsampling(name: str) -> None:
    # Cellpose enlarges frames if this word is anywhere in the path of the weights.
    if "upsample" in name:
        raise ModelError(
            f"{name}: Cellpose takes this for a network that enlarges frames, so that labels would "
            "not fit the movie. Choose a denoise, deblur or oneclick network, in a folder without "
            "'upsample' in its name."
        )


def _not_found(name: str, what: str, known: tuple[Iterable[str], str]) -> ModelNotFoundError:
    names, hint = known
    near = _near(name, names)
    hint += f" Did you mean {' or '.join(near)}?" if near and not hint else ""
    files = _near_files(name)
    hint += f" Files with a near name: {', '.join(files)}." if files else ""
    there = "it is a folder, not a file" if _is_folder(name) else "there is no such file"
    return ModelNotFoundError(
        f"No {what} is called {name!r}, and {there}.{hint} `cypose-dask models` lists all names."
    )


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Return known names like `name` (or the end of a path), whatever their capitals."""
    folded = {word.casefold(): word for word in known}
    found = difflib.get_close_matches(Path(name).name.casefold(), folded, n=4, cutoff=0.5)
    return [folded[word] for word in found]


def _near_files(name: str) -> list[str]:
    """Return files with a near name in the folder of a path; in this folder for a plain name."""
    try:
        folder = Path(name).expanduser().parent
        files = [file.name for file in folder.iterdir() if file.is_file()]
    except (OSError, RuntimeError, ValueError):
        return []
    return [str(Path(name).parent / file) for file in _near(name, files)[:3]]


def _is_folder(name: str) -> bool:
    try:
        return Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False
