"""Print messages while a command runs, and the inputs that failed.

Messages and progress (:mod:`linnaea.progress`) go to standard error; results go to standard output.
"""

import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console

from linnaea.cli import DONE, FAILED, SOME_FAILED
from linnaea.progress import progress_bar as progress_bar  # noqa: PLC0414  (re-exported)
from linnaea.progress import visible

STANDARD_OUTPUT = Path("stdout")
"""pybioclip's word for standard output, as a value of ``--output``."""

results = Console(highlight=False)


def say(message: str) -> None:
    """Print a message to standard error."""
    print(visible(message), file=sys.stderr, flush=True)


def tell(message: str, *, flush: bool = False) -> None:
    """Print a result to standard output."""
    print(visible(message), flush=flush)


class Terminal:
    """Standard output for machines that happens to be a terminal: it gets no control characters."""

    def write(self, text: str) -> int:
        return sys.stdout.write(visible(text))


def machine_output() -> "Terminal | TextIO":
    """Return the stream for results in a format for machines: exact in a pipe or file, harmless in a terminal."""
    return Terminal() if sys.stdout.isatty() else sys.stdout


def warn(message: str) -> None:
    """Print a one-line warning to standard error."""
    print(f"linnaea: {visible(' '.join(message.split()))}", file=sys.stderr, flush=True)


def report_failed(failed: Sequence[str], n_inputs: int) -> int:
    """Print the first ten failed inputs of a batch, and return the exit code."""
    for line in failed[:10]:
        warn(line)
    if len(failed) > 10:
        warn(f"... and {len(failed) - 10} more; each is a row with its reason")
    if not failed:
        return DONE
    return FAILED if len(failed) == n_inputs else SOME_FAILED


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()) -> None:
    """Print rows under their column names: formatted in a terminal, tab-separated in a pipe.

    Columns in ``right`` are right-aligned.
    """
    cells = [["" if cell is None else visible(str(cell)) for cell in row] for row in rows]
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
        table.add_row(*(Text(cell) for cell in line))  # a name may contain [brackets]
    results.print(table)
