"""Labels as a table of what the parser reads in them, for a million labels in two processes."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import polars as pl

from linnaea.taxonomy.names import ParsedName, parse_labels
from linnaea.taxonomy.readings import Rejection, looks_latin

PARSED_SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "reason": pl.String,
    "text": pl.String,
    "name": pl.String,
    "binomial": pl.String,
    "genus": pl.String,
    "others": pl.List(pl.String),
    "vernacular": pl.String,
    "weak": pl.Boolean,
    "latin": pl.Boolean,
}
_CHUNK = 20_000


def read_labels(labels: list[str], processes: int, report: Callable[[int], None]) -> pl.DataFrame:
    """:data:`PARSED_SCHEMA`, a row per label; ``report`` is called after each chunk."""
    rows = [row for chunk in _parse_chunks(labels, processes, report) for row in chunk]
    return pl.DataFrame(rows, schema=PARSED_SCHEMA, orient="row")


def _parse_chunks(labels: list[str], processes: int, report: Callable[[int], None]) -> list[list[tuple[object, ...]]]:
    chunks = [labels[at : at + _CHUNK] for at in range(0, len(labels), _CHUNK)]
    done: list[list[tuple[object, ...]]] = []
    if processes > 1 and len(chunks) > 3:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            for rows in pool.map(_parse_rows, chunks):
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
        return (parsed.reason, "", "", "", "", [], "", False, False)
    binomial = parsed.binomial
    name = parsed.name
    weak = parsed.rank is None and " " in parsed.text and not _is_author(parsed.authorship)
    latin = bool(parsed.qualifier) or looks_latin(parsed.species) or (parsed.rank is None and " " not in parsed.text)
    genus = name.split(" ", 1)[0]
    return ("", parsed.text, name, binomial, genus, list(parsed.other_names), parsed.vernacular, weak, latin)


def _is_author(text: str) -> bool:
    """Whether the parser's authorship looks like one, and not like further words of a vernacular name."""
    return any(mark in text for mark in ".,&()") or any(c.isdigit() for c in text)
