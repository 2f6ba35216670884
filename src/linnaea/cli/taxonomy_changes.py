"""``linnaea taxonomy diff | migrate``: compare two checklists, and migrate labels from one to the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say, show_table
from linnaea.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".csv", ".tsv", ".parquet")
N_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Print the changes from one checklist to another, each with its evidence."""

    old: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="OLD")]]
    """Name or file of the older checklist (see `linnaea taxonomy checklists`)."""
    new: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NEW")]]
    """Name or file of the newer checklist."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File for all changes (.csv, .tsv or .parquet). If not given, some changes of each kind are printed."""


def diff(options: Diff) -> int:
    """Print counts and examples of the changes, or write all of them."""
    from linnaea.taxonomy.changes import KINDS
    from linnaea.taxonomy.changes import diff as compare
    from linnaea.taxonomy.checklists.store import load_checklist

    if options.output is not None:
        _check_suffix(options.output)
    changes = compare(load_checklist(options.old), load_checklist(options.new))
    counts = dict(changes["kind"].value_counts().iter_rows())
    if options.output is not None:
        _write_table(changes, options.output)
    elif changes.height:
        columns = ("kind", "rank", "old_name", "new_name", "evidence")
        shown = [changes.filter(changes["kind"] == kind).head(N_SHOWN).select(columns).rows() for kind in KINDS]
        show_table([column.replace("_", " ") for column in columns], [row for rows in shown for row in rows])
        if any(n > N_SHOWN for n in counts.values()):
            say(f"Only the first {N_SHOWN} of each kind are shown; --output FILE writes all.")
    say(f"{changes.height} changes" + _counted({kind: counts.get(kind, 0) for kind in KINDS}))
    return DONE


def _counted(counts: Mapping[str, int]) -> str:
    said = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return f": {said}" if said else ""


@dataclass(frozen=True, kw_only=True)
class Migrate:
    """Migrate the labels of a table or a data set to another version of the taxonomy; images are not changed."""

    input: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="IN")]]
    """A table (CSV, TSV, .xlsx or Parquet), or the folder of a data set."""
    old: Annotated[str, tyro.conf.arg(name="from", metavar="OLD")]
    """Name or file of the checklist that the labels come from."""
    new: Annotated[str, tyro.conf.arg(name="to", metavar="NEW")]
    """Name or file of the checklist to migrate to."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="OUT")] = None
    """File or folder for the result. If not given, a data set is changed in place."""
    column: str = ""
    """Column with the labels; not needed if there are columns named after ranks."""


def migrate(options: Migrate) -> int:
    """Migrate a table or a data set, and print the number of labels per status; the counts add up to all labels."""
    from linnaea.taxonomy.checklists.store import load_checklist
    from linnaea.taxonomy.migrate import Migration, count_statuses, migrate_labels

    folder = options.input.is_dir()
    if not folder:
        if options.output is None:
            raise UsageError("--output is required to migrate a table; give --output FILE")
        _check_suffix(options.output)
        table, headers = _read_table(options.input, options.column)
    migration = Migration.between(load_checklist(options.old), load_checklist(options.new))
    if folder:
        from linnaea.data.migration import migrate_data_set

        counts = migrate_data_set(options.input, migration, output=options.output)
        print(f"{sum(counts.values())} taxa{_counted(counts)}")
        return DONE
    assert options.output is not None
    result = migrate_labels(table, migration, column=options.column)
    _write_table(result.rename(headers), options.output)
    print(f"{result.height} labels{_counted(count_statuses(result))}")
    return DONE


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: unknown file type; choose one of {', '.join(SUFFIXES)}")


def _read_table(path: Path, column: str) -> "tuple[pl.DataFrame, dict[str, str]]":
    """Return the table with the column names of the migration, and a dict from those names to the file's."""
    from linnaea.tables import match_columns, need_columns, read_table
    from linnaea.taxonomy.columns import NAME_COLUMNS

    table = read_table(path, as_text=False).rows
    known = match_columns(table.columns, (column, *NAME_COLUMNS))
    table = table.rename(known)
    need_columns(table.columns, path, column)
    return table, {ours: theirs for theirs, ours in known.items()}


def _write_table(table: "pl.DataFrame", path: Path) -> None:
    from linnaea.storage import atomic_path

    with atomic_path(path) as partial:
        if path.suffix.lower() == ".parquet":
            table.write_parquet(partial)
        else:
            table.write_csv(partial, separator="\t" if path.suffix.lower() == ".tsv" else ",")


COMMANDS: Commands = {"diff": (Diff, diff), "migrate": (Migrate, migrate)}
