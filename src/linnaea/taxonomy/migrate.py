"""Migrate tables of labels and of taxa from one version of a checklist to another.

A label is migrated if its taxon has one successor. If it has several (a split), or if the name means several taxa,
nothing is guessed: the label is kept, and the row has the status ``ambiguous`` and the candidates.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.errors import UsageError
from linnaea.taxonomy.changes import compare
from linnaea.taxonomy.columns import scientific_name
from linnaea.taxonomy.find import lineage_text
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.tree import depth_first, find_classes

if TYPE_CHECKING:
    from linnaea.taxonomy.checklists.store import Checklist

STATUSES = (
    "unchanged",  # the same name and lineage in both versions
    "renamed",  # the name was replaced (also: the label was a synonym already)
    "moved",  # the same name under another lineage
    "lumped",  # now a part of another taxon
    "ambiguous",  # split, or a homonym that the row does not distinguish: label kept, candidates listed
    "gone",  # no successor: label kept
    "current",  # only in the new version: label kept
    "unknown",  # in neither version: label kept
    "empty",  # no label
)
"""The possible statuses of a row."""
CARRIED = ("renamed", "moved", "lumped")

HISTORY_COLUMNS = ("old_name", "old_lineage", "new_name", "new_lineage", "change", "candidates", "note")


@dataclass(frozen=True, kw_only=True)
class Migration:
    """Two versions of a checklist, with the outcome for every taxon of the old one."""

    old: "Checklist"
    new: "Checklist"
    outcomes: pl.DataFrame
    """old_row, change, new_row (null for none or several), candidates, note; one row per taxon of ``old``."""

    @classmethod
    def between(cls, old: "Checklist", new: "Checklist") -> Self:
        """Return the migration between two checklists (see :func:`linnaea.taxonomy.changes.compare` for the cost)."""
        comparison = compare(old, new)
        same = comparison.namesakes.with_columns(change=pl.lit("unchanged"), candidates=pl.lit(""), note=pl.lit(""))
        parts = pl.col("kind") == "split"
        followed = (
            comparison.changes.filter(pl.col("old_row").is_not_null())
            .group_by("old_row", maintain_order=True)
            .agg(
                change=pl.when(parts.any()).then(pl.lit("ambiguous")).otherwise(pl.col("kind").first()),
                new_row=pl.when(pl.len() == 1).then(pl.col("new_row").first()),
                candidates=pl.col("new_name").filter(parts).sort().str.join("; "),
                note=pl.when(parts.any())
                .then(pl.lit("split: ") + pl.col("evidence").first())
                .otherwise(pl.col("evidence").first()),
            )
        )
        unchanged = same.join(followed, on="old_row", how="anti")
        outcomes = pl.concat([unchanged.select(followed.columns), followed]).sort("old_row")
        return cls(old=old, new=new, outcomes=outcomes)

    @property
    def from_version(self) -> str:
        return f"{self.old.name} {self.old.version}".strip()

    @property
    def to_version(self) -> str:
        return f"{self.new.name} {self.new.version}".strip()

    def follow(self, labels: pl.DataFrame) -> pl.DataFrame:
        """Return the outcome of each label, with :data:`HISTORY_COLUMNS` and ``new_row``, in the order of ``labels``.

        ``labels`` has a column ``name`` (scientific) and any of the seven ranks, which distinguish homonyms.
        """
        labels = labels.select(
            _tidy(pl.col("name")).alias("name"),
            *(_tidy(pl.col(r)) if r in labels.columns else pl.lit("").alias(r) for r in RANK_LABELS),
        )
        distinct = labels.unique(maintain_order=True).with_row_index("label")
        in_old = _locate(distinct, self.old).rename({"row": "old_row"})
        in_new = _locate(distinct, self.new).rename({"row": "row_in_new", "n": "n_new"})
        found = distinct.join(in_old, on="label", how="left").join(
            in_new.select("label", "row_in_new", "n_new"), on="label", how="left"
        )
        found = found.join(self.outcomes, on="old_row", how="left", maintain_order="left")
        found = _judge(found)
        described = self._describe(found).select("name", *RANK_LABELS, *HISTORY_COLUMNS, "new_row")
        return labels.join(described, on=["name", *RANK_LABELS], how="left", maintain_order="left").select(
            *HISTORY_COLUMNS, "new_row"
        )

    def _describe(self, found: pl.DataFrame) -> pl.DataFrame:
        names = self.new.taxa.select(
            pl.int_range(pl.len(), dtype=pl.Int32).alias("new_row"),
            pl.col("name").alias("new_name"),
            lineage_text(self.new.taxa.select(pl.col(r).fill_null("") for r in RANK_LABELS)).alias("new_lineage"),
        )
        given = lineage_text(found.select(RANK_LABELS))
        found = found.join(names, on="new_row", how="left", maintain_order="left")
        return found.with_columns(
            old_name="name",
            old_lineage=given,
            new_name=pl.coalesce("new_name", "name"),
            new_lineage=pl.coalesce("new_lineage", given),
        )


def _tidy(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.String).fill_null("").str.replace_all(r"[\s_]+", " ").str.strip_chars()


def _locate(labels: pl.DataFrame, checklist: "Checklist") -> pl.DataFrame:
    """Return label, row (the best entry of the checklist), n (equally good entries), synonym for the labels found.

    An accepted name has priority over a synonym. Among homonyms, the best entry is the one whose lineage agrees with
    the most given ranks. An entry that agrees with none of the ranks that both sides name is a different taxon.
    """
    ranks = [pl.col(r).cast(pl.String).fill_null("") for r in RANK_LABELS]
    taxa = checklist.taxa.select(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("row"),
        "name",
        *(r.alias(f"{r.meta.output_name()}_there") for r in ranks),
    )
    synonyms = checklist.synonyms.select(pl.col("row").cast(pl.Int32), pl.col("name").alias("synonym_name")).unique()
    synonyms = synonyms.join(taxa.rename({"name": "accepted"}), on="row").rename({"synonym_name": "name"})
    entries = pl.concat(
        [
            labels.join(taxa, on="name").with_columns(synonym=pl.lit(False)),
            labels.join(synonyms.drop("accepted"), on="name").with_columns(synonym=pl.lit(True)),
        ]
    )
    # A taxon's own name always agrees, so the genus of a binomial is not evidence.
    own = pl.col("name").str.split(" ").list.first()
    both = [
        (pl.col(r) != "") & (pl.col(f"{r}_there") != "") & (pl.col(r) != own) & (pl.col(f"{r}_there") != own)
        for r in RANK_LABELS[:-1]
    ]
    agree = [known & (pl.col(r) == pl.col(f"{r}_there")) for known, r in zip(both, RANK_LABELS, strict=False)]
    entries = entries.with_columns(
        score=pl.sum_horizontal(agree) - 10 * pl.col("synonym").cast(pl.Int32), n_both=pl.sum_horizontal(both)
    )
    entries = entries.filter((pl.sum_horizontal(agree) > 0) | (pl.col("n_both") == 0))
    best = entries.filter(pl.col("score") == pl.col("score").max().over("label")).sort("label", "row")
    # A name listed twice with one lineage is one taxon.
    best = best.unique(["label", *(f"{r}_there" for r in RANK_LABELS)], keep="first", maintain_order=True)
    return best.group_by("label", maintain_order=True).agg(
        row=pl.col("row").first(),
        n=pl.len(),
        synonym=pl.col("synonym").first(),
        entries=pl.concat_str([pl.col(f"{r}_there") for r in RANK_LABELS[:5]], separator=" ")
        .str.strip_chars()
        .str.join("; "),
    )


def _judge(found: pl.DataFrame) -> pl.DataFrame:
    """Add the status, successor, candidates and note of each label from its place in both checklists."""
    absent, homonym = pl.col("old_row").is_null(), pl.col("n") > 1
    synonym = pl.col("synonym") & (pl.col("change") == "unchanged")
    change = (
        pl.when(pl.col("name") == "").then(pl.lit("empty"))
        .when(absent & pl.col("row_in_new").is_not_null()).then(pl.lit("current"))
        .when(absent).then(pl.lit("unknown"))
        .when(homonym).then(pl.lit("ambiguous"))
        .when(synonym).then(pl.lit("renamed"))
        .otherwise("change")
    )  # fmt: skip
    note = (
        pl.when(pl.col("name") == "").then(pl.lit("no label"))
        .when(absent & pl.col("row_in_new").is_not_null()).then(pl.lit("already a name of the new version"))
        .when(absent).then(pl.lit("in neither version"))
        .when(homonym).then(pl.lit("the name means several taxa in the old version; give a higher rank"))
        .when(synonym).then(pl.lit("already a synonym in the old version"))
        .otherwise("note")
    )  # fmt: skip
    found = found.with_columns(
        candidates=pl.when(homonym).then("entries").otherwise("candidates").fill_null(""), change=change, note=note
    )
    return found.with_columns(new_row=pl.when(pl.col("change").is_in([*CARRIED, "unchanged"])).then("new_row"))


# Label tables.


EPITHET, NAME = "species_epithet", "scientific_name"
"""Columns beside those of the ranks; with an epithet of its own, ``species`` is the whole name, as in our answers."""


def migrate_labels(table: pl.DataFrame, migration: Migration, *, column: str = "") -> pl.DataFrame:
    """Return the table with its labels migrated. Rows keep their order, and every row has a status.

    The label is ``column`` or, without one, the species, else ``scientific_name``, else the name at the lowest rank.
    A cell of ``species`` is an epithet beside a genus, or a whole name. The migration rewrites ``column``, ranks,
    ``species_epithet`` and ``scientific_name``, as far as the table has them. It adds ``old_name``, ``change``
    (:data:`STATUSES`), ``candidates``, ``note``, ``from_version``, ``to_version`` and ``taxonomy_history``, which later
    migrations extend.

    Raises:
        UsageError: The column does not exist, or there is no column to take labels from.
    """
    ranks = [r for r in RANK_LABELS if r in table.columns]
    lineages = _read_lineages(table)
    labels = lineages.select(*ranks, _label_names(table, lineages, column, ranks).alias("name"))
    followed = migration.follow(labels)
    table = _rewrite(table, followed, migration.new.taxa, {column, NAME} & {*table.columns})
    told = _told(followed, migration)
    if "taxonomy_history" in table.columns:
        before = table["taxonomy_history"].fill_null("")
        told = (
            before
            + pl.select(pl.when((before != "") & (told != "")).then(pl.lit("; ")).otherwise(pl.lit("")))[:, 0]
            + told
        )
    return table.with_columns(
        followed["old_name"],
        followed["change"],
        followed["candidates"],
        followed["note"],
        pl.lit(migration.from_version).alias("from_version"),
        pl.lit(migration.to_version).alias("to_version"),
        told.alias("taxonomy_history"),
    )


def _rewrite(table: pl.DataFrame, followed: pl.DataFrame, taxa: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """Return the table with the names of the labels' successors in its rank columns and in ``names``."""
    carried = followed["change"].is_in(CARRIED)
    heirs = taxa.select(*RANK_LABELS, "name")[followed["new_row"].fill_null(0)]
    source_of = {r: r for r in RANK_LABELS if r in table.columns} | dict.fromkeys(names, "name")
    values = {target: heirs[source] for target, source in source_of.items()}
    if "species" in table.columns and "species" not in names:
        whole = pl.lit(EPITHET in table.columns) | _tidy(pl.col("species")).str.contains(" ")
        name = pl.when(heirs["species"] != "").then(heirs["name"]).otherwise(pl.lit(""))
        values["species"] = table.with_columns(heir=pl.when(whole).then(name).otherwise(heirs["species"]))["heir"]
    if EPITHET in table.columns:
        values[EPITHET] = heirs["species"]
    return table.with_columns(
        pl.when(carried).then(value.fill_null("")).otherwise(table[target].cast(pl.String)).alias(target)
        for target, value in values.items()
    )


