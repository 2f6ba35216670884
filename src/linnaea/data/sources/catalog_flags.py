"""The flags of a catalog's pictures: what kind of picture it is, and what filters found on it (faces, labels).

TreeOfLife-200M's catalog has ``img_type`` and ``basis_of_record``. Its toolbox writes what its filters find as Parquet
files with ``uuid`` and ``pred_label``, one file per process.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from linnaea.data.sources.normal import read_whole
from linnaea.errors import LinnaeaError
from linnaea.tables import need_columns

IMAGE_TYPES = ("img_type", "basis_of_record", "basisOfRecord")
"""Columns that say what kind of picture a row is."""
_KNOWN = ("camera-trap", "citizen-science", "museum-specimen", "unidentified", "human-observation",
          "machine-observation", "preserved-specimen", "living-specimen", "fossil-specimen", "material-sample",
          "material-citation", "observation", "occurrence")  # fmt: skip
_TRUE = ("true", "1", "1.0", "yes", "y", "t")


@dataclass(frozen=True, kw_only=True)
class CatalogFlags:
    """Tables of flags by their names, and the flags and kinds of pictures to leave out."""

    tables: Mapping[str, Path]
    without: tuple[str, ...]

    def check(self) -> None:
        """Check the words to leave out.

        Raises:
            ValueError: a word is neither a flag nor a kind of picture.
        """
        flags = [_word(name) for name in self.tables]
        for given in self.without:
            word = _word(given)
            if word not in flags and word.split(":")[0] not in _KNOWN:
                near = difflib.get_close_matches(word, (*flags, *_KNOWN), n=1)
                hint = f"did you mean {near[0]}?" if near else f"they are {', '.join((*flags, *_KNOWN[:4]))}, ..."
                raise ValueError(f"without {given!r}: neither a flag nor an image type; {hint}")

    def mark(self, rows: pl.DataFrame, key: str, catalog: Path) -> pl.DataFrame:
        """Return the rows with ``flags`` (names, separated by spaces) and ``left_out``, the reason to leave a row out.

        Raises:
            LinnaeaError: a kind of picture is to be left out, and the catalog does not tell them.
        """
        marks = {name: pl.when(pl.col(key).is_in(ids.implode())).then(pl.lit(name)) for name, ids in self._ids.items()}
        flags = pl.concat_str(marks.values(), separator=" ", ignore_nulls=True) if marks else pl.lit("")
        reasons = [pl.when(marks[name].is_not_null()).then(pl.lit(f"left out: {name}"))
                   for name in marks if _word(name) in map(_word, self.without)]  # fmt: skip
        kinds = [word for word in map(_word, self.without) if word not in map(_word, marks)]
        there = [name for name in IMAGE_TYPES if name in rows.columns]
        if kinds and not there:
            raise LinnaeaError(f"{catalog}: no column img_type or basis_of_record, so `without` cannot find {kinds[0]}")
        for word in kinds:
            own = [_words(pl.col(name)).str.contains(rf"^{re.escape(word)}(?::.*)?$") for name in there]
            reasons.append(pl.when(pl.any_horizontal(own)).then(pl.lit(f"left out: {word}")))
        reason = pl.coalesce(*reasons, pl.lit("")) if reasons else pl.lit("")
        return rows.with_columns(flags=flags, left_out=reason)

    @cached_property
    def _ids(self) -> dict[str, pl.Series]:
        """The ids of the pictures with each flag."""
        return {name: _read_flagged(name, path) for name, path in self.tables.items()}


def _read_flagged(name: str, path: Path) -> pl.Series:
    """Return the ids of the pictures that a table flags: all of them if it has no ``pred_label``."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise LinnaeaError(f"{path}: no Parquet file with the flag {name}")
    ids = []
    for file in files:
        table = read_whole(file)
        key = next((one for one in ("uuid", "treeoflife_id", "id") if one in table.columns), "uuid")
        need_columns(table.columns, file, key)
        says = next((one for one in ("pred_label", name) if one in table.columns), "")
        is_so = _words(pl.col(says)).is_in([*_TRUE, _word(name)]) if says else pl.lit(value=True)
        ids.append(table.filter(is_so)[key])
    return pl.concat(ids)


def _word(text: str) -> str:
    return re.sub(r"[\s_-]+", "-", text.strip().lower()).replace(":-", ":")


def _words(cells: pl.Expr) -> pl.Expr:
    """Return cells as :func:`_word` writes one."""
    return cells.str.strip_chars().str.to_lowercase().str.replace_all(r"[\s_-]+", "-").str.replace_all(":-", ":")
