"""``linnaea compare RUN... --output DIR``: evaluations side by side, with published numbers and error bars."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import progress_bar, say
from linnaea.cli.tables import show_table


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare evaluations with one another and with published numbers."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `linnaea evaluate` wrote, also with --task all."""
    output: Path
    """Folder for compare.html, compare.md, scores.csv and differences.csv."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("give at least one folder that `linnaea evaluate` wrote")


def compare(options: Compare) -> int:
    """Read the runs, test their differences, write tables and page."""
    import polars as pl

    from linnaea.evaluate.comparison import (
        as_markdown,
        compare_runs,
        format_cell,
        published_tables,
        read_published,
        read_runs,
        tabulate_scores,
        wide_tables,
    )
    from linnaea.evaluate.comparison_page import write_comparison
    from linnaea.storage import write_atomically

    runs = read_runs(options.runs)
    with progress_bar("comparing", "pairs") as on_progress:
        pairs = compare_runs(runs, on_progress=on_progress)
    scores = pl.concat([tabulate_scores(runs), read_published()])
    tables = wide_tables(scores)
    write_atomically(options.output / "scores.csv", scores.write_csv())
    write_atomically(options.output / "differences.csv", pairs.write_csv())
    write_atomically(options.output / "compare.md", as_markdown(tables, pairs))
    page = write_comparison(options.output, scores, pairs, tables, published_tables())
    for name, table in tables.items():
        say(f"{name} (%)")
        rows = [[format_cell(value) for value in row] for row in table.iter_rows()]
        show_table(table.columns, rows, right=table.columns[2:])
    for row in pairs.iter_rows(named=True):
        say(f"{row['what']}, {row['score']}: {row['second']} against {row['first']}: {row['verdict']}")
    print(f"report: {page}", flush=True)
    return DONE


COMMANDS: Commands = {"": (Compare, compare)}
