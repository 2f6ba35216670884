"""A table of parsed labels, for a million labels in two processes."""

import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import polars as pl

from linnaea.jobs import apart_from_main
from linnaea.taxonomy.label_words import AUTHOR_WORDS, ENGLISH_NOUNS, looks_latin
from linnaea.taxonomy.names import ParsedName, parse_labels
from linnaea.taxonomy.readings import Rejection

PARSED_SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "reason": pl.String,
    "text": pl.String,
    "name": pl.String,
    "binomial": pl.String,
    "genus": pl.String,
    "title_cased": pl.String,
    "others": pl.List(pl.String),
    "vernacular": pl.String,
    "whole": pl.String,
    "weak": pl.Boolean,
    "latin": pl.Boolean,
    "is_pair": pl.Boolean,
    "authorship": pl.String,
    "infraspecific_rank": pl.String,
    "ancestors": pl.List(pl.String),
    "together": pl.List(pl.String),
    "remark": pl.String,
    "doubtful": pl.Boolean,
}
"""``weak`` names may be words of a vernacular name; ``remark`` is what the label says besides the name. Of
``doubtful`` labels only the genus is certain."""
_CHUNK = 20_000


def parse_label_table(labels: list[str], processes: int, report: Callable[[int], None]) -> pl.DataFrame:
    """Return a table of :data:`PARSED_SCHEMA` with one row per label; ``report`` is called after each chunk."""
    rows = [row for chunk in _parse_chunks(labels, processes, report) for row in chunk]
    return pl.DataFrame(rows, schema=PARSED_SCHEMA, orient="row")


def _parse_chunks(labels: list[str], processes: int, report: Callable[[int], None]) -> list[list[tuple[object, ...]]]:
    chunks = [labels[at : at + _CHUNK] for at in range(0, len(labels), _CHUNK)]
    done: list[list[tuple[object, ...]]] = []
    if processes > 1 and len(chunks) > 3:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            with apart_from_main(_parse_rows):  # the first submission starts the workers
                results = pool.map(_parse_rows, chunks)
            for rows in results:
                done.append(rows)
                report(0)
        return done
    for chunk in chunks:
        done.append(_parse_rows(chunk))
        report(0)
    return done


def _parse_rows(labels: list[str]) -> list[tuple[object, ...]]:
    return [_as_row(parsed) for parsed in parse_labels(labels)]


def _as_row(parsed: ParsedName | Rejection) -> tuple[object, ...]:
    if isinstance(parsed, Rejection):
        return (parsed.reason, "", "", "", "", "", [], "", "", False, False, False, "", "", [], [], "", False)
    name, binomial = parsed.name, parsed.binomial
    if name.count(" ") > 2:  # of several epithets below the species the last one counts
        name = f"{binomial} {parsed.infraspecific or name.rpartition(' ')[2]}"
    if parsed.doubt:
        name, binomial = name.split(" ", 1)[0], ""
    said = parsed.vernacular if parsed.doubt else parsed.text
    weak = parsed.rank is None and " " in said.removeprefix("× ") and not parsed.ancestors and not _has_author(parsed)
    uncertain = bool(parsed.qualifier or parsed.doubt)
    uninomial = parsed.rank is None and (" " not in said or _may_be_author(parsed.authorship))
    latin = uncertain or looks_latin(parsed.species) or uninomial
    return (
        "",
        parsed.text,
        name,
        binomial,
        name.split(" ", 1)[0],
        parsed.title_cased,
        list(parsed.other_names),
        parsed.vernacular,
        parsed.whole,
        weak,
        latin,
        parsed.is_pair,
        parsed.authorship,
        parsed.infraspecific_rank,
        list(parsed.ancestors),
        list(parsed.together),
        _remark(parsed),
        bool(parsed.doubt),
    )


def _remark(parsed: ParsedName) -> str:
    """Return what the label says besides the name, for the note of its resolution."""
    marks = [parsed.doubt] if parsed.doubt else []
    if parsed.hybrid and len(parsed.together) < 2:
        marks.append("a hybrid")
    return "; ".join((*marks, *(note for note in parsed.notes if not note.endswith("in brackets"))))


_FAMILY = re.compile(r"[A-Z][a-z]+(?:idae|aceae|inae|oidea|ales|formes|ptera)")


def _has_author(parsed: ParsedName) -> bool:
    """Return whether the words after a single name are surely its author, not those of a vernacular name."""
    text = parsed.authorship
    if not _may_be_author(text):
        return False
    if _FAMILY.fullmatch(parsed.name) or text.lower().rstrip(".") in AUTHOR_WORDS:
        return True
    return any(mark in text for mark in ".,&()[]") or any(c.isdigit() for c in text)


def _may_be_author(text: str) -> bool:
    """Return whether words after a name may be an author: they have capitals, and none is an English noun."""
    words = re.findall(r"[^\W\d_]{3,}", text)
    nouns = any(word.lower() in ENGLISH_NOUNS for word in words)
    return bool(text) and not nouns and any(word[:1].isupper() for word in words or [text])
