"""The names of a build, a head or a list of labels, resolved by checklists, with the evidence.

Every distinct pair of label and lineage is resolved once by :mod:`linnaea.taxonomy.resolve`, with the given ranks as
context. ``names.parquet`` records the given names and the result; an unresolved name keeps the source's lineage.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from linnaea.counting import count
from linnaea.data.plan import NAMES_FILE, merge_species
from linnaea.errors import UsageError
from linnaea.parquet import read_parquet
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank
from linnaea.taxonomy.remarks import split_remark, with_remark
from linnaea.taxonomy.resolve import Resolver, Status
from linnaea.taxonomy.row import MergeBy
from linnaea.taxonomy.taxon import Taxon

NAMES_SCHEMA: dict[str, Any] = {
    "label": pl.String,
    **{f"given_{name}": pl.String for name in (*RANK_LABELS, "common_name")},
    "asked": pl.String,
    "remark": pl.String,
    "status": pl.String,
    "matched_name": pl.String,
    "rank": pl.String,
    "checklist": pl.String,
    "version": pl.String,
    "note": pl.String,
    "taken": pl.String,
    "records": pl.Int64,
    "taxon_id": pl.Int32,
}
"""Columns of ``names.parquet``, one row per distinct label and given lineage. ``asked`` is the name that was looked up,
and ``remark`` the words of the label that it does not explain. ``taken`` is the origin of the pictures' lineage:
``checklist``, ``source``, ``both`` (higher ranks from the checklist, lower names from the source) or ``none``
(rejected). ``taxon_id`` is null if no picture is left."""

EMBEDDED = "inat"
"""The checklist that resolves names where no other is given."""

UNSURE = (Status.UNRESOLVED, Status.AMBIGUOUS, Status.CONFLICT, Status.REJECTED)


@dataclass(frozen=True, kw_only=True)
class NamingRule:
    """The rule for names: whether and how checklists resolve them."""

    checklists: tuple[str, ...] = ()
    """Names or files of checklists, in order of preference; if empty, the lineages of the sources stay unchanged."""
    context: tuple[str, ...] = ()
    """The common context of all names, such as ``class=Aves``."""
    unsure: Literal["keep", "reject"] = "keep"
    """How pictures are handled whose name is unknown, ambiguous or contradicts the given ranks: ``keep`` the source's
    lineage, or ``reject`` them."""
    merge_by: MergeBy = "class"
    """Which labels are one class: ``class``, those of one taxon and the same remark ("Danaus plexippus larva"), or
    ``taxon``, all those of one taxon."""

    def __post_init__(self) -> None:
        if wrong := [pair for pair in self.context if not all(pair.partition("="))]:
            raise ValueError(f"context {wrong[0]!r}: write rank=name, such as class=Aves")
        if self.merge_by not in ("class", "taxon"):
            raise ValueError(f"merge_by {self.merge_by!r}: write class or taxon")


def make_naming(checklist: Sequence[str] = (), *, resolve: bool = True, merge_by: MergeBy = "class") -> NamingRule:
    """Return the rule for names; without a checklist the embedded one resolves them.

    Raises:
        UsageError: a checklist is given, but names are not to be resolved.
    """
    if checklist and not resolve:
        raise UsageError("--checklist resolves names; give it without --no-resolve")
    return NamingRule(checklists=(tuple(checklist) or (EMBEDDED,)) if resolve else (), merge_by=merge_by)


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The result of resolving the names of a build."""

    table: pl.DataFrame
    """One row per distinct name, sorted, with :data:`NAMES_SCHEMA` except ``taxon_id``."""
    taxa: list[Taxon]
    """The taxon of every row; ``table["taken"]`` shows which rows are rejected."""
    given: list[Taxon]
    """The source's taxon of every row."""
    rows: pl.Series
    """The row of every record, ``[n_records]``."""

    @cached_property
    def taxon_of(self) -> dict[tuple[str, Taxon], Taxon]:
        """The taxon of each label with the source's taxon."""
        return dict(zip(zip(self.table["label"], self.given, strict=True), self.taxa, strict=True))


