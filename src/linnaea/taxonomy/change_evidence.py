"""Find evidence that taxa of two checklists are the same under different names, the strongest first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank

if TYPE_CHECKING:
    from linnaea.taxonomy.checklists.store import Checklist

SAME_IDS = 0.9
"""The share of namesakes with equal source ids from which ids are trusted to mean the same in both checklists."""
PRINCIPAL = 0.5
"""The share above which something holds for the majority."""
COMPANY = 3
"""The number of species with the same move from which a common epithet is evidence."""
EDITS_AND_LETTERS = ((1, 5, 1), (2, 9, 4))
"""Spelling variants: (edits, minimum length, equal letters at the start)."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One checklist, prepared for comparison."""

    taxa: pl.DataFrame
    """row, rank, name, ids, lineage, and keys for comparison."""
    synonyms: pl.DataFrame
    """name, rank, row, listed (the kind of synonym)."""
    above: npt.NDArray[np.int32]
    """[n_taxa, 7] row of the ancestor (or the taxon itself) at each rank, or -1."""

    @classmethod
    def of(cls, checklist: "Checklist") -> "Side":
        text = [pl.col(c).cast(pl.String).fill_null("") for c in ("source_id", "name", "authorship", "common_name")]
        lineage = [pl.col(label).cast(pl.String).fill_null("") for label in RANK_LABELS]
        taxa = checklist.taxa.select(pl.col("rank").cast(pl.Int8), "parent", *text, *lineage)
        taxa = taxa.with_row_index("row").with_columns(
            pl.col("row").cast(pl.Int32),
            stem=_stem(pl.col("species")),
            author=_author_key(pl.col("authorship")),
            common=pl.col("common_name").str.to_lowercase(),
        )
        taxa = taxa.with_columns(n_in_family=pl.len().over("rank", "kingdom", "family", "stem"))
        above = _ancestor_rows(taxa["parent"].fill_null(-1).to_numpy(), taxa["rank"].to_numpy())
        synonyms = _other_names(checklist.synonyms).join(taxa.select("row", "rank", accepted="name"), on="row")
        synonyms = synonyms.filter(pl.col("name") != pl.col("accepted")).drop("accepted")  # Pica pica pica
        return cls(taxa=taxa.drop("parent"), synonyms=synonyms, above=above)

    def rest(self, used: Sequence[pl.Series], column: str, kind: str, evidence: str) -> pl.DataFrame:
        """Return the taxa that are not in ``used``, as changes of ``kind``."""
        rows = self.taxa.select(pl.col("row").alias(column)).filter(~pl.col(column).is_in(pl.concat(used).implode()))
        return rows.with_columns(kind=pl.lit(kind), evidence=pl.lit(evidence))


def _other_names(synonyms: pl.DataFrame) -> pl.DataFrame:
    """Return name, row, listed of synonyms, and of the binomials that subspecies would have as species."""
    names = synonyms.select("name", pl.col("row").cast(pl.Int32), pl.col("kind").fill_null("synonym"))
    below = names.filter(pl.col("kind").is_in(["subspecies", "variety", "form"])).with_columns(
        pl.concat_str(pl.col("name").str.extract(r"^(\S+) "), pl.col("name").str.extract(r" (\S+)$"), separator=" "),
        listed=pl.format("the {} {}", "kind", "name"),
    )
    names = names.with_columns(
        listed=pl.when(pl.col("kind") == "synonym").then(pl.lit("a synonym")).otherwise(pl.format("a {}", "kind"))
    )
    every = pl.concat([names, below]).filter(pl.col("name").is_not_null())
    return every.select("name", "row", "listed").unique(["name", "row"], keep="first", maintain_order=True)


def _stem(epithet: pl.Expr) -> pl.Expr:
    """Return an epithet without its gender or genitive ending: albus, alba and album are ``alb``."""
    return (
        epithet.str.to_lowercase()
        .str.replace_all("-", "")
        .str.replace("ii$", "i")
        .str.replace("er$", "r")
        .str.replace("(us|um|is|os|on|a|e)$", "")
    )


def _author_key(authorship: pl.Expr) -> pl.Expr:
    """Return the letters and digits of the first author: ``(Linnaeus, 1758)`` and ``Linnaeus, 1758`` are equal."""
    original = pl.coalesce(authorship.str.extract(r"\(([^)]+)\)"), authorship)
    return original.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")


