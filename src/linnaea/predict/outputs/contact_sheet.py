"""A page with the photographs and their answers, to look through, filter and sort."""

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from linnaea.counting import count
from linnaea.data.images import ImageError
from linnaea.page import Card, Cards, Facts, Page, Section, Text
from linnaea.predict.inputs import Box, count_shared_folders, find_input
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.pictures import make_small_jpeg
from linnaea.predict.outputs.rows import Row, Writable, box_of, by_photograph, class_name, finest_name, probability_of
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

CARDS_AT_MOST = 2_000
THUMBNAIL = 320
"""The longer side of a photograph on a page, in pixels."""

WORDS = {"ok": "named", "abstained": "no answer", "failed": "cannot be read"}
"""The words of the page for each status."""

CALIBRATED = {
    True: "The percentages are calibrated: of the answers with 90%, about 90% are right for photographs like those of"
    " the calibration.",
    False: "The percentages are not calibrated: they are the model's own probabilities among its labels, and may be far"
    " from how often it is right. `linnaea labels calibrate` corrects them.",
    None: "The percentages are probabilities among the labels.",
}


def write_contact_sheet(stream: Writable, rows: Iterable[Row], context: Context) -> None:
    """Write a page with at most :data:`CARDS_AT_MOST` photographs and their answers; a line counts the rest."""
    groups = by_photograph(rows)
    shown = list(islice(groups, CARDS_AT_MOST))
    file_of = without_shared_folder([name for name, _ in shown])
    cards = [_card(name, of_one, context, file_of[name]) for name, of_one in shown]
    n_more = sum(1 for _ in groups)
    words = count(len(cards), "photograph") + (f"; {n_more:,} more are not shown" if n_more else "")
    facts = {
        "named": sum(of_one[0]["status"] == "ok" for _, of_one in shown),
        "without an answer": sum(of_one[0]["status"] == "abstained" for _, of_one in shown),
        "cannot be read": sum(of_one[0]["status"] == "failed" for _, of_one in shown),
        "taxa": len({finest_name(of_one[0]) for _, of_one in shown if of_one[0]["status"] == "ok"}),
    }
    note = Text(CALIBRATED[context.calibrated])
    sections = [Section("Photographs", [Facts(facts), note, Cards(cards, width=230, browsed=True)])]
    stream.write(Page("Predictions", words, sections).html())


def without_shared_folder(names: Sequence[str]) -> dict[str, str]:
    """Return what tells each name from the others: without the folders that all of them begin with."""
    parts = [tuple(name.split("/")) for name in names]
    n_shared = count_shared_folders(parts)
    return {name: "/".join(part[n_shared:]) for name, part in zip(names, parts, strict=True)}


def _card(name: str, of_one: list[Row], context: Context, file: str) -> Card:
    first = of_one[0]
    picture = context.pictures.get(name) or make_thumbnail(name, box_of(first))
    lineage = [first[label] for label in RANK_LABELS[: Rank.SPECIES] if first[label]]
    facts = {"status": WORDS[first["status"]], "rank": first["rank"], "certainty": _certainty(first),
             "lineage": [*lineage, first["species"]], "name": name}  # fmt: skip
    if first["status"] != "ok":
        lines = [WORDS[first["status"]], first["reason"]]
        return Card(picture, alt=name, lines=lines, latin=_latin(of_one), file=file, facts=facts)
    lines = [f"{class_name(first)} ({_how_sure(first)})"]
    lines += [text for text in (first["common_name"], first["rank"]) if text]
    lines.append(" › ".join(one for one in lineage if one != finest_name(first)))
    lines += [f"or {class_name(row)} ({_how_sure(row)})" for row in of_one[1:3] if row["status"] == "ok"]
    return Card(picture, alt=name, lines=[line for line in lines if line], latin=_latin(of_one), file=file, facts=facts)


def _latin(rows: list[Row]) -> list[str]:
    """Return the names of genera and species in rows: what is written in italics."""
    return [str(row[rank]) for row in rows[:3] for rank in ("genus", "species")]


def _certainty(row: Row) -> float:
    """Return the probability of the answer; a reviewer's answer is certain, and none is not."""
    return probability_of(row) if row["status"] == "ok" else 0.0


def _how_sure(row: Row) -> str:
    return f"{row['score']:.0%}" if row["score"] is not None else "by a reviewer"


def make_thumbnail(name: str, box: Box | None = None) -> bytes:
    """Return a small JPEG of the photograph, or a grey one if it cannot be read."""
    try:
        picture = find_input(name, box).load(THUMBNAIL)
    except ImageError:
        picture = np.full((THUMBNAIL * 3 // 4, THUMBNAIL, 3), 200, np.uint8)
    return make_small_jpeg(picture, THUMBNAIL)
