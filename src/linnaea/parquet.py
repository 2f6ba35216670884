"""Read our own Parquet tables: the path is the name of one regular file, never a pattern."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.storage import check_regular

if TYPE_CHECKING:
    import polars as pl


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> "pl.DataFrame":
    """Return a Parquet file as a table.

    Raises:
        LinnaeaError: it is not a regular file.
        polars.exceptions.PolarsError, OSError: it cannot be read.
    """
    import polars as pl

    check_regular(path)
    return pl.read_parquet(path, columns=None if columns is None else list(columns), glob=False)


def scan_parquet(path: Path | Sequence[Path]) -> "pl.LazyFrame":
    """Return one or several Parquet files as a lazy table.

    Raises:
        LinnaeaError: one is not a regular file.
    """
    import polars as pl

    for one in [path] if isinstance(path, Path) else path:
        check_regular(one)
    return pl.scan_parquet(path if isinstance(path, Path) else list(path), glob=False)
