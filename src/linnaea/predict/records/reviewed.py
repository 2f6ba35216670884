"""Answers with the decisions of reviewers in them, as every file of answers writes them."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from linnaea.predict.inputs import NO_ANIMAL
from linnaea.predict.outputs.rows import Row, by_photograph, class_name, make_empty_row, without_box
from linnaea.predict.records.decisions import DISPUTED, Decision, Kind, Verdict, Verdicts
from linnaea.taxonomy.columns import REVIEW_COLUMNS, answer_names
from linnaea.taxonomy.taxon import Taxon

VEHICLE = "vehicle"
CANNOT_TELL = "a reviewer cannot tell what it is"
_KEPT = ("prior", "bbox", "detection_confidence", "detection_category", "event")


def with_decisions(rows: Iterable[Row], verdicts: Verdicts) -> Iterator[Row]:
    """Yield the rows with :data:`~linnaea.taxonomy.columns.REVIEW_COLUMNS`.

    If reviewers agree, their taxon is the only answer of its photograph. Its score is the model's for that taxon, empty
    if the taxon was not among the model's answers. If they disagree, the model's answers stay, with each reviewer's.
    """
    for name, of_one in by_photograph(rows):
        verdict = verdicts[name]
        if verdict is None:
            yield from (dict.fromkeys(REVIEW_COLUMNS, "") | row for row in of_one)
        else:
            yield from (row | _columns(verdict) for row in _decided(of_one, verdict))


def _columns(verdict: Verdict) -> Row:
    values = (verdict.word, verdict.reviewers, f"{verdict.time[:19]}Z")
    return dict(zip(REVIEW_COLUMNS, values, strict=True))


def _decided(rows: list[Row], verdict: Verdict) -> list[Row]:
    first, agreed = rows[0], verdict.agreed
    if agreed is None:
        return [row | {"reason": "; ".join(filter(None, (row["reason"], verdict.remark)))} for row in rows]
    if agreed.kind is Kind.NOTHING and first["detection_category"] == VEHICLE:
        return rows[:1]
    kept = {name: first[name] for name in _KEPT}
    if agreed.taxon is None:
        reason = NO_ANIMAL if agreed.kind is Kind.NOTHING else CANNOT_TELL
        return [make_empty_row(first["file_name"], "abstained", reason) | kept]
    return [_named(rows, agreed, agreed.taxon) | kept]


def _named(rows: list[Row], agreed: Decision, taxon: Taxon) -> Row:
    names = answer_names(taxon)
    same = (row for row in rows if row["status"] == "ok" and all(row[key] == names[key] for key in names))
    row = make_empty_row(rows[0]["file_name"], "ok", _what_was_said(agreed))
    rank = "" if taxon.rank is None else taxon.rank.label
    return row | names | {"rank": rank, "score": next((one["score"] for one in same), None)}


def _what_was_said(agreed: Decision) -> str:
    if agreed.kind is not Kind.CORRECTED or not agreed.answer:
        return ""
    return f"the model said {agreed.answer}" + ("" if agreed.score is None else f" ({agreed.score:.3g})")


def answer_of(rows: list[Row]) -> tuple[str, float | None]:
    """Return the name and the score of the first answer to a photograph; no name if there is none."""
    first = rows[0]
    return (class_name(first), first["score"]) if first["status"] == "ok" else ("", None)


def without_empty_boxes(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows without the boxes in which reviewers saw nothing.

    If nothing is left of a photograph, it has one row as a whole, which says so.
    """
    for path, group in groupby(rows, key=lambda row: without_box(str(row["file_name"]), row["bbox"])):
        of_one = list(group)
        left = [row for row in of_one if not (row["bbox"] and _is_empty(row))]
        yield from left or [of_one[0] | {"file_name": path, "bbox": ""}]


def _is_empty(row: Row) -> bool:
    return row.get(REVIEW_COLUMNS[0]) == Kind.NOTHING and row["reason"] == NO_ANIMAL


def is_decided(row: Row) -> bool:
    """Return whether reviewers agree on a row."""
    return row.get(REVIEW_COLUMNS[0], "") not in ("", DISPUTED)