class NameResolver:
    """The checklists of a rule, loaded once, for the names of the data set and of its benchmarks."""

    def __init__(self, rule: NamingRule) -> None:
        checklists = [load_checklist(name) for name in rule.checklists]
        self._names = {f"{checklist.name} {checklist.version}": checklist.name for checklist in checklists}
        self._versions = {f"{checklist.name} {checklist.version}": checklist.version for checklist in checklists}
        context = dict(pair.split("=", 1) for pair in rule.context)
        self._resolver = Resolver.of(checklists, context=context)

    def resolve(self, asked: Sequence[str] | pl.Series, given: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return one row per name with :data:`linnaea.taxonomy.resolve.RESULT_COLUMNS` and ``version``."""
        found = self._resolver.resolve(asked, given=given)
        return found.with_columns(
            checklist=pl.col("checklist").replace_strict(self._names, default="", return_dtype=pl.String),
            version=pl.col("checklist").replace_strict(self._versions, default="", return_dtype=pl.String),
        )


def read_label() -> pl.Expr:
    """Return the label in the facts of a record, or ``""``."""
    return pl.col("facts").str.json_path_match("$.label").fill_null("").alias("label")


def settle_names(records: pl.LazyFrame, taxa: Sequence[Taxon], resolver: NameResolver, rule: NamingRule) -> Naming:
    """Resolve the names of records (columns ``facts`` and ``taxon_id``, a row of ``taxa``)."""
    pairs = records.select(read_label(), "taxon_id").collect(engine="streaming")
    names = pairs.group_by("label", "taxon_id").len("records")
    lineages = pl.DataFrame(
        [(number, *taxon.lineage, taxon.common_name, taxon.scientific_name) for number, taxon in enumerate(taxa)],
        schema={"taxon_id": pl.Int32, **dict.fromkeys((*RANK_LABELS, "common_name", "scientific_name"), pl.String)},
        orient="row",
    )
    names = names.join(lineages, on="taxon_id").sort("label", *RANK_LABELS, "common_name").with_row_index("row")
    found = _settle_by_context(names, _ask(names, resolver), resolver)
    source_taxa = [taxa[number] for number in names["taxon_id"]]
    decisions = [_decide(taxon, row, rule) for taxon, row in zip(source_taxa, found.iter_rows(named=True), strict=True)]
    taken = pl.Series("taken", [whose for _, whose in decisions], dtype=pl.String)
    given = names.select("label", *(pl.col(name).alias(f"given_{name}") for name in (*RANK_LABELS, "common_name")))
    table = pl.concat([given, found, names.select("records", taken)], how="horizontal")
    rows = pairs.join(names.select("label", "taxon_id", "row"), on=["label", "taxon_id"], maintain_order="left")["row"]
    columns = [name for name in NAMES_SCHEMA if name != "taxon_id"]
    table = table.select(columns).cast({"records": pl.Int64})
    return Naming(table=table, taxa=[taxon for taxon, _ in decisions], given=source_taxa, rows=rows.cast(pl.Int32))


def settle_classes(classes: Sequence[tuple[str, Taxon]], rule: NamingRule) -> tuple[list[Taxon], list[str]]:
    """Return the class of each label of photographs or of a list, and lines on what is not as its label says.

    These are names that were not found, are doubtful, are synonyms or were merged.

    ``classes`` are labels and the taxa that their source read from them. Spellings of one taxon become one class. A
    taxon without a label came from columns and stays a class of its own.
    """
    lines = list[str]()
    if rule.checklists:
        naming = name_classes(classes, rule)
        lines = [*_describe_table(naming.table), *_describe_renamed(naming)]
        classes = [(label, naming.taxon_of[label, taxon]) for label, taxon in classes]
    merged = merge_species(Counter(taxon for label, taxon in classes if label))
    taxa = [merged[taxon] if label else taxon for label, taxon in classes]
    number = {taxon: at for at, taxon in enumerate(dict.fromkeys(taxa))}
    labels = {"label": [label for label, _ in classes], "taxon_id": [number[taxon] for taxon in taxa]}
    return taxa, lines + _describe_merged(
        count_merged(pl.DataFrame(labels, schema={"label": pl.String, "taxon_id": pl.Int64}))
    )


def name_classes(classes: Sequence[tuple[str, Taxon]], rule: NamingRule) -> Naming:
    """Resolve the names of labels, each with the taxon that its source read from it."""
    taxa = list(dict.fromkeys(taxon for _, taxon in classes))
    number = {taxon: at for at, taxon in enumerate(taxa)}
    facts = [json.dumps({"label": label}, ensure_ascii=False) for label, _ in classes]
    numbers = pl.Series([number[taxon] for _, taxon in classes], dtype=pl.Int32)
    records = pl.LazyFrame({"facts": pl.Series(facts, dtype=pl.String), "taxon_id": numbers})
    return settle_names(records, taxa, NameResolver(rule), rule)


def _ask(names: pl.DataFrame, resolver: NameResolver) -> pl.DataFrame:
    """Look up the label, the label without its remark, and, if neither is found, the name in the source's lineage."""
    lineage_name = pl.when(pl.col("scientific_name") != "").then("scientific_name").otherwise("common_name")
    asked = names.select(pl.when(pl.col("label") != "").then("label").otherwise(lineage_name).alias("asked"))["asked"]
    found = resolver.resolve(asked, given=names.select(RANK_LABELS)).with_columns(asked)
    parts = [split_remark(label) for label in names["label"]]
    unexplained = [remark if set(_words(remark)) - set(_words(matched)) else ""
                   for (_, remark), matched in zip(parts, found["matched_name"], strict=True)]  # fmt: skip
    remark = pl.Series("remark", unexplained, dtype=pl.String)
    name = pl.Series("asked", [name for name, _ in parts], dtype=pl.String)
    ranks = names.select(RANK_LABELS)
    found = _ask_again(
        found, name, ranks, (name != names["label"]) & ((remark != "") | found["status"].is_in(UNSURE)), resolver
    )
    name = names["scientific_name"]
    again = found["status"].is_in(UNSURE) & (found["asked"] != name) & (name != "")
    return _ask_again(found, name, ranks, again, resolver).with_columns(remark)


def _ask_again(
    found: pl.DataFrame, asked: pl.Series, given: pl.DataFrame, where: pl.Series, resolver: NameResolver
) -> pl.DataFrame:
    """Return ``found`` with the answers to other names or other given ranks in some rows, as far as these are sure."""
    if not where.any():
        return found
    numbered = found.with_columns(number=pl.int_range(pl.len()))
    answers = resolver.resolve(asked.filter(where), given=given.filter(where))
    answers = numbered.filter(where).with_columns(asked.filter(where).alias("asked"), *answers.get_columns())
    better = answers.filter(~pl.col("status").is_in(UNSURE))
    kept = numbered.join(better, on="number", how="anti")
    return pl.concat([kept, better]).sort("number").drop("number")


CONTEXT_RANKS = ("kingdom", "phylum", "class")
"""The ranks at which the other names of a data set decide what a doubtful name means."""
LEAST_NAMES, LEAST_SHARE = 3, 0.9
"""The number of other names that must agree, and the share of them."""
_ONE_WORD = r"^[\d\W_]*\p{L}[\p{L}'’]*[\d\W_]*$"
_LIKE_A_GENUS = r"^[\d\W_]*\p{Lu}\p{Ll}+[\d\W_]*$"


def _settle_by_context(names: pl.DataFrame, found: pl.DataFrame, resolver: NameResolver) -> pl.DataFrame:
    """Decide homonyms by the rest of the names, or leave them ambiguous.

    A single word is doubtful if its taxon lies outside what the other names share (ADONIS, a genus of plants, among
    butterflies), or if nothing shows that it is a scientific name: no capital, or a list of vernacular names.
    """
    context = _find_context(found)
    status, known = found["status"], ~found["status"].is_in(UNSURE)
    word = known & (found["rank"] != Rank.SPECIES.label) & found["asked"].str.contains(_ONE_WORD)
    word = (word | (known & (status == Status.VERNACULAR) & found["asked"].str.contains(_ONE_WORD))) & _is_bare(names)
    outside = _outside(found, context)
    scientific = found["status"].is_in((Status.ACCEPTED, Status.SYNONYM, Status.GENUS_ONLY, Status.HIGHER_RANK))
    few = 2 * scientific.sum() < names.height
    unlike = pl.Series([few] * names.height, dtype=pl.Boolean) | ~found["asked"].str.contains(_LIKE_A_GENUS)
    doubtful = word & (outside if context else (unlike & (status != Status.VERNACULAR)))
    if context:
        given = names.select(pl.when(pl.col(rank) == "").then(pl.lit(context.get(rank, ""))).otherwise(rank).alias(rank)
                             for rank in RANK_LABELS)  # fmt: skip
        found = _ask_again(found, found["asked"], given, doubtful | (status == Status.AMBIGUOUS), resolver)
        doubtful &= _outside(found, context)
    why = (
        f"; the other names are {' '.join(context.values())}"
        if context
        else "; one word that may not be a scientific name"
    )
    place = pl.concat_str("matched_name", pl.lit(" is in "), "kingdom", pl.lit(" "), "family").str.strip_chars()
    return found.with_columns(
        status=pl.when(doubtful).then(pl.lit(Status.AMBIGUOUS.value)).otherwise("status"),
        note=pl.when(doubtful).then(place + why).otherwise("note"),
    )


def _outside(found: pl.DataFrame, context: Mapping[str, str]) -> pl.Series:
    """Return which names lie outside of the context at any of its ranks."""
    differs = [(pl.col(rank) != "") & (pl.col(rank) != name) for rank, name in context.items()]
    return found.with_columns(outside=pl.any_horizontal(pl.lit(value=False), *differs))["outside"]


def _is_bare(names: pl.DataFrame) -> pl.Series:
    """Return which names came without any rank."""
    return names.select(bare=pl.all_horizontal(pl.col(rank) == "" for rank in RANK_LABELS))["bare"]


def _find_context(found: pl.DataFrame) -> dict[str, str]:
    """Return the taxa that nearly all names of species belong to (if there are few, nearly all names)."""
    sure = found.filter(pl.col("status").is_in((Status.ACCEPTED, Status.SYNONYM, Status.VERNACULAR)))
    if sure.height < LEAST_NAMES:
        sure = found.filter(~pl.col("status").is_in(UNSURE))
    context: dict[str, str] = {}
    for rank in CONTEXT_RANKS:
        named = sure.filter(pl.col(rank) != "").group_by(rank).len("n").sort("n", rank)
        if named.is_empty():
            break
        name, n_agree = named.row(-1)
        if n_agree < LEAST_NAMES or n_agree < LEAST_SHARE * (
            int(named["n"].sum()) - 1
        ):  # the doubtful one is among them
            break
        context[rank] = name
    return context


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.lower())