def _read_lineages(table: pl.DataFrame) -> pl.DataFrame:
    """Return the seven ranks of the rows, with the epithet as the species, and the whole name where it is one."""
    ranks = table.select(_tidy(pl.col(r)) if r in table.columns else pl.lit("").alias(r) for r in RANK_LABELS)
    words = pl.col("species").str.split(" ")
    whole = pl.when(words.list.len() > 1).then(pl.col("species")).otherwise(pl.lit("")).alias("whole")
    epithet = pl.when(words.list.len() > 1).then(words.list.get(1, null_on_oob=True)).otherwise("species")
    genus = pl.when((words.list.len() > 1) & (pl.col("genus") == "")).then(words.list.first()).otherwise("genus")
    return ranks.with_columns(whole, genus.alias("genus"), epithet.alias("species"))


def _label_names(table: pl.DataFrame, lineages: pl.DataFrame, column: str, ranks: list[str]) -> pl.Series:
    if column:
        if column not in table.columns:
            raise UsageError(f"the table has no column {column!r}; there are {', '.join(table.columns)}")
        return table[column].cast(pl.String)
    if not ranks and NAME not in table.columns:
        raise UsageError(
            f"the table has no rank columns; give the column of labels with --column ({', '.join(table.columns)})"
        )
    stated = _tidy(pl.col(NAME)) if NAME in table.columns else pl.lit("")
    names = lineages.with_columns(table.with_columns(stated=stated)["stated"])
    species = pl.when(pl.col("whole") != "").then("whole").when(pl.col("species") != "").then(scientific_name())
    other = pl.when(pl.col("stated") != "").then("stated").otherwise(scientific_name())
    return names.select(name=species.otherwise(other))["name"]


