"""What a person sees while a command runs: messages and the inputs that failed.

Progress (:mod:`linnaea.progress`) and messages go to standard error; standard output is for results.
"""

import sys
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console

from linnaea.cli import DONE, FAILED, SOME_FAILED
from linnaea.progress import progress_bar as progress_bar  # noqa: PLC0414  (offered here too)

results = Console(highlight=False)


def say(message: str) -> None:
    """A message for the person, on standard error."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """One line about something that did not go as it should, on standard error."""
    print(f"linnaea: {' '.join(message.split())}", file=sys.stderr, flush=True)


def report_failed(failed: Sequence[str], n_inputs: int) -> int:
    """Name the inputs of a batch that failed, the first ten of them; returns the exit code."""
    for line in failed[:10]:
        warn(line)
    if len(failed) > 10:
        warn(f"... and {len(failed) - 10} more; every one is a row with its reason")
    if not failed:
        return DONE
    return FAILED if len(failed) == n_inputs else SOME_FAILED


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print rows under their columns; those in ``right`` are numbers."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not results.is_terminal:
        for line in [list(columns), *cells]:
            print("\t".join(" ".join(cell.split()) for cell in line))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))  # a name may hold [brackets]
    results.print(table)