def _decide(given: Taxon, found: dict[str, Any], rule: NamingRule) -> tuple[Taxon, str]:
    """Return the taxon of a name with its remark, and its origin (``checklist``, ``source``, ``both`` or ``none``).

    If a checklist knows only the genus, the source's species stays: lower names are kept as long as both agree on the
    lowest rank that the checklist has.
    """
    if found["status"] in UNSURE:
        return given, "none" if rule.unsure == "reject" else "source"
    taxon, taken = _merge(given, found)
    apart = rule.merge_by == "class" and _is_said(found["remark"], given)
    return (with_remark(taxon, found["remark"]) if apart else taxon), taken


def _merge(given: Taxon, found: dict[str, Any]) -> tuple[Taxon, str]:
    """Return the taxon that the checklist and the source give together, and its origin."""
    lineage = [found[label] for label in RANK_LABELS]
    lowest = Rank.parse(found["rank"])
    # Above species rank the source's common name is kept: it may be all that distinguishes two kinds of one family.
    own = "" if _is_spelling(given.common_name, found) or _is_said(found["remark"], given) else given.common_name
    names = (found["common_name"], own) if lowest == Rank.SPECIES else (own, "")
    common_name = names[0] or names[1]
    if given.rank is None or given.rank <= lowest:
        return Taxon.of(dict(zip(RANK_LABELS, lineage, strict=True)), common_name=common_name), "checklist"
    if given.lineage[lowest].lower() != lineage[lowest].lower():
        return given, "source"
    lineage[lowest + 1 :] = given.lineage[lowest + 1 : N_RANKS]
    return Taxon.of(dict(zip(RANK_LABELS, lineage, strict=True)), common_name=given.common_name), "both"


