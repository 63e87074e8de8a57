"""Where outputs go, and which files are outputs.

::

    -o x.tif   ->  x.tif, x.zarr, x.journal.jsonl, x_run.json
    -o dir/    ->  dir/NAME_cp_masks.tif, dir/NAME.zarr, dir/NAME.journal.jsonl, dir/NAME_run.json
    no -o      ->  the same beside the input
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cypose_dask.errors import SettingsError

__all__ = ["OutputNames", "is_own_output", "output_names", "with_position"]

_TIF = (".tif", ".tiff")
_OWN_FILE = re.compile(
    r"(_cp_masks(_p\d{3,})?\.tiff?|\.(flow|prob)\.tif|_run\.json|\.journal\.jsonl|\.partial)$", re.I
)
_GLOB = re.compile(r"[*?\[]")


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
    return store.with_name(f"{store.name.removesuffix('.zarr')}.journal.jsonl")


def output_names(inputs: Sequence[str | Path], output: str | Path | None) -> list[OutputNames]:
    """Name the outputs of every input, all different, before any work.

    Parameters
    ----------
    inputs : sequence of str or Path
        Movie files, zarr folders or patterns of a sequence.
    output : str, Path or None
        A ``.tif`` for a single input, a folder, or None for beside the input.

    Raises
    ------
    SettingsError
        If one TIF is named for several inputs, or an output would overwrite an input.
    """
    if output is not None and Path(output).suffix.lower() in _TIF:
        names = [_named_file(inputs, Path(output))]
    else:
        folder = None if output is None else Path(output)
        stems = _distinct_stems(inputs)
        names = [_in_folder(folder or _folder_of(i), s) for i, s in zip(inputs, stems, strict=True)]
    _refuse_overwrite(inputs, names)
    return names


def with_position(path: Path, positions: int) -> list[Path]:
    """Return one path a position: itself for one, else ``x_p000.tif``, ``x_p001.tif``."""
    if positions == 1:
        return [path]
    return [path.with_name(f"{path.stem}_p{p:03d}{path.suffix}") for p in range(positions)]


def is_own_output(path: Path) -> bool:
    """Tell whether a file or folder was written by this package (or is Cellpose's mask file)."""
    if _OWN_FILE.search(path.name):
        return True
    if path.suffix != ".zarr":
        return False
    try:
        return '"cypose_dask"' in (path / "zarr.json").read_text()
    except OSError:
        return False


def _named_file(inputs: Sequence[str | Path], tif: Path) -> OutputNames:
    if len(inputs) > 1:
        raise SettingsError(
            f"-o {tif} names one file for {len(inputs)} movies. Name a folder instead."
        )
    return OutputNames(tif, tif.with_suffix(".zarr"), tif.with_name(f"{tif.stem}_run.json"))


def _in_folder(folder: Path, stem: str) -> OutputNames:
    return OutputNames(
        folder / f"{stem}_cp_masks.tif", folder / f"{stem}.zarr", folder / f"{stem}_run.json"
    )


def _folder_of(source: str | Path) -> Path:
    return Path(source).parent


def _distinct_stems(inputs: Sequence[str | Path]) -> list[str]:
    """Return the stems of the inputs; those that several share keep their extension."""
    stems = [_stem(i) for i in inputs]
    seen = Counter(stem.casefold() for stem in stems)
    kept = [s if seen[s.casefold()] == 1 else _full(i) for s, i in zip(stems, inputs, strict=True)]
    twice = [name for name, count in Counter(k.casefold() for k in kept).items() if count > 1]
    if twice:
        raise SettingsError(
            f"Several inputs would write the same output {twice[0]!r}. Segment them into different "
            "folders."
        )
    return kept


def _stem(source: str | Path) -> str:
    name = _full(source)
    return re.sub(r"(\.ome)?\.(zarr|nd2|tiff?|btf|tf8|png)$", "", name, flags=re.I) or "sequence"


def _full(source: str | Path) -> str:
    """Return the file's name; a pattern loses its wildcards, or takes its folder's name."""
    path = Path(source)
    if not _GLOB.search(path.name):
        return path.name
    fixed = re.sub(r"\[[^\]]*\]|[*?]+", "", path.stem).strip("_-. ")
    return fixed or path.resolve().parent.name


def _refuse_overwrite(inputs: Sequence[str | Path], names: Sequence[OutputNames]) -> None:
    sources = {Path(source).resolve() for source in inputs}
    for output in names:
        for path in (output.tif, output.zarr):
            if path.resolve() in sources:
                raise SettingsError(
                    f"The output {path} would overwrite its own input. Give another name with -o."
                )
