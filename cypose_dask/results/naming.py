"""Where outputs go, and which files are outputs.

::

    -o x.tif   ->  x.tif, x.zarr, x.journal.jsonl, x_run.json
    -o dir/    ->  dir/NAME_cp_masks.tif, dir/NAME.zarr, dir/NAME.journal.jsonl, dir/NAME_run.json
    no -o      ->  the same beside the input
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cypose_dask.errors import SettingsError

__all__ = [
    "SOFTWARE",
    "OutputNames",
    "beside",
    "is_own_output",
    "journal_of",
    "lock_of",
    "log_of",
    "output_names",
    "run_json_of",
    "tif_name",
    "with_position",
]

# Written into our TIFs and PNGs, near the beginning: a name like x.tif does not tell whose it is.
SOFTWARE = "cypose_dask result"
_HEAD_BYTES = 16 * 1024

_TIF = (".tif", ".tiff")
_MARKED = (*_TIF, ".png")
# A folder of this name would be a mistake for a file.
_NO_FOLDER = (".zarr", ".nd2", ".btf", ".tf8", ".png", ".jpg", ".npy", ".json", ".csv")
_OWN_FILE = re.compile(
    r"(_cp_masks(_p\d{3,})?\.tiff?|\.(flow|prob)\.tif|_run\.json|\.journal\.jsonl|\.partial)$", re.I
)
_SUFFIX = re.compile(r"(\.ome)?\.(zarr|nd2|tiff?|btf|tf2|tf8|lsm|stk|png)$", re.I)
_GLOB = re.compile(r"[*?\[]")
_WILDCARD = re.compile(r"\[[^\]]*\]|[*?]+")


@dataclass(frozen=True, slots=True)
class OutputNames:
    """The files of one movie's run."""

    tif: Path
    zarr: Path
    run_json: Path

    @property
    def journal(self) -> Path:
        """The journal lies beside the store: zarr warns about foreign files inside."""
        return journal_of(self.zarr)


def journal_of(store: Path) -> Path:
    """Return the journal's path of a result store: ``movie.zarr`` -> ``movie.journal.jsonl``."""
    return beside(store, ".journal.jsonl")


def lock_of(store: Path) -> Path:
    """Return the lock's path of a result store: ``movie.zarr`` -> ``movie.lock``."""
    return beside(store, ".lock")


def log_of(store: Path) -> Path:
    """Return the path of a result's log: ``movie.zarr`` -> ``movie.log``."""
    return beside(store, ".log")


def run_json_of(store: Path) -> Path:
    """Return the path of a result's record: ``movie.zarr`` -> ``movie_run.json``."""
    return beside(store, "_run.json")


def beside(store: Path, ending: str) -> Path:
    """Return the path of what lies beside a result store: ``movie.zarr`` -> ``movie`` + ending."""
    return store.with_name(f"{store.name.removesuffix('.zarr')}{ending}")


def output_names(
    inputs: Sequence[str | Path],
    output: str | Path | None,
    *,
    subfolders: Sequence[Path] | None = None,
) -> list[OutputNames]:
    """Name the outputs of every input, all different, before any work.

    Parameters
    ----------
    inputs : sequence of str or Path
        Movie files, zarr folders or patterns of a sequence.
    output : str, Path or None
        A ``.tif`` for a single input, a folder, or None for beside the input.
    subfolders : sequence of Path or None
        Folder of each input below the one that was searched; the output folder repeats it.

    Raises
    ------
    SettingsError
        If one TIF is named for several inputs, `output` is another kind of file, two inputs would
        write the same output, or an output would overwrite an input.
    """
    sources = [Path(source) for source in inputs]
    if output is not None and _names_tif(Path(output)):
        names = [_named_file(sources, Path(output))]
    else:
        below = subfolders if subfolders and output is not None else [Path()] * len(sources)
        folders = [_folder(s, output) / sub for s, sub in zip(sources, below, strict=True)]
        stems = _distinct_stems(sources, folders)
        names = [_in_folder(f, s) for f, s in zip(folders, stems, strict=True)]
    _refuse_overwrite(sources, names)
    return names


def tif_name(output: str | Path) -> Path:
    """Return the TIF that a name means: one without ``.tif`` or ``.tiff`` gets ``.tif``."""
    is_tif = Path(output).suffix.lower() in _TIF
    return Path(output) if is_tif else Path(f"{output}.tif")


def with_position(path: Path, positions: int) -> list[Path]:
    """Return one path a position: itself for one, else ``x_p000.tif``, ``x_p001.tif``."""
    if positions == 1:
        return [path]
    return [path.with_name(f"{path.stem}_p{p:03d}{path.suffix}") for p in range(positions)]


