"""Answers and vectors as Python gets them, with methods that turn them into tables and files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.outputs.rows import Row, rows_of, table_of
from linnaea.predict.outputs.write import FORMS, write_rows
from linnaea.predict.predictor import Answer

SHOWN = 10
"""The number of answers in a ``repr``."""


class Answers(Sequence[Answer]):
    """The answers for a sequence of photographs, in their order."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = tuple(answers)

    @overload
    def __getitem__(self, index: int) -> Answer: ...
    @overload
    def __getitem__(self, index: slice) -> "Answers": ...
    def __getitem__(self, index: int | slice) -> "Answer | Answers":
        return Answers(self._answers[index]) if isinstance(index, slice) else self._answers[index]

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self._answers)

    @property
    def failed(self) -> dict[str, str]:
        """Return the names of photographs that could not be read, with the reason."""
        return {one.name: one.reason for one in self if one.status == "failed"}

    def to_dicts(self) -> list[Row]:
        """Return a dictionary per guess, with the columns of the command's files (docs/guide.md)."""
        return [row for one in self for row in rows_of(one)]

    def to_polars(self) -> pl.DataFrame:
        """Return :meth:`to_dicts` as a polars table."""
        return table_of(self.to_dicts())

    def to_pandas(self) -> Any:
        """Return :meth:`to_dicts` as a pandas table.

        Raises:
            LinnaeaError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise LinnaeaError("to_pandas needs pandas: pip install pandas, or use to_polars") from None
        return pd.DataFrame(self.to_polars().to_dict(as_series=False))

    def save(self, path: str | Path) -> Path:
        """Write a file in the format of its suffix.

        The suffix is .csv, .jsonl, .parquet, .xlsx, .html (a page to look at) or .json (MegaDetector's format).

        Raises:
            UsageError: the suffix is none of these.
            LinnaeaError: the file cannot be written.
        """
        path = Path(path)
        form = FORMS.get(path.suffix.lower())
        if form is None:
            raise UsageError(f"{path}: must end in {', '.join(FORMS)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(path, form, self.to_dicts())
        return path

    def __repr__(self) -> str:
        n_ok = sum(one.status == "ok" for one in self)
        lines = [f"<Answers: {count(len(self), 'photograph', '')}, {n_ok} named, {len(self.failed)} failed>"]
        lines += [f"  {one!r}"[:160] for one in self._answers[:SHOWN]]
        return "\n".join(lines + (["  ..."] if len(self) > SHOWN else []))

    def _repr_html_(self) -> str:
        head = ("photograph", "answer", "common name", "rank", "probability")
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(one))}</tr>"
                       for one in self._answers[:SHOWN])  # fmt: skip
        more = f"<p>... and {len(self) - SHOWN:,} more</p>" if len(self) > SHOWN else ""
        return f"<table><tr>{''.join(f'<th>{word}</th>' for word in head)}</tr>{rows}</table>{more}"


def _cells(answer: Answer) -> tuple[str, ...]:
    if not answer.guesses:
        return answer.name, answer.status, answer.reason, "", ""
    best = answer.guesses[0]
    rank = "" if best.rank is None else best.rank.label
    return answer.name, best.taxon.name, best.taxon.common_name, rank, f"{best.score:.1%}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Vectors:
    """Unit vectors of photographs."""

    array: Float32[ndarray, "N E"]
    """One row for each photograph that could be read."""
    names: tuple[str, ...]
    """The file names of these photographs, or their numbers if they were given in memory."""
    failed: Mapping[str, str]
    """Names of the photographs that could not be read, with the reason."""

    def __len__(self) -> int:
        return len(self.names)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the array, for NumPy."""
        return np.array(self.array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return (
            f"<Vectors: {count(len(self), 'photograph', '')}, width {self.array.shape[1]}, {len(self.failed)} failed>"
        )
