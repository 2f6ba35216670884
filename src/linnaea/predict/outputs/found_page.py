"""Files of what a search found: a page with the photographs, or a table."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.counting import count
from linnaea.errors import UsageError
from linnaea.page import Card, Cards, Page, Section
from linnaea.predict.index import Hit
from linnaea.predict.outputs.contact_sheet import make_thumbnail, without_shared_folder
from linnaea.predict.outputs.rows import printable
from linnaea.storage import atomic_path

Pair = tuple[str, str, float]
"""Two photographs and their cosine."""


def check_found_path(path: Path) -> None:
    """Raise UsageError for an ending that :func:`write_found` does not know."""
    if path.suffix.lower() not in (".html", ".csv"):
        raise UsageError(f"--output {path}: must end in .html or .csv")


def write_found(path: Path, title: str, hits: Sequence[Hit], pairs: Sequence[Pair] = ()) -> None:
    """Write photographs with their scores, best first, or pairs of them.

    Raises:
        UsageError: the ending is neither .html nor .csv.
        LinnaeaError: the file cannot be written.
    """
    check_found_path(path)
    if path.suffix.lower() == ".html":
        shown = [(hit.name, f"{hit.score:.3f}") for hit in hits]
        for number, (first, second, score) in enumerate(pairs, start=1):
            shown += [(name, f"pair {number}: {score:.3f}") for name in (first, second)]
        file_of = without_shared_folder([printable(name) for name, _ in shown])
        cards = [Card(make_thumbnail(name), alt=printable(name), lines=[line], file=file_of[printable(name)])
                 for name, line in shown]  # fmt: skip
        words = f"{len(pairs):,} pairs" if pairs else f"{count(len(hits), 'photograph')}, most similar first"
        Page(title, words, [Section("Found", [Cards(cards, width=200)])]).write(path)
        return
    rows = [{"score": hit.score, "photograph": printable(hit.name)} for hit in hits]
    rows += [{"score": score, "first": printable(a), "second": printable(b)} for a, b, score in pairs]
    with atomic_path(path) as partial:
        pl.DataFrame(rows).write_csv(partial)