def is_own_output(path: Path) -> bool:
    """Tell whether a file or folder was written by this package (or is Cellpose's mask file)."""
    if _OWN_FILE.search(path.name):
        return True
    if path.suffix.lower() in _MARKED:
        return _is_marked(path)
    return path.suffix == ".zarr" and _is_result(path)


def _is_marked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return SOFTWARE.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _is_result(path: Path) -> bool:
    try:
        return "cypose_dask" in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _names_tif(output: Path) -> bool:
    return output.suffix.lower() in _TIF and not output.is_dir()


def _named_file(sources: Sequence[Path], tif: Path) -> OutputNames:
    if len(sources) > 1:
        raise SettingsError(
            f"-o {tif} names one file for {len(sources)} movies. Name a folder instead."
        )
    stem = _stem(tif.name)
    return OutputNames(tif, tif.with_name(f"{stem}.zarr"), tif.with_name(f"{stem}_run.json"))


def _in_folder(folder: Path, stem: str) -> OutputNames:
    return OutputNames(
        folder / f"{stem}_cp_masks.tif", folder / f"{stem}.zarr", folder / f"{stem}_run.json"
    )


def _folder(source: Path, output: str | Path | None) -> Path:
    if output is None:
        return _fixed_parent(_absolute_if_dots(source))
    folder, suffix = Path(output), Path(output).suffix.lower()
    looks_like_file = suffix in _NO_FOLDER and not folder.is_dir()
    if folder.is_file() or looks_like_file or suffix == ".zarr":
        raise SettingsError(f"-o {output} is no folder. Name a .tif, or a folder.")
    return folder


def _fixed_parent(path: Path) -> Path:
    """Return the folder of a path; for ``pos*/img.tif`` the last one without wildcards."""
    if not _is_pattern(path):
        return path.parent
    return next(p for p in path.parents if not _GLOB.search(str(p)) or p.exists())


def _distinct_stems(sources: Sequence[Path], folders: Sequence[Path]) -> list[str]:
    """Return the stems of the inputs; those that share a folder and a stem keep their extension."""
    full = [_full(source) for source in sources]
    stems = [_stem(name) for name in full]
    # Case folded, because the folder may lie on a disk that does not tell A from a.
    places = [f.resolve() for f in folders]
    seen = Counter((p, s.casefold()) for p, s in zip(places, stems, strict=True))
    kept = [
        s if seen[p, s.casefold()] == 1 else f for p, s, f in zip(places, stems, full, strict=True)
    ]
    twice = Counter((p, k.casefold()) for p, k in zip(places, kept, strict=True)).most_common(1)
    if twice and twice[0][1] > 1:
        (folder, name), count = twice[0]
        raise SettingsError(
            f"{count} inputs would write the same output {name!r} in {folder}. Segment them into "
            "different folders."
        )
    return kept


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name) or "sequence"


def _full(source: Path) -> str:
    """Return the file's name; a pattern loses its wildcards, or takes its folder's name."""
    source = _absolute_if_dots(source)
    if not _is_pattern(source):
        return source.name
    fixed = _WILDCARD.sub("", source.stem).strip("_-. ") or _fixed_parent(source).resolve().name
    return fixed + ("" if _GLOB.search(source.suffix) else source.suffix)


def _absolute_if_dots(source: Path) -> Path:
    return source.resolve() if source.name in ("", "..") else source


def _is_pattern(path: Path) -> bool:
    """Tell a pattern from a file whose name has brackets."""
    return bool(_GLOB.search(str(path))) and not path.exists()


def _refuse_overwrite(sources: Sequence[Path], names: Sequence[OutputNames]) -> None:
    known = {_identity(source) for source in sources}
    patterns = [source.absolute() for source in sources if _is_pattern(source)]
    for output in names:
        for path in (output.tif, output.zarr, output.run_json):
            if _identity(path) in known:
                raise SettingsError(
                    f"The output {path} would overwrite an input. Give another name with -o."
                )
        for pattern in patterns:
            if output.tif.absolute().match(str(pattern)) and not _OWN_FILE.search(output.tif.name):
                raise SettingsError(
                    f"The output {output.tif} would become a frame of its own input {pattern}. "
                    "Give another name or folder with -o."
                )


def _identity(path: Path) -> Hashable:
    """Return what two names of one file share, links and capitals included."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - says more than a resolved name
    except (OSError, ValueError):
        return path.absolute()
    return stat.st_dev, stat.st_ino
