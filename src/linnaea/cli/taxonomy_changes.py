"""``linnaea taxonomy diff | migrate``: compare two checklists, and migrate labels from one to the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say, show_table, tell, warn
from linnaea.counting import count

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
    from linnaea.tables import check_table_name, write_table
    from linnaea.taxonomy.browse import diff_checklists
    from linnaea.taxonomy.changes import KINDS

    if options.output is not None:
        check_table_name(options.output)
    changes = diff_checklists(options.old, options.new)
    counts = dict(changes["kind"].value_counts().iter_rows())
    if options.output is not None:
        write_table(changes, options.output)
    elif changes.height:
        columns = ("kind", "rank", "old_name", "new_name", "evidence")
        shown = [changes.filter(changes["kind"] == kind).head(N_SHOWN).select(columns).rows() for kind in KINDS]
        show_table([column.replace("_", " ") for column in columns], [row for rows in shown for row in rows])
        if any(n > N_SHOWN for n in counts.values()):
            say(f"Only the first {N_SHOWN} of each kind are shown; --output FILE writes all.")
    say(f"{count(changes.height, 'change', '')}" + _counted({kind: counts.get(kind, 0) for kind in KINDS}))
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
    from linnaea.data.migration import migrate

    chosen = dict(vars(options))
    done = migrate(chosen.pop("input"), **chosen)
    n = sum(done.counts.values())
    tell(f"{count(n, 'taxon' if options.input.is_dir() else 'label', '')}{_counted(done.counts)}")
    if n and n == done.counts.get("unknown", 0) + done.counts.get("empty", 0):
        which = f"the column {options.column}" if options.column else "no --column was given"
        warn(f"{options.input}: none of its names is in either checklist; check these and the column ({which})")
    return DONE


COMMANDS: Commands = {"diff": (Diff, diff), "migrate": (Migrate, migrate)}
