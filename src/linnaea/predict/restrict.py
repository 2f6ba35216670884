"""Which of a bank's taxa may answer: a clade, all but a clade, the species of a list.

Names of a list go through taxonomy: what the bank knows under the same name is taken as it is; what it does not is
resolved, and so are the bank's own names, so that a list and a bank of different years meet.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.keys import name_key, vernacular_key
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

Rows = NDArray[np.int64]

N_SUGGESTIONS = 3
SUGGEST_FOR = 200
"""Unknown names that get suggestions; more are named without."""
LIKE_ENOUGH = 70
"""Similarity (0 to 100) from which on a name is suggested."""
RESOLVE_BANKS_TO = 300_000
"""Banks up to this size have their own names resolved where a list leaves names over."""


@runtime_checkable
class Resolves(Protocol):
    """What is needed of :class:`linnaea.taxonomy.resolve.Resolver`."""

    def resolve(self, names: Sequence[str] | pl.Series) -> pl.DataFrame: ...


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A name of a list that no taxon of the bank answers to."""

    name: str
    reason: str
    suggestions: tuple[str, ...] = ()

    def __str__(self) -> str:
        meant = f"; did you mean {', '.join(self.suggestions)}?" if self.suggestions else ""
        return f"{self.name}: {self.reason}{meant}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Which rows of a bank a list of names stands for."""

    table: pl.DataFrame
    """``name``, ``row``, ``rank`` (of the taxon with that name): a row per pair, sorted by row."""
    unknown: tuple[Unknown, ...]

    @property
    def rows(self) -> Rows:
        """Distinct rows of the bank, in order."""
        return np.asarray(self.table["row"].unique().sort(), np.int64)


def keep_rows(bank: LabelBank, rows: Rows) -> LabelBank:
    """The bank with only these rows (ascending); probabilities are then among them alone.

    A clade is one range of rows, whose vectors are not copied.
    """
    if len(rows) == len(bank):
        return bank
    taxa = bank.taxa[rows].with_columns(taxon_id=pl.int_range(len(rows), dtype=pl.Int32))
    one_range = len(rows) and rows[-1] - rows[0] == len(rows) - 1
    vectors = bank.vectors[rows[0] : rows[-1] + 1] if one_range else bank.vectors[rows]
    return LabelBank(taxa, vectors, bank.facts | {"kept": len(rows), "of": len(bank)})


def keep_clades(bank: LabelBank, within: Sequence[str] = (), exclude: Sequence[str] = ()) -> LabelBank:
    """The taxa of the bank in any of the clades ``within`` (all, if none) and in none of ``exclude``.

    Clades are written ``order:Lepidoptera``, or ``Lepidoptera`` where only one rank has that name.

    Raises:
        UsageError: a clade is not in the bank, or nothing is left.
    """
    kept = np.ones(len(bank), bool)
    if within:
        kept[:] = False
        for clade in within:
            kept[find_clade(bank, clade)] = True
    for clade in exclude:
        kept[find_clade(bank, clade)] = False
    if not kept.any():
        raise UsageError(
            f"{' '.join([*within, *exclude])}: leaves no taxon to answer with; the labels have {len(bank)}"
        )
    return keep_rows(bank, np.flatnonzero(kept))


def keep_taxa(taxa: pl.DataFrame, within: Sequence[str] = (), exclude: Sequence[str] = ()) -> pl.DataFrame:
    """As :func:`keep_clades`, for a taxon table that has no vectors yet."""
    return keep_clades(LabelBank(taxa, np.empty((taxa.height, 0), np.float32), {}), within, exclude).taxa


