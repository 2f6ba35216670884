"""Answers as rows (pybioclip's columns first, then Linnaea's): what every file of predictions is made of."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any, Protocol, runtime_checkable

import polars as pl

from linnaea.predict.classifier import Guess
from linnaea.predict.inputs import Box
from linnaea.predict.predictor import Answer
from linnaea.taxonomy.columns import ANSWER_COLUMNS, answer_names
from linnaea.taxonomy.ranks import RANK_LABELS

Row = dict[str, Any]

NUMBERS = ("score", "detection_confidence")

ROWS_AT_ONCE = 50_000

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The box of a photograph that no detector has seen."""


@runtime_checkable
class Writable(Protocol):
    """Standard output, or an open text file."""

    def write(self, text: str, /) -> Any: ...


def make_row(file_name: str, guess: Guess) -> Row:
    """Return an answer as a row; ``species`` is the binomial, empty above species rank."""
    return {
        "file_name": printable(file_name),
        **answer_names(guess.taxon),
        "score": float(f"{guess.score:.7g}"),
        "rank": guess.rank.label if guess.rank is not None else "",
        "status": "ok",
        "reason": "",
        "prior": "",
        "bbox": "",
        "detection_confidence": None,
        "detection_category": "",
        "event": "",
    }


def make_empty_row(file_name: str, status: str, reason: str) -> Row:
    """Return the row of a photograph without an answer, with the reason."""
    empty = {**dict.fromkeys(ANSWER_COLUMNS, ""), "file_name": printable(file_name), **dict.fromkeys(NUMBERS)}
    return {**empty, "status": status, "reason": printable(reason)}


def rows_of(answer: Answer) -> list[Row]:
    """Return the rows of one photograph: one per guess, or one with the reason why there is none."""
    box = " ".join(f"{value:g}" for value in answer.input.box) if answer.input.box else ""
    rows = [make_row(answer.input.name, guess) for guess in answer.guesses]
    if not rows:
        rows = [make_empty_row(answer.input.name, answer.status, answer.reason)]
    if answer.note:
        rows = [row | {"reason": printable("; ".join(filter(None, (row["reason"], answer.note))))} for row in rows]
    seen = {"detection_confidence": answer.input.detection_confidence, "detection_category": answer.input.category,
            "event": answer.input.event}  # fmt: skip
    return [row | {"prior": answer.prior, "bbox": box} | seen for row in rows]


def printable(text: str) -> str:
    """Return text that every file can hold; bytes of a file name that are not UTF-8 are shown as ``\\xff``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def by_photograph(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Yield the name of each photograph or detected part with its rows, which follow one another."""
    for name, of_one in groupby(rows, key=lambda row: str(row["file_name"])):
        yield name, list(of_one)


def box_of(row: Row) -> Box | None:
    """Return the part of the photograph that a row is about; ``None`` for the photograph as a whole."""
    return parse_box(str(row["bbox"]))


def parse_box(cell: str) -> Box | None:
    """Return the box of the column ``bbox``, four numbers with spaces between; ``None`` if it is empty."""
    numbers = tuple(map(float, cell.split()))
    return numbers if len(numbers) == 4 else None


def without_box(name: str, bbox: object) -> str:
    """Return the photograph or frame that a crop ``photo.jpg#3`` with the cell ``bbox`` belongs to."""
    return name.rpartition("#")[0] if bbox else name


def probability_of(row: Row) -> float:
    """Return the probability of a row's taxon for formats that need a number: 1 where only a reviewer names it."""
    return 1.0 if row["score"] is None else float(row["score"])


def finest_name(row: Row) -> str:
    """Return the finest name of a row."""
    if row["species"]:
        return str(row["species"])
    ranks = [row[label] for label in reversed(RANK_LABELS[:-1]) if row[label]]
    return str(ranks[0] if ranks else row["common_name"])


def class_name(row: Row) -> str:
    """Return the finest name of a row, with the words that tell it from other classes of its species."""
    name, common_name = finest_name(row), str(row["common_name"] or "")
    return common_name if row["species"] and common_name.startswith(f"{name} ") else name


def table_of(rows: Iterable[Row], columns: Sequence[str] = ANSWER_COLUMNS) -> pl.DataFrame:
    """Return rows as a table with these columns."""
    schema = {name: pl.Float64 if name in NUMBERS else pl.String for name in columns}
    tables, rest = [pl.DataFrame(schema=schema)], iter(rows)
    while block := list(islice(rest, ROWS_AT_ONCE)):
        tables.append(pl.DataFrame(block, schema=schema))
    return pl.concat(tables)
