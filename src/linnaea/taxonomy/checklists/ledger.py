"""Count what became of every row of an imported checklist."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.counting import agree, count

MUCH = 0.2
"""The share of rows left out from which an import says so in a warning."""
N_EXAMPLES = 3

AGAIN = "repeats another row"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows that were left out for one reason."""

    reason: str
    n: int
    examples: tuple[str, ...]
    """Names of the first of them."""


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """The rows of a source: accepted names, synonyms, vernacular names, and those that were left out."""

    n_accepted: int
    n_synonyms: int
    """Rows that are found as another name of a taxon: synonyms, and names between and below the seven ranks."""
    n_vernaculars: int
    left_out: tuple[LeftOut, ...]
    used: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_left_out(self) -> int:
        return sum(rows.n for rows in self.left_out)

    @property
    def n_rows(self) -> int:
        """The number of rows of names and of vernacular names in the source."""
        return self.n_accepted + self.n_synonyms + self.n_vernaculars + self.n_left_out

    @property
    def warning(self) -> str:
        """A sentence if much was left out, else ``""``."""
        n, of = self.n_left_out, self.n_rows
        if n <= MUCH * of:
            return ""
        return f"{n:,} of {count(of, 'row')} ({n / of:.0%}) {agree(n, 'was', 'were')} left out"

    def lines(self) -> list[str]:
        """Return the report for a person, a line for the sum and for each reason."""
        lines = [
            f"{count(self.n_rows, 'row')} in = {self.n_accepted:,} accepted + {count(self.n_synonyms, 'synonym')} + "
            f"{count(self.n_vernaculars, 'vernacular name')} + {self.n_left_out:,} left out"
        ]
        for rows in self.left_out:
            examples = ", ".join(example or "an empty name" for example in rows.examples)
            lines.append(f"  left out: {count(rows.n, 'row')}, {rows.reason}: {examples}")
        lines += [f"  note: {note}" for note in self.notes]
        if self.used:
            lines.append(f"  columns used: {', '.join(self.used)}; not used: {', '.join(self.unused) or 'none'}")
        return [*lines, *([f"warning: {self.warning}"] if self.warning else [])]


@dataclass(frozen=True, kw_only=True)
class Fates:
    """The rows of a source by what became of them."""

    accepted: pl.Series
    """The numbers of rows that are taxa."""
    synonyms: pl.Series
    left_out: pl.DataFrame
    """``line, reason, name``; of several reasons for a row the first counts."""
    n_vernaculars: int
    lost_vernaculars: pl.DataFrame
    """``reason, name``"""


def is_among(lines: pl.Series, others: pl.Series) -> npt.NDArray[np.bool_]:
    """Return which numbers of rows are among others."""
    known = others.drop_nulls()
    size = 1 + max(0, *(int(one.max() or 0) for one in (lines, known)))  # type: ignore[arg-type]
    among = np.zeros(size + 1, bool)
    among[known.to_numpy()] = True
    return np.asarray(among[lines.fill_null(size).to_numpy()], bool)


def count_rows(fates: Fates, used: Sequence[str], unused: Sequence[str], notes: Sequence[str]) -> ImportReport:
    """Return the report of an import; each row counts once, with its best outcome."""
    n_lines = 1 + max(0, *(int(lines.max() or 0) for lines in (fates.accepted, fates.synonyms)))  # type: ignore[arg-type]
    accepted = np.bincount(fates.accepted.drop_nulls().to_numpy(), minlength=n_lines) > 0
    synonyms = (np.bincount(fates.synonyms.drop_nulls().to_numpy(), minlength=n_lines) > 0) & ~accepted
    kept = pl.Series(np.flatnonzero(accepted | synonyms))
    lost = fates.left_out.drop_nulls("line")
    lost = lost.filter(~pl.Series(is_among(lost["line"], kept)))
    lost = lost.unique("line", keep="first", maintain_order=True).select("reason", "name")
    reasons = pl.concat([lost, fates.lost_vernaculars.select("reason", "name")])
    groups = reasons.group_by("reason", maintain_order=True).agg(pl.len().alias("n"), pl.col("name").head(N_EXAMPLES))
    left_out = [
        LeftOut(reason=reason, n=n, examples=tuple(name or "" for name in names))
        for reason, n, names in groups.sort("n", descending=True, maintain_order=True).iter_rows()
    ]
    return ImportReport(
        n_accepted=int(accepted.sum()),
        n_synonyms=int(synonyms.sum()),
        n_vernaculars=fates.n_vernaculars,
        left_out=tuple(left_out),
        used=tuple(used),
        unused=tuple(unused),
        notes=tuple(notes),
    )
