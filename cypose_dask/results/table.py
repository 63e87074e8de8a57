"""Tables of columns as CSV or Parquet, written part by part, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.results.atomic import whole_file

__all__ = ["Columns", "require_table_name", "table_file"]

Columns = Mapping[str, np.ndarray]
_ENDINGS = (".csv", ".parquet")


def require_table_name(path: Path) -> None:
    """Raise SettingsError unless a name ends in ``.csv`` or ``.parquet``."""
    if path.suffix.lower() not in _ENDINGS:
        raise SettingsError(
            f"{path} names no table; expected a name that ends in .csv or .parquet."
        )


@contextmanager
def table_file(path: Path) -> Iterator[Callable[[Columns], None]]:
    """Yield a function that appends rows to a table, which appears when all are there.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.parquet``; what was there is replaced.

    Yields
    ------
    callable
        Takes columns of equal length, the same ones each time; NaN becomes an empty field.

    Raises
    ------
    SettingsError
        If the name has another ending.
    ResultError
        If it cannot be written. What was there before stays.
    """
    require_table_name(path)
    try:
        with whole_file(path) as partial, ExitStack() as stack:
            writers: list[Any] = []

            def append(columns: Columns) -> None:
                rows = _table(columns)
                if not writers:
                    made = _writer(partial, rows.schema, is_csv=path.suffix.lower() == ".csv")
                    writers.append(stack.enter_context(made))
                writers[0].write_table(rows)

            yield append
    except OSError as error:
        raise ResultError(
            f"{path}: could not be written ({error.strerror or error}). Nothing was kept. Make "
            "room or choose another place, and run again."
        ) from error


def _table(columns: Columns) -> Any:
    import pyarrow as pa

    # Objects are text; without rows, pyarrow could not know.
    kinds = {n: pa.string() if v.dtype == object else None for n, v in columns.items()}
    return pa.table({n: pa.array(v, kinds[n], from_pandas=True) for n, v in columns.items()})


def _writer(path: Path, schema: Any, *, is_csv: bool) -> Any:
    from pyarrow.csv import CSVWriter
    from pyarrow.parquet import ParquetWriter

    return CSVWriter(path, schema) if is_csv else ParquetWriter(path, schema, compression="zstd")
