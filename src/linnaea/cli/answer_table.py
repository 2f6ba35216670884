"""The table of answers that ``linnaea predict`` prints in a terminal."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.cli.console import results
from linnaea.progress import visible

if TYPE_CHECKING:
    from rich.table import Table

    from linnaea.predict.outputs.rows import Row

LINEAGE: tuple[str, ...] = ("family", "order", "class", "phylum", "kingdom")
"""The columns of the lineage, in the order in which they are shown as far as they fit."""

NARROWEST = 12
"""The width from which on file names are not shortened any further, but wrapped."""


def print_answers(rows: "Sequence[Row]") -> None:
    """Print a table that never cuts names of taxa; long file names are shortened in the middle."""
    from rich import box
    from rich.table import Column, Table

    for_names, ranks = _lay_out(rows)
    columns = [
        Column("photograph", no_wrap=for_names > NARROWEST),
        Column("answer", no_wrap=True),
        Column("common name", max_width=24),
        Column("rank", no_wrap=True),
        Column("probability", no_wrap=True, justify="right"),
    ]
    table = Table(*columns, *(Column(rank, no_wrap=True) for rank in ranks), box=box.SIMPLE_HEAD, pad_edge=False)
    last = ""
    for row in rows:
        is_next, last = row["file_name"] != last, row["file_name"]
        _add_row(table, shorten(_file_of(row), for_names) if is_next else "", row, ranks)
    results.print(table)


def _lay_out(rows: "Sequence[Row]") -> tuple[int, list[str]]:
    """Return the width for file names beside the answers, and the ranks of the lineage for which there is room."""
    answered = [row for row in rows if row["status"] == "ok"]
    beside = (row["common_name"] if row["status"] == "ok" else row["reason"] for row in rows)
    common = min(24, _widest("common name", beside))
    left = results.width - 32 - _widest("answer", map(_answer, answered)) - common
    for_names = max(NARROWEST, min(40, left, _widest("photograph", map(_file_of, rows))))
    left, ranks = left - for_names, []
    for rank in LINEAGE:
        left -= 3 + _widest(rank, (row[rank] for row in answered))
        if left < 0:
            break
        ranks.append(rank)
    return for_names, ranks


def _widest(heading: str, cells: Iterable[str]) -> int:
    from rich.cells import cell_len

    return max(map(cell_len, (heading, *cells)))


def _file_of(row: "Row") -> str:
    return visible(Path(row["file_name"]).name)


def _answer(row: "Row") -> str:
    from linnaea.predict.outputs.rows import class_name

    return class_name(row)


def _add_row(table: "Table", name: str, row: "Row", ranks: list[str]) -> None:
    if row["status"] != "ok":
        table.add_row(_escape(name), f"[dim]{row['status']}[/]", f"[dim]{_cell(row['reason'])}[/]")
        return
    answer = _answer(row)
    common = row["common_name"] if row["common_name"] != answer else ""
    lineage = (row[rank] if row[rank] != answer else "" for rank in ranks)
    sure = "reviewed" if row["score"] is None else f"{row['score']:.1%}"
    table.add_row(_escape(name), *map(_cell, (answer, common, row["rank"], sure, *lineage)))
    if name and row["reason"]:
        table.add_row("", f"[dim]note: {_cell(row['reason'])}[/]")


def shorten(name: str, width: int) -> str:
    """Return a name in at most ``width`` columns of a terminal; what does not fit is cut out of its middle."""
    from rich.cells import cell_len

    if cell_len(name) <= width:
        return name
    head, tail = "", ""
    while True:  # a column for the head, then two for the tail, where numbers and endings are
        longer = (name[: len(head) + 1], tail) if 2 * len(head) <= len(tail) else (head, name[-len(tail) - 1 :])
        if cell_len("…".join(longer)) > width:
            return f"{head}…{tail}"
        head, tail = longer


def _cell(text: str) -> str:
    return _escape(visible(text))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