def _told(followed: pl.DataFrame, migration: Migration) -> pl.Series:
    """Return a history entry per row, ``Old name -> New name (renamed, inat 1 -> inat 2)``, or "" without a change."""
    versions = f"{migration.from_version} -> {migration.to_version}"
    carried = pl.format("{} -> {} ({}, {})", "old_name", "new_name", "change", pl.lit(versions))
    kept = pl.format("{} kept ({}, {})", "old_name", "change", pl.lit(versions))
    told = (
        pl.when(pl.col("change").is_in(CARRIED)).then(carried)
        .when(pl.col("change").is_in(["ambiguous", "gone"])).then(kept).otherwise(pl.lit(""))
    )  # fmt: skip
    return followed.select(told.alias("told"))["told"]


def count_statuses(followed: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows of each status that occurs, in the order of :data:`STATUSES`."""
    counts = dict(followed["change"].value_counts().iter_rows())
    return {status: counts[status] for status in STATUSES if counts.get(status)}


# Taxon tables.


@dataclass(frozen=True, kw_only=True)
class MigratedTaxa:
    """A table of taxa in the new version."""

    taxa: pl.DataFrame
    """The same columns in depth-first order; ``taxon_id`` is the row number."""
    new_id: npt.NDArray[np.int32]
    """[n_old] the new id of each old taxon; lumped taxa share one."""
    history: pl.DataFrame
    """One row per changed taxon: taxon_id (new), names and lineages before and after, change."""
    counts: Mapping[str, int]
    """The number of taxa per status; the counts add up to the rows of the old table."""


def migrate_taxa(taxa: pl.DataFrame, migration: Migration) -> MigratedTaxa:
    """Migrate a data set's table of taxa (see ``linnaea.data.shards.TAXA_SCHEMA``) to the new version.

    A renamed or moved taxon keeps its common name. A lumped taxon takes that of the taxon that it is now part of.
    Classes of one species stay apart, with its new name ("Danaus plexippus larva").
    """
    lineages = taxa.select(pl.col(r).fill_null("") for r in RANK_LABELS)
    remarks = _read_remarks(taxa)
    followed = migration.follow(lineages.with_columns(name=scientific_name()))
    carried = followed["change"].is_in(CARRIED)
    heirs = migration.new.taxa.select(
        *(pl.col(r).cast(pl.String).fill_null("") for r in RANK_LABELS),
        pl.col("common_name").fill_null("").alias("heir_common"),
    )[followed["new_row"].fill_null(0)]
    moved = lineages.with_columns(pl.when(carried).then(heirs[r]).otherwise(lineages[r]).alias(r) for r in RANK_LABELS)
    moved = moved.with_columns(
        taxa["common_name"].fill_null("").zip_with(remarks == "", pl.Series([""])),
        heirs["heir_common"],
        followed["change"],
        old_id=pl.int_range(pl.len(), dtype=pl.Int32),
    ).with_columns(_common_names())
    moved = moved.with_columns(remarks).with_columns(
        common_name=pl.when(pl.col("remark") != "")
        .then(pl.concat_str(scientific_name(), "remark"))
        .otherwise("common_name")
    )
    key = [*RANK_LABELS, "common_name"]
    kept = depth_first(moved.unique(key, keep="first", maintain_order=True)).with_row_index("taxon_id")
    kept = kept.with_columns(pl.col("taxon_id").cast(pl.Int32))
    new_id = moved.join(kept.select("taxon_id", *key), on=key, how="left", maintain_order="left")["taxon_id"]
    # Other columns (there are none today) come from the first of the lumped taxa.
    result = taxa[kept["old_id"]].with_columns(
        kept["taxon_id"], *(kept[c] for c in key), kept.select(scientific_name=scientific_name())["scientific_name"]
    )
    nameless = (result["scientific_name"] == "") & (result["common_name"] != "")
    result = result.with_columns(
        pl.when(nameless)
        .then(taxa[kept["old_id"]]["scientific_name"])
        .otherwise("scientific_name")
        .alias("scientific_name")
    )
    history = followed.with_columns(
        new_id.alias("taxon_id"), from_version=pl.lit(migration.from_version), to_version=pl.lit(migration.to_version)
    )
    history = history.filter(~pl.col("change").is_in(["unchanged", "current"])).select(
        "taxon_id", *HISTORY_COLUMNS, "from_version", "to_version"
    )
    return MigratedTaxa(taxa=result, new_id=new_id.to_numpy(), history=history, counts=count_statuses(followed))


def _read_remarks(taxa: pl.DataFrame) -> pl.Series:
    """Return what the common name of each of several classes of a species adds to its name (" larva"), else ``""``."""
    remarks, columns = [""] * taxa.height, [taxa[name] for name in ("genus", "species", "common_name")]
    for row in find_classes(taxa).tolist():
        genus, species, common_name = (column[row] for column in columns)
        remarks[row] = common_name.removeprefix(f"{genus} {species}")
    return pl.Series("remark", remarks, dtype=pl.String)


def _common_names() -> pl.Expr:
    """Return common names; a lumped taxon takes the receiving taxon's, the new checklist's, or the first lumped one."""
    lumped = pl.col("change") == "lumped"
    own = pl.when((pl.col("common_name") != "") & ~lumped).then("common_name").drop_nulls().first().over(RANK_LABELS)
    heir = pl.when(pl.col("heir_common") != "").then("heir_common")
    first = pl.when(pl.col("common_name") != "").then("common_name").drop_nulls().first().over(RANK_LABELS)
    return pl.when(lumped).then(pl.coalesce(own, heir, first, pl.lit(""))).otherwise("common_name").alias("common_name")
