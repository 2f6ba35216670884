"""Files of what a search found: a page with the photographs, or a table."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.errors import UsageError
from linnaea.page import Card, Cards, Page, Section
from linnaea.predict.index import Hit
from linnaea.predict.outputs.contact_sheet import make_thumbnail
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
        cards = [_card(hit.name, f"{hit.score:.3f}") for hit in hits]
        for number, (first, second, score) in enumerate(pairs, start=1):
            cards += [_card(name, f"pair {number}: {score:.3f}") for name in (first, second)]
        words = f"{len(pairs):,} pairs" if pairs else f"{len(hits):,} photographs, most similar first"
        Page(title, words, [Section("Found", [Cards(cards, width=200)])]).write(path)
        return
    rows = [{"score": hit.score, "photograph": printable(hit.name)} for hit in hits]
    rows += [{"score": score, "first": printable(a), "second": printable(b)} for a, b, score in pairs]
    with atomic_path(path) as partial:
        pl.DataFrame(rows).write_csv(partial)


def _card(name: str, words: str) -> Card:
    return Card(make_thumbnail(name), alt=printable(name), lines=[words], file=printable(name).rpartition("/")[2])
