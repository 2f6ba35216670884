"""``linnaea compare RUN... --output DIR``: compare evaluations, with published numbers and error bars."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say, show_table, tell
from linnaea.counting import count


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare evaluations with one another and with published numbers."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `linnaea evaluate` wrote, including with --task all."""
    output: Path
    """Folder for compare.html, compare.md, scores.csv and differences.csv."""
    structure: bool = False
    """Show the t-SNE panels of all models side by side (figure 5 of the paper), and how far their vectors reflect the
    tree. Needs evaluations with --structure."""


def compare(options: Compare) -> int:
    """Compare the runs, and print the tables and the verdicts."""
    from linnaea.evaluate.comparison import compare
    from linnaea.evaluate.comparison_page import format_cell, round_scores

    found = compare(**vars(options))
    for name, table in found.tables.items():
        say(f"{name} (%)")
        rows = [[format_cell(value) for value in row] for row in table.iter_rows()]
        show_table(table.columns, rows, right=table.columns[2:])
    if found.structure_scores is not None:
        say("the tree in the vectors")
        cells = [list(row.values()) for row in round_scores(found.structure_scores)]
        show_table(found.structure_scores.columns, cells, right=found.structure_scores.columns[2:])
    for row in found.pairs.iter_rows(named=True):
        over = "" if row["n_classes"] is None else f" ({count(row['n_classes'], 'class')})"
        say(f"{row['what']}, {row['score']}: {row['second']} against {row['first']}: {row['verdict']}{over}")
    tell(f"report: {found.report_path}", flush=True)
    return DONE


COMMANDS: Commands = {"": (Compare, compare)}
