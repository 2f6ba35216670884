"""Read our own Parquet tables: the path is the name of one regular file, never a pattern."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnaea.errors import LinnaeaError
from linnaea.storage import check_regular

FREE_CELLS, CELLS_PER_BYTE = 50_000_000, 100
"""Cells that any file may hold, and more of them for each byte of a large file; real tables have less than one."""
FREE_BYTES, RATIO_AT_MOST = 100_000_000, 100
"""Bytes that any file may unpack to, and more of them for each byte of a large file."""

_PACKAGE = Path(__file__).parent

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


def read_stated(
    path: Path, schema: "Mapping[str, Any]", *, needed: Sequence[str] = (), filled: Sequence[str] = (), kind: str
) -> "pl.DataFrame":
    """Return a table that Linnaea wrote; those of its columns that ``schema`` has get the types there.

    Args:
        path: the file.
        schema: the type of each column.
        needed: columns that the table must have.
        filled: columns that must not have empty cells, if they are there.
        kind: what the file should be, for messages: ``"the index of a data set"``.

    Raises:
        LinnaeaError: it cannot be read, lacks a column, or a column holds something else.
    """
    import polars as pl

    check_regular(path)
    try:
        table = read_parquet(path)
    except FileNotFoundError as error:
        raise LinnaeaError(f"{path}: no such file; it should be {kind}") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(f"{path}: a damaged Parquet file; it should be {kind}") from error
    if missing := [name for name in needed if name not in table.columns]:
        raise LinnaeaError(f"{path}: has no column {', '.join(missing)}; it should be {kind}")
    columns = [
        _convert(path, table[name], schema[name], kind) if name in schema else table[name] for name in table.columns
    ]
    for column in columns:
        if column.name in filled and column.null_count():
            raise LinnaeaError(f"{path}: column {column.name} has empty cells; it should be {kind}")
    return pl.DataFrame(columns)


def _convert(path: Path, column: "pl.Series", wanted: Any, kind: str) -> "pl.Series":
    """Return a column with the type ``wanted``, if its own is of that sort."""
    import polars as pl

    has = column.dtype
    texts = (pl.String, pl.Categorical, pl.Enum)
    fits = (wanted in texts and has in texts) or (wanted.is_integer() and has.is_integer())
    if fits or has == pl.Null or (wanted.is_float() and has.is_numeric()) or has == wanted:
        try:
            return column.cast(wanted)
        except pl.exceptions.PolarsError:  # a number that is too large
            pass
    raise LinnaeaError(f"{path}: column {column.name} holds {has}, not {wanted}; it should be {kind}")


def _check(path: Path) -> None:
    """Check that a table is a file, and of a size in proportion to it; equal rows could fill any memory.

    Raises:
        LinnaeaError: it is not.
    """
    check_regular(path)
    if path.is_relative_to(_PACKAGE):  # as trusted as the code beside it, and read by every first answer
        return
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    try:
        facts = read_metadata(path)
        n_cells = facts.num_rows * facts.num_columns
        n_unpacked = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
    except (ArrowException, OSError):
        return  # reading it explains why
    n_bytes = path.stat().st_size
    if n_cells > FREE_CELLS and n_cells > CELLS_PER_BYTE * n_bytes:
        raise LinnaeaError(f"{path}: {n_bytes:,} bytes hold {n_cells:,} cells; refused")
    if n_unpacked > FREE_BYTES and n_unpacked > RATIO_AT_MOST * n_bytes:
        raise LinnaeaError(f"{path}: {n_bytes:,} bytes unpack to {n_unpacked:,}; refused")


def scan_parquet(path: Path | Sequence[Path]) -> "pl.LazyFrame":
    """Return one or several Parquet files as a lazy table.

    Raises:
        LinnaeaError: one is not a regular file.
    """
    import polars as pl

    for one in [path] if isinstance(path, Path) else path:
        _check(one)
    return pl.scan_parquet(path if isinstance(path, Path) else list(path), glob=False)