def find_clade(bank: LabelBank, clade: str) -> Rows:
    """The rows of a clade written ``rank:Name`` or ``Name``.

    Raises:
        UsageError: no such rank; no taxon of that name, or several of different ranks.
    """
    word, _, name = clade.rpartition(":")
    try:
        ranks = [Rank.parse(word)] if word else list(Rank)
    except ValueError as error:
        raise UsageError(f"{clade!r}: {word!r} is no rank; write one of {', '.join(RANK_LABELS)}") from error
    names = _names_of(bank).filter(pl.col("rank").is_in([int(rank) for rank in ranks]))
    hits = names.join(_asked([name]), on="key")
    found = hits["rank"].unique().to_list()
    if len(found) > 1:
        choices = ", ".join(f"{Rank(rank).label}:{name}" for rank in sorted(found))
        raise UsageError(f"{clade!r}: is the name of several ranks; write {' or '.join(choices.split(', '))}")
    if not found:
        near = _suggest([name], names)[name]
        meant = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"{clade!r}: no {word or 'taxon'} of that name among the labels{meant}")
    return np.asarray(_rows_under(bank, hits)["row"].unique().sort(), np.int64)


def find_names(bank: LabelBank, names: Iterable[str], load_resolver: Callable[[], Resolves]) -> Found:
    """The rows that a list of names stands for; a genus or family stands for all below it.

    ``load_resolver`` is called only where a name is not the bank's own.
    """
    asked = _asked(dict.fromkeys(name.strip() for name in names if name.strip()))
    known = _names_of(bank)
    hits = _first_tier(asked.join(known, on="key"))
    left = asked.join(hits, on="name", how="anti")
    reasons: dict[str, str] = {}
    if left.height:
        resolved = _resolve(left["name"], load_resolver())
        reasons = dict(zip(resolved["name"], resolved["reason"], strict=True))
        accepted = resolved.filter(pl.col("accepted") != "").select("name", key=name_key(pl.col("accepted")))
        hits = pl.concat([hits, _first_tier(accepted.join(known, on="key"))])
        left = accepted.join(hits, on="name", how="anti")
        if left.height and len(bank) <= RESOLVE_BANKS_TO:
            hits = pl.concat([hits, _first_tier(left.join(_names_today(bank, load_resolver()), on="key"))])
    missing = asked.join(hits, on="name", how="anti")["name"].to_list()
    near = _suggest(missing[:SUGGEST_FOR], known)
    unknown = [
        Unknown(name=n, reason=reasons.get(n, "not among the labels"), suggestions=near.get(n, ())) for n in missing
    ]
    return Found(table=_rows_under(bank, hits).select("name", "row", "rank").sort("row"), unknown=tuple(unknown))


def keep_listed(
    bank: LabelBank, names: Iterable[str], load_resolver: Callable[[], Resolves], *, strict: bool = False
) -> tuple[LabelBank, tuple[Unknown, ...]]:
    """The taxa of a list, and the names of it that the bank does not have.

    Raises:
        LinnaeaError: no name of the list is among the labels; ``strict`` and one is not.
    """
    found = find_names(bank, names, load_resolver)
    if found.unknown and strict:
        raise LinnaeaError(f"{len(found.unknown)} names of the list are not among the labels: {found.unknown[0]}")
    if not found.table.height:
        first = f" ({found.unknown[0]})" if found.unknown else ""
        raise LinnaeaError(f"no name of the list is among the {len(bank):,} labels{first}")
    return keep_rows(bank, found.rows), found.unknown


def _asked(names: Iterable[str]) -> pl.DataFrame:
    """``name`` and ``key``: a row per key that a name may be found under."""
    table = pl.DataFrame({"name": list(names)}, schema={"name": pl.String})
    text = pl.col("name").str.replace_all("_", " ")
    keys = [table.with_columns(key=key) for key in (name_key(text), vernacular_key(text))]
    return pl.concat(keys).unique(maintain_order=True).filter(pl.col("key") != "")