def _ancestor_rows(parent: npt.NDArray[np.int32], rank: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    above = np.full((len(parent), N_RANKS), -1, np.int32)
    rows = at = np.arange(len(parent), dtype=np.int32)
    for _ in range(N_RANKS):
        above[rows, rank[at]] = at
        rows, at = rows[parent[at] >= 0], parent[at][parent[at] >= 0]
    return above


# Rows of two tables.


def join_unique(old: pl.DataFrame, new: pl.DataFrame, key: Sequence[str], keep: Sequence[str] = ()) -> pl.DataFrame:
    """Join rows whose ``key`` occurs exactly once on each side; return old_row, new_row and the columns to ``keep``."""
    columns = [*dict.fromkeys([*key, *keep])]
    left = old.select(pl.col("row").alias("old_row"), *columns).unique(key, keep="none")
    right = new.select(pl.col("row").alias("new_row"), *columns).unique(key, keep="none")
    others = [f"{column}_new" for column in keep if column not in key]
    return left.join(right, on=key, suffix="_new").select("old_row", "new_row", *keep, *others)


def without(taxa: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    return taxa.join(rows.to_frame("row"), on="row", how="anti")


def evident(pairs: pl.DataFrame, evidence: pl.Expr | str) -> pl.DataFrame:
    text = pl.lit(evidence) if isinstance(evidence, str) else evidence
    return pairs.select("old_row", "new_row", text.alias("evidence"))


# Evidence by names, the strongest first.

Linker = Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]


def link_names(before: Side, after: Side, namesakes: pl.DataFrame) -> pl.DataFrame:
    """Return old_row, new_row, evidence of taxa without a namesake."""
    gone = _mark_genera(without(before.taxa, namesakes["old_row"]))
    fresh = _mark_genera(without(after.taxa, namesakes["new_row"]))
    found = [_by_name_again(gone, after), _by_new_synonyms(gone, after), _by_old_synonyms(before, fresh)]
    linkers: list[Linker] = [
        *([_by_source_id] if _ids_agree(before.taxa, after.taxa, namesakes) else []),
        _by_id_and_epithet,
        _by_ending,
        _by_author,
        _by_epithet_alone,
        _by_spelling,
        _by_common_name,
    ]
    for linker in linkers:
        linked = pl.concat(found)
        gone, fresh = without(gone, linked["old_row"]), without(fresh, linked["new_row"])
        found.append(linker(gone, fresh))
    links = pl.concat(found)
    return links.group_by("old_row", "new_row", maintain_order=True).agg(pl.col("evidence").str.join("; "))


def _mark_genera(taxa: pl.DataFrame) -> pl.DataFrame:
    """Add ``genus_too``: whether the genus of a taxon is also among ``taxa``, so that it has no namesake either."""
    genera = taxa.filter(pl.col("rank") == Rank.GENUS)["genus"].unique()
    return taxa.with_columns(genus_too=pl.col("genus").is_in(genera.implode()))


def _by_name_again(gone: pl.DataFrame, after: Side) -> pl.DataFrame:
    """Link names that the old checklist has more than once and the new one has once."""
    key = ["rank", *RANK_LABELS, "name"]
    entries = after.taxa.select(pl.col("row").alias("new_row"), *key).unique(key, keep="first", maintain_order=True)
    pairs = gone.select(pl.col("row").alias("old_row"), *key).join(entries, on=key)
    return evident(pairs, "the old checklist has the name more than once")


def _by_new_synonyms(gone: pl.DataFrame, after: Side) -> pl.DataFrame:
    """Link old names that the new checklist lists as synonyms; several accepted names make a split."""
    names = gone.select(pl.col("row").alias("old_row"), "rank", "name")
    pairs = names.join(after.synonyms.rename({"row": "new_row"}), on=["rank", "name"])
    return evident(pairs, pl.format("the new checklist lists the old name as {}", "listed"))


def _by_old_synonyms(before: Side, fresh: pl.DataFrame) -> pl.DataFrame:
    """Link new names that were synonyms of a taxon that is gone (renamed) or that still exists (split)."""
    names = fresh.select(pl.col("row").alias("new_row"), "rank", "name")
    pairs = names.join(before.synonyms.rename({"row": "old_row"}), on=["rank", "name"])
    return evident(pairs, pl.format("the old checklist lists the new name as {}", "listed"))


def _ids_agree(old: pl.DataFrame, new: pl.DataFrame, namesakes: pl.DataFrame) -> bool:
    if _is_numbering(old["source_id"]) or _is_numbering(new["source_id"]):
        return False
    ids = pl.DataFrame(
        {"old": old["source_id"].gather(namesakes["old_row"]), "new": new["source_id"].gather(namesakes["new_row"])}
    ).filter((pl.col("old") != "") & (pl.col("new") != ""))
    return bool(ids.height and ids.select((pl.col("old") == pl.col("new")).mean()).item() >= SAME_IDS)


def _is_numbering(ids: pl.Series) -> bool:
    """Return whether ids are 0, 1, 2, ... without a gap; they are then row numbers and do not identify taxa."""
    numbers = ids.filter(ids != "").cast(pl.Int64, strict=False)
    lowest = numbers.min()
    if not isinstance(lowest, int) or lowest > 1 or numbers.null_count():
        return False
    return numbers.n_unique() == int(numbers.max()) - lowest + 1  # type: ignore[arg-type]


def _by_source_id(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    named = pl.col("source_id") != ""
    pairs = join_unique(gone.filter(named), fresh.filter(named), ["rank", "source_id"], ["source_id"])
    return evident(pairs, pl.format("the same id {} in the source", "source_id"))


def _by_id_and_epithet(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    """Link species that moved to another genus of their family, whose id and epithet are the same.

    Row numbers may agree by chance, and so may epithets; the two together in one family do not.
    """
    known = (pl.col("source_id") != "") & (pl.col("family") != "") & (pl.col("stem").str.len_chars() > 1)
    key = ["rank", "family", "source_id", "stem"]
    pairs = join_unique(gone.filter(known), fresh.filter(known), key, ["source_id", "genus"])
    text = "the same id {}, epithet and family in another genus: {} -> {}"
    return evident(pairs, pl.format(text, "source_id", "genus", "genus_new"))


def _by_ending(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    species = pl.col("stem").str.len_chars() > 1
    pairs = join_unique(gone.filter(species), fresh.filter(species), ["rank", "kingdom", "genus", "stem"], ["species"])
    return evident(
        pairs, pl.format("the same genus and epithet but for its ending: {} -> {}", "species", "species_new")
    )


def _by_author(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    species = (pl.col("stem") != "") & (pl.col("author") != "")
    key = ["rank", "kingdom", "class", "stem", "author"]
    pairs = join_unique(gone.filter(species), fresh.filter(species), key, ["species", "authorship", "genus"])
    return evident(
        pairs,
        pl.format("the same epithet and author ({}) in another genus: {} -> {}", "authorship", "genus", "genus_new"),
    )


def _by_epithet_alone(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    """Link species with the same epithet but no author to confirm it, if there is a reason or company for the move.

    There is a reason if one of the two genera is new or gone and no other species of the family has the epithet. There
    is company if at least three species make the same move, and they are most of those that left one genus or joined
    the other.
    """
    species = (pl.col("stem").str.len_chars() > 1) & (pl.col("family") != "")
    gone, fresh = gone.filter(species), fresh.filter(species)
    key = ["rank", "kingdom", "family", "stem"]
    pairs = join_unique(gone, fresh, key, ["author", "genus", "family", "n_in_family", "genus_too"])
    pairs = pairs.filter((pl.col("author") == "") | (pl.col("author_new") == ""))
    n_gone = gone.group_by("family", "genus").len("n_gone")
    n_fresh = fresh.group_by("family", genus_new="genus").len("n_fresh")
    pairs = pairs.join(n_gone, on=["family", "genus"], maintain_order="left")
    pairs = pairs.join(n_fresh, on=["family", "genus_new"], maintain_order="left")
    together = pl.len().over("family", "genus", "genus_new")
    rare = (pl.col("n_in_family") == 1) & (pl.col("n_in_family_new") == 1)
    reason = rare & (pl.col("genus_too") | pl.col("genus_too_new"))
    company = (together >= COMPANY) & (together > PRINCIPAL * pl.min_horizontal("n_gone", "n_fresh"))
    text = "the same epithet in another genus of {}: {} -> {} (no author to confirm it)"
    return evident(pairs.filter(reason | company), pl.format(text, "family", "genus", "genus_new"))


def _by_spelling(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    left, right = (
        side.filter(pl.col("rank") == Rank.SPECIES).select(pl.col("row").alias(row), "kingdom", "genus", "species")
        for side, row in ((gone, "old_row"), (fresh, "new_row"))
    )
    pairs = left.join(right, on=["kingdom", "genus"], suffix="_new")
    most = max(edits for edits, *_ in EDITS_AND_LETTERS)
    names = pairs["species"].to_list(), pairs["species_new"].to_list()
    pairs = pairs.with_columns(edits=pl.Series(cpdist(*names, scorer=Levenshtein.distance, score_cutoff=most)))
    alike = [
        (pl.col("edits") == edits)
        & (pl.col("species").str.len_chars() >= letters)
        & (pl.col("species").str.head(start) == pl.col("species_new").str.head(start))
        for edits, letters, start in EDITS_AND_LETTERS
    ]
    pairs = pairs.filter(pl.any_horizontal(alike))
    pairs = pairs.unique("old_row", keep="none").unique("new_row", keep="none").sort("old_row")
    return evident(pairs, pl.format("the same genus, another spelling: {} -> {}", "species", "species_new"))


def _by_common_name(gone: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    named = (pl.col("common") != "") & (pl.col("order") != "")
    key = ["rank", "kingdom", "order", "common"]
    pairs = join_unique(gone.filter(named), fresh.filter(named), key, ["common_name"])
    return evident(pairs, pl.format("the same common name: {}", "common_name"))
