"""Tables on standard output: drawn for a person at a terminal, tab-separated for a program behind a pipe."""

from collections.abc import Collection, Iterable, Sequence

from linnaea.cli.console import results


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