def _names_of(bank: LabelBank) -> pl.DataFrame:
    """Every name in the bank: ``key``, ``matched``, ``rank``, ``row`` (one that bears it), ``tier`` (0 first)."""
    rows = bank.taxa.select(*RANK_LABELS, "scientific_name", "common_name").with_row_index("row")
    rows = rows.with_columns(pl.col("row").cast(pl.Int64))
    named = [
        rows.filter(pl.col(label) != "").select(matched=label, rank=pl.lit(rank), row="row", tier=pl.lit(1))
        for rank, label in enumerate(RANK_LABELS[: Rank.SPECIES])
    ]
    named = [table.unique(["matched"], keep="first", maintain_order=True) for table in named]
    species = rows.filter(pl.col("species") != "")
    named.append(species.select(matched="scientific_name", rank=pl.lit(int(Rank.SPECIES)), row="row", tier=pl.lit(0)))
    scientific = pl.concat(named).with_columns(key=name_key(pl.col("matched")))
    common = rows.filter(pl.col("common_name") != "").select(
        matched="common_name", rank=pl.lit(int(Rank.SPECIES)), row="row", tier=pl.lit(2)
    )
    return pl.concat([scientific, common.with_columns(key=vernacular_key(pl.col("matched")))])


def _first_tier(hits: pl.DataFrame) -> pl.DataFrame:
    """Of each name's hits those that bear it as a species; else as a higher taxon; else as a common name."""
    best = hits.filter(pl.col("tier") == pl.col("tier").min().over("name"))
    return best.select("name", "matched", "rank", "row")


def _rows_under(bank: LabelBank, hits: pl.DataFrame) -> pl.DataFrame:
    """All rows below the taxa that were hit: every row with the same name at that rank, homonyms included."""
    rows = bank.taxa.select(*RANK_LABELS).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    parts = [hits.filter(pl.col("rank") == int(Rank.SPECIES)).select("name", "row", "rank")]
    for rank in list(Rank)[: Rank.SPECIES]:
        of_rank = hits.filter(pl.col("rank") == int(rank)).select("name", "matched", "rank").unique()
        if of_rank.height:
            below = rows.select("row", matched=rank.label)
            parts.append(of_rank.join(below, on="matched").select("name", "row", "rank"))
    return pl.concat(parts).unique(["name", "row"])


def _resolve(names: pl.Series, resolver: Resolves) -> pl.DataFrame:
    """``name``, ``accepted`` (a scientific name, or empty) and ``reason`` (why the labels do not have it)."""
    distinct = names.unique(maintain_order=True)
    answers = resolver.resolve(distinct)
    certain = pl.col("status").is_in(["accepted", "synonym", "vernacular", "higher_rank"])
    accepted = pl.when(certain).then(pl.col("scientific_name")).otherwise(pl.lit(""))
    reason = (
        pl.when(certain)
        .then(pl.format("is {}, which is not among the labels", "scientific_name"))
        .otherwise(pl.format("not among the labels, and {} to taxonomy", pl.col("status").str.replace("_", " ")))
    )
    return answers.select(accepted=accepted, reason=reason).insert_column(0, distinct.alias("name"))


def _names_today(bank: LabelBank, resolver: Resolves) -> pl.DataFrame:
    """As :func:`_names_of`, for the species of the bank under the names that taxonomy gives them now."""
    species = bank.taxa.with_row_index("row").filter(pl.col("species") != "")
    answers = resolver.resolve(species["scientific_name"]).select("status", accepted="scientific_name")
    table = pl.DataFrame({"row": species["row"].cast(pl.Int64), "matched": species["scientific_name"]}).hstack(answers)
    table = table.filter(pl.col("status").is_in(["accepted", "synonym"]) & (pl.col("accepted") != ""))
    return table.select("matched", pl.lit(int(Rank.SPECIES)).alias("rank"), "row", pl.lit(0).alias("tier"),
                        name_key(pl.col("accepted")).alias("key"))  # fmt: skip


def _suggest(names: Sequence[str], known: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    from rapidfuzz.process import extract

    choices = known["matched"].unique(maintain_order=True).to_list()
    lower = [choice.lower() for choice in choices]
    near = {name: extract(name.lower(), lower, limit=N_SUGGESTIONS, score_cutoff=LIKE_ENOUGH) for name in names}
    return {name: tuple(choices[number] for _, _, number in hits) for name, hits in near.items()}
