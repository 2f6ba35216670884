"""A page with the photographs and their answers."""

from collections.abc import Iterable
from itertools import islice

import numpy as np

from linnaea.data.images import ImageError
from linnaea.page import Card, Cards, Page, Section, Text
from linnaea.predict.inputs import find_input
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.pictures import make_small_jpeg
from linnaea.predict.outputs.rows import Row, Writable, box_of, by_photograph, finest_name

CARDS_AT_MOST = 2_000
THUMBNAIL = 220
"""The longer side of a photograph on a page, in pixels."""


def write_contact_sheet(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write a page with at most :data:`CARDS_AT_MOST` photographs and their answers; a line counts the rest."""
    groups = by_photograph(rows)
    cards = [_card(name, of_one) for name, of_one in islice(groups, CARDS_AT_MOST)]
    n_more = sum(1 for _ in groups)
    words = f"{len(cards):,} photographs" + (f"; {n_more:,} more are not shown" if n_more else "")
    note = "The percentages are the model's probabilities among its labels."
    page = Page("Predictions", words, [Section("Photographs", [Text(note), Cards(cards, width=180)])])
    stream.write(page.html())


def _card(name: str, of_one: list[Row]) -> Card:
    lines = [f"{finest_name(row)} ({_how_sure(row)})" for row in of_one[:3] if row["status"] == "ok"]
    lines = lines or [f"{of_one[0]['status']}: {of_one[0]['reason']}"]
    common = of_one[0]["common_name"]
    return Card(_thumbnail(name, of_one[0]), alt=name, lines=[lines[0], *([common] if common else []), *lines[1:],
                                                              name.rpartition("/")[2]])  # fmt: skip


def _how_sure(row: Row) -> str:
    return f"{row['score']:.0%}" if row["score"] is not None else "by a reviewer"


def _thumbnail(name: str, row: Row) -> bytes:
    """Return a small JPEG of the photograph, or a grey one if it cannot be read."""
    try:
        picture = find_input(name, box_of(row) if row["bbox"] else None).load(THUMBNAIL)
    except ImageError:
        picture = np.full((THUMBNAIL * 3 // 4, THUMBNAIL, 3), 200, np.uint8)
    return make_small_jpeg(picture, THUMBNAIL)