def _is_said(remark: str, given: Taxon) -> bool:
    """Return whether the source read the remark from the label; beside columns of ranks, it does not name the class."""
    return bool(remark) and set(_words(remark)) <= set(_words(given.common_name))


def _is_spelling(common_name: str, found: dict[str, Any]) -> bool:
    """Return whether a label that was read as a common name is the scientific name that was found ("ABIES_ALBA")."""
    words = set(_words(common_name)) - {"sp", "spp", "species"}
    return found["status"] != Status.VERNACULAR and words <= set(_words(found["matched_name"]))


def count_merged(classes: pl.DataFrame) -> dict[str, int]:
    """Return how many labels share their class with another label, and how many such classes there are.

    ``classes`` has a row per ``label`` and ``taxon_id`` (of the data set, null for none).
    """
    labels = classes.filter((pl.col("label") != "") & pl.col("taxon_id").is_not_null()).unique(["label", "taxon_id"])
    shared = labels.group_by("taxon_id").len().filter(pl.col("len") > 1)
    return {"labels": int(shared["len"].sum()), "classes": shared.height}


def count_names(names: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return the number of distinct names per status and of records per ``taken``, for the manifest."""
    by_status = names.group_by("status").len().sort("status").iter_rows()
    by_taken = names.group_by("taken").agg(pl.col("records").sum()).sort("taken").iter_rows()
    return {"names": dict(by_status), "records": dict(by_taken)}


N_SHOWN = 5
"""Number of names that a line shows."""


def describe_names(directory: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return lines on the names of a data set: how many were found, which not, which are doubtful, what was merged."""
    lines = []
    if names := manifest.get("names"):
        lines.append("names: " + ", ".join(f"{count:,} {status}" for status, count in names["names"].items()))
        lines += [f"{line}; see {NAMES_FILE}" for line in _describe_table(read_parquet(directory / NAMES_FILE))]
    return lines + _describe_merged(manifest.get("merged", {}))


def _describe_table(names: pl.DataFrame) -> list[str]:
    lines = []
    for what, rows in (("not found", not_found(names)), ("doubtful", doubtful(names))):
        lines += _list_names(what, [*rows["asked"]])
    return lines


def _describe_renamed(naming: Naming) -> list[str]:
    """Return a line on the labels whose class has the accepted name instead of theirs."""
    named = zip(naming.table.select("status", "asked").rows(), naming.taxa, strict=True)
    renamed = [f"{asked} is {taxon.scientific_name}" for (status, asked), taxon in named if status == Status.SYNONYM]
    return _list_names("synonyms", [*dict.fromkeys(renamed)])


def _list_names(what: str, names: Sequence[str]) -> list[str]:
    shown = ", ".join(names[:N_SHOWN]) + (", ..." if len(names) > N_SHOWN else "")
    return [f"{what}: {count(len(names), 'name')} ({shown})"] if names else []


def _describe_merged(merged: Mapping[str, int]) -> list[str]:
    if not merged.get("classes"):
        return []
    return [f"merged: {count(merged['labels'], 'label')} are {count(merged['classes'], 'class')}"]


def not_found(names: pl.DataFrame) -> pl.DataFrame:
    """Return the names that no checklist has, those of the most records first."""
    lost = pl.col("status").is_in((Status.UNRESOLVED, Status.REJECTED))
    return names.filter(lost).sort("records", "asked", descending=[True, False])


def doubtful(names: pl.DataFrame) -> pl.DataFrame:
    """Return the names that a person should look at, with the reason in ``note``, those of the most records first."""
    unsure = pl.col("status").is_in((Status.AMBIGUOUS, Status.CONFLICT, Status.FUZZY))
    partly = pl.col("status").is_in((Status.GENUS_ONLY, Status.HIGHER_RANK)) & (pl.col("note") != "")
    return names.filter(unsure | partly).sort("records", "asked", descending=[True, False])
