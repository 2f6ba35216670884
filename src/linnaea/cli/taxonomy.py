"""``linnaea taxonomy``: resolve names into taxa, and explore checklists."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands, taxonomy_browse, taxonomy_changes
from linnaea.cli import list as listing
from linnaea.cli.console import progress_bar, say, tell
from linnaea.counting import agree, count
from linnaea.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Resolve:
    """Resolve a column of names into taxa with status and evidence."""

    input: tyro.conf.Positional[Path]
    """Table of names: CSV with any common separator, .tsv, .xlsx, Parquet, or .txt with one name per line."""
    column: str = ""
    """Column with the names; optional if the table has only one."""
    output: Path
    """File for the table with the added columns: .csv, .tsv or .parquet. Rows keep their order."""
    checklist: tuple[str, ...] = ("inat",)
    """Names or files of checklists, the preferred one first (linnaea taxonomy checklists)."""
    context: tuple[str, ...] = ()
    """Taxa that all names belong to, such as kingdom=Plantae class=Magnoliopsida. Columns named after the ranks kingdom
    to family are the context of their row."""
    processes: int = 2
    """Number of processes that resolve names."""

    def __post_init__(self) -> None:
        for pair in self.context:
            if not all(pair.partition("=")):
                raise ValueError(f"--context {pair!r} is not RANK=NAME, such as kingdom=Plantae")
        if self.output.suffix.lower() not in (".csv", ".tsv", ".parquet"):
            raise ValueError(f"--output {self.output}: write .csv, .tsv or .parquet")


def resolve(options: Resolve) -> int:
    """Resolve the names of a table, write the result, and print the number of names per status."""
    from linnaea.taxonomy.name_tables import read_name_table, write_resolved
    from linnaea.taxonomy.resolve import Resolver

    table = read_name_table(options.input, options.column)
    context = dict(pair.split("=", 1) for pair in options.context)
    resolver = Resolver.of(options.checklist, context={k.strip().lower(): v.strip() for k, v in context.items()})
    with progress_bar("resolving", "names") as on_progress:
        resolved = resolver.resolve(
            table.names, given=table.given, processes=options.processes, on_progress=on_progress
        )
    written = write_resolved(table, resolver.add_common_names(resolved), options.output)
    counts = written["status"].value_counts(sort=True)
    say(f"{options.output}: " + ", ".join(f"{n:,} {status}" for status, n in counts.iter_rows()))
    if table.n_unreadable:
        say(
            f"{count(table.n_unreadable, 'row')} could not be read;"
            f" {agree(table.n_unreadable, 'it is', 'they are')} kept with the reason in the column note"
        )
    return SOME_FAILED if table.n_unreadable else DONE


@dataclass(frozen=True, kw_only=True)
class Checklists:
    """List the available checklists, or import one from a file."""

    add: Path | None = None
    """File or folder to import: Darwin Core Archive, ColDP, ITIS.sqlite, NCBI dump or CSV."""
    name: str = ""
    """Name of the imported checklist; the file's name if not given."""
    show: str = ""
    """Name or file of a checklist to describe: version, taxa per rank, synonyms, languages."""


def checklists(options: Checklists) -> int:
    """List the checklists, import one, or describe one."""
    from linnaea.taxonomy.checklists.store import import_checklist, load_checklist

    if options.name and options.add is None:
        raise UsageError("--name needs --add FILE")
    if options.add is not None:
        made = import_checklist(options.add, options.name or options.add.name.split(".")[0])
        for line in made.report.lines() if made.report else ():
            say(line)
        say(f"imported {made.summary}")
        return DONE
    if options.show:
        _describe(load_checklist(options.show))
        return DONE
    return listing.checklists(listing.Checklists())


def _describe(checklist: Any) -> None:
    import polars as pl

    from linnaea.taxonomy.ranks import Rank

    tell(f"{checklist.name} {checklist.version}")
    for rank, n in checklist.taxa["rank"].value_counts().sort("rank").iter_rows():
        tell(f"  {Rank(rank).label:<10}{n:>12,}")
    tell(f"  {'synonyms':<10}{checklist.synonyms.height:>12,}")
    languages = checklist.vernaculars["language"].value_counts(sort=True).filter(pl.col("language") != "")
    tell(f"  {'vernacular':<10}{checklist.vernaculars.height:>12,}")
    for language, n in languages.head(12).iter_rows():
        tell(f"    {language:<8}{n:>12,}")


COMMANDS: Commands = {
    "resolve": (Resolve, resolve),
    **taxonomy_browse.COMMANDS,
    **taxonomy_changes.COMMANDS,
    "checklists": (Checklists, checklists),
}
