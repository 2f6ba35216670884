"""Read the exports of classifications of Zooniverse (Panoptes): a row per vote, with JSON in two of its columns."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from linnaea.tables import find_column

FILE_KEYS = ("filename", "file_name", "file", "image_name", "image", "image1", "image_1")
"""Names of the file's name in a subject's metadata, in lower case, without blanks and the leading # or !."""


def is_votes(columns: Sequence[str]) -> bool:
    """Return whether a table is an export of votes."""
    return bool(find_column(columns, "annotations") and find_column(columns, "subject_data"))


def read_choices(annotations: pl.Series) -> pl.Series:
    """Return the name in each vote; ``""`` if there is none, and "A and B" if a vote names two."""
    names = [" and ".join(dict.fromkeys(_choices(_parse(cell)))) for cell in annotations.fill_null("")]
    return pl.Series("name", names, dtype=pl.String)


def count_votes(table: pl.DataFrame) -> pl.DataFrame:
    """Return a row per subject: ``filepath``, the ``label`` that more votes give than any other, and the ``votes``.

    A tie has no label.
    """
    cells = {name: table[find_column(table.columns, name)] for name in ("annotations", "subject_data")}
    tally: dict[str, Counter[str]] = {}
    for path, name in zip(map(_file_of, cells["subject_data"]), read_choices(cells["annotations"]), strict=True):
        tally.setdefault(path, Counter())[name] += 1
    rows = []
    for path, votes in tally.items():
        (name, most), *others = votes.most_common(2)
        tie = bool(others) and others[0][1] == most
        rows.append((path, "" if tie else name, str(votes.total())))
    return pl.DataFrame(rows, schema=dict.fromkeys(("filepath", "label", "votes"), pl.String), orient="row")


def _parse(cell: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        return None


def _choices(value: Any) -> Iterator[str]:
    """Yield the names in an annotation: the ``choice`` of a survey task, or the answer to a question."""
    match value:
        case {"choice": str(name)}:
            yield _as_words(name)
        case {"value": str(name)}:
            yield _as_words(name)
        case {"value": list(values)}:
            for one in values:
                yield from [_as_words(one)] if isinstance(one, str) else _choices(one)
        case {"task": str(), "value": dict(inner)}:
            yield from _choices(inner)
        case list(values):
            for one in values:
                yield from _choices(one)


def _as_words(name: str) -> str:
    """Return a choice as words; survey tasks write them in capitals without blanks ("GRANTSGAZELLE")."""
    text = " ".join(name.replace("_", " ").split())
    return text.capitalize() if text.isupper() else text


def _file_of(subject: str | None) -> str:
    """Return the name of a subject's file, or ``""``."""
    parsed = _parse(subject or "")
    for facts in parsed.values() if isinstance(parsed, dict) else ():
        known = {key.strip().lstrip("#!").replace(" ", "").lower(): value for key, value in facts.items()
                 if isinstance(value, str)} if isinstance(facts, dict) else {}  # fmt: skip
        if name := next((known[key] for key in FILE_KEYS if known.get(key)), ""):
            return name
    return ""
