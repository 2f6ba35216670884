"""Read our own Parquet tables: the path is the name of one regular file, never a pattern."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.errors import LinnaeaError
from linnaea.storage import check_regular

FREE_CELLS, CELLS_PER_BYTE = 50_000_000, 100
"""Cells that any file may hold, and more of them for each byte of a large file; real tables have less than one."""

if TYPE_CHECKING:
    import polars as pl


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> "pl.DataFrame":
    """Return a Parquet file as a table.

    Raises:
        LinnaeaError: it is not a regular file.
        polars.exceptions.PolarsError, OSError: it cannot be read.
    """
    import polars as pl

    _check(path)
    return pl.read_parquet(path, columns=None if columns is None else list(columns), glob=False)


def _check(path: Path) -> None:
    """Check that a table is a file, and of a size in proportion to it; equal rows could fill any memory.

    Raises:
        LinnaeaError: it is not.
    """
    import polars as pl

    check_regular(path)
    try:
        table = pl.scan_parquet(path, glob=False)
        n_cells = table.select(pl.len()).collect().item() * len(table.collect_schema())
    except (pl.exceptions.PolarsError, OSError):
        return  # reading it explains why
    n_bytes = path.stat().st_size
    if n_cells > FREE_CELLS and n_cells > CELLS_PER_BYTE * n_bytes:
        raise LinnaeaError(f"{path}: {n_bytes:,} bytes hold {n_cells:,} cells; refused")


def scan_parquet(path: Path | Sequence[Path]) -> "pl.LazyFrame":
    """Return one or several Parquet files as a lazy table.

    Raises:
        LinnaeaError: one is not a regular file.
    """
    import polars as pl

    for one in [path] if isinstance(path, Path) else path:
        _check(one)
    return pl.scan_parquet(path if isinstance(path, Path) else list(path), glob=False)
