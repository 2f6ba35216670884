"""Resolve names to taxa with evidence, or to the reason why they cannot be resolved.

Distinct names go through a sequence of lookups, the most reliable first. A name that one lookup settles does not reach
the next. Every lookup is a join over all remaining names, so a million names take minutes.

1. as written: the name of a taxon, a synonym, a subspecies
2. several names in one label, and formulas of hybrids: what their taxa share
3. the scientific name of a label that also has a vernacular name
4. as a vernacular name, before any parse is trusted
5. as parsed, without authorship, qualifiers and brackets; below the species first as it is, then its species
6. as a vernacular name without possessives, plurals, spaces and life forms
7. with another ending of the epithet, or in a genus that its own is now a subgenus or synonym of
8. by the initial of the genus; with one or two edits, for scientific and vernacular names
9. the genus alone, or what a label's lineage has above it

Homonyms are decided by the context, the given ranks, the lineage in the label, and the author in the label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, overload

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.columns import RESULT_COLUMNS, scientific_name
from linnaea.taxonomy.name_evidence import add_ancestors, agree_with_authors, conflicting_authors, disagreeing_pairs
from linnaea.taxonomy.name_index import (
    ACCEPTED,
    GIVEN_RANKS,
    SYNONYM,
    NameIndex,
    in_scope,
    keep_agreeing,
    make_index,
)
from linnaea.taxonomy.name_lookups import Lookups
from linnaea.taxonomy.parsed_labels import PARSED_SCHEMA, parse_label_table
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.shared_ranks import shared_by_homonyms, shared_by_parts
from linnaea.taxonomy.taxon import Taxon

Checklists: TypeAlias = str | Checklist | Sequence[str | Checklist]


class Status(StrEnum):
    """The outcome of a resolution. The first four resolve to a species."""

    ACCEPTED = "accepted"
    """The accepted name of a species in the checklist."""
    SYNONYM = "synonym"
    """Another name of a species, or of a part of it."""
    VERNACULAR = "vernacular"
    """A vernacular name of one species."""
    FUZZY = "fuzzy"
    """A misspelling of one species' name."""
    GENUS_ONLY = "genus_only"
    """Only the genus is certain."""
    HIGHER_RANK = "higher_rank"
    """A taxon above the genus."""
    AMBIGUOUS = "ambiguous"
    """Several taxa have the name; the ranks they share are filled."""
    CONFLICT = "conflict"
    """The name belongs to a taxon that contradicts the given context; that taxon is filled in."""
    UNRESOLVED = "unresolved"
    """A name that is in none of the checklists."""
    REJECTED = "rejected"
    """Not a name."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Resolution:
    """The taxon that a name was resolved to, with the evidence; or why there is none."""

    label: str
    """The name as it was given."""
    status: Status
    taxon: Taxon | None
    """``None`` where nothing at all is certain."""
    rank: Rank | None
    matched_name: str
    checklist: str
    note: str

    def __repr__(self) -> str:
        name = self.taxon.scientific_name if self.taxon else "nothing"
        return f"Resolution({self.label!r} -> {name}, {self.status}{f': {self.note}' if self.note else ''})"


@overload
def resolve(  # type: ignore[overload-overlap]  # a str is a sequence of its letters, too
    names: str,
    checklists: Checklists = ...,
    *,
    context: Mapping[str, str] | None = ...,
    given: pl.DataFrame | None = ...,
    processes: int = ...,
    on_progress: OnProgress | None = ...,
) -> Resolution: ...
@overload
def resolve(
    names: Sequence[str] | pl.Series,
    checklists: Checklists = ...,
    *,
    context: Mapping[str, str] | None = ...,
    given: pl.DataFrame | None = ...,
    processes: int = ...,
    on_progress: OnProgress | None = ...,
) -> pl.DataFrame: ...
def resolve(
    names: str | Sequence[str] | pl.Series,
    checklists: Checklists = ("inat",),
    *,
    context: Mapping[str, str] | None = None,
    given: pl.DataFrame | None = None,
    processes: int = 1,
    on_progress: OnProgress | None = None,
) -> Resolution | pl.DataFrame:
    """Resolve a name to a :class:`Resolution`, or many names to a table with one row per name in the given order.

    The columns of the table are :data:`RESULT_COLUMNS`. ``species`` is the epithet, and ``scientific_name`` the full
    name. Equal names are resolved once. To call this repeatedly with the same checklists, make a :class:`Resolver`.

    >>> resolve("PICA_PICA")
    Resolution('PICA_PICA' -> Pica pica, accepted)
    >>> resolve("Pica hudsnoia").taxon.lineage[4]
    'Corvidae'
    >>> resolve(["Abies alba Mill.", "Canis sp."])["scientific_name"].to_list()
    ['Abies alba', 'Canis']

    Args:
        names: Raw labels; null and ``""`` are allowed.
        checklists: Names or files of checklists, or checklists, in order of preference; or a single one.
        context: Taxa that all names belong to, such as ``{"class": "Aves"}``.
        given: Known ranks of each name (any of the columns kingdom to family), in the order of ``names``.
        processes: Worker processes for parsing.
        on_progress: Called with the number of settled names and the number of distinct names.

    Raises:
        LinnaeaError: A checklist cannot be read, or the context has an unknown rank or taxon.
    """
    resolver = Resolver.of(checklists, context=context)
    answers = resolver.resolve(names, given=given, processes=processes, on_progress=on_progress)
    return answers if isinstance(answers, Resolution) else resolver.add_common_names(answers)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resolver:
    """Checklists and a context, indexed for resolving any number of names."""

    index: NameIndex
    inside: pl.Series
    """[n_taxa] whether a taxon is within the context."""
    lookups: Lookups

    @classmethod
    def of(cls, checklists: Checklists, *, context: Mapping[str, str] | None = None) -> "Resolver":
        """Load one or more checklists and index their names, which takes about 2 seconds for the embedded one.

        Raises:
            LinnaeaError: A checklist cannot be read, or the context has an unknown rank or taxon.
        """
        several = [checklists] if isinstance(checklists, str | Checklist) else checklists
        loaded = [load_checklist(entry) if isinstance(entry, str) else entry for entry in several]
        index = make_index(loaded)
        inside = in_scope(index.taxa, context or {})
        return cls(index=index, inside=inside, lookups=Lookups(index, inside))

    @overload
    def resolve(  # type: ignore[overload-overlap]
        self,
        names: str,
        *,
        given: pl.DataFrame | None = ...,
        processes: int = ...,
        on_progress: OnProgress | None = ...,
    ) -> Resolution: ...
    @overload
    def resolve(
        self,
        names: Sequence[str] | pl.Series,
        *,
        given: pl.DataFrame | None = ...,
        processes: int = ...,
        on_progress: OnProgress | None = ...,
    ) -> pl.DataFrame: ...
    def resolve(
        self,
        names: str | Sequence[str] | pl.Series,
        *,
        given: pl.DataFrame | None = None,
        processes: int = 1,
        on_progress: OnProgress | None = None,
    ) -> Resolution | pl.DataFrame:
        """Resolve one or many names as :func:`resolve` does."""
        if isinstance(names, str):
            return _as_resolution(names, self.resolve([names], given=given, on_progress=on_progress))
        labels = names if isinstance(names, pl.Series) else pl.Series("label", list(names), dtype=pl.String)
        table = pl.DataFrame({"label": labels.cast(pl.String).fill_null("")})
        if given is not None:
            if given.height != table.height:
                raise LinnaeaError(f"given has {given.height} rows for {table.height} names; give one row per name")
            table = table.hstack([given[c].cast(pl.String).fill_null("") for c in GIVEN_RANKS if c in given.columns])
        distinct = table.unique(maintain_order=True).with_row_index("q").with_columns(pl.col("q").cast(pl.Int32))
        answers = _Run(self, distinct, on_progress).answer(processes)
        keyed = pl.concat([distinct.drop("q"), answers.select(pl.all().name.prefix("_"))], how="horizontal")
        joined = table.join(keyed, on=table.columns, how="left", maintain_order="left")
        return joined.select(pl.col(f"_{column}").alias(column) for column in RESULT_COLUMNS)

    def add_common_names(self, answers: pl.DataFrame) -> pl.DataFrame:
        """Fill empty common names with the English name that a checklist prefers for the taxon.

        The names of the embedded checklist are not in :meth:`resolve`, so that they do not reach captions.
        """
        spoken = self.index.vernaculars.filter("preferred").unique("t", keep="first", maintain_order=True)
        taxa = self.index.taxa.select("t", "rank", *RANK_LABELS).join(spoken.select("t", "matched"), on="t")
        named = taxa.unique(["rank", *RANK_LABELS], keep="first", maintain_order=True).drop("t")
        ranks = {label: number for number, label in enumerate(RANK_LABELS)}
        asked = answers.select(pl.col("rank").replace_strict(ranks, default=None, return_dtype=pl.Int8), *RANK_LABELS)
        found = asked.join(named, on=["rank", *RANK_LABELS], how="left", maintain_order="left")["matched"]
        sure = ~pl.col("status").is_in((Status.AMBIGUOUS, Status.CONFLICT))
        filled = (
            pl.when((pl.col("common_name") == "") & sure).then(pl.lit(found.fill_null(""))).otherwise("common_name")
        )
        return answers.with_columns(common_name=filled)


def _as_resolution(label: str, table: pl.DataFrame) -> Resolution:
    row = table.row(0, named=True)
    lineage = {rank: row[rank] for rank in RANK_LABELS}
    return Resolution(
        label=label,
        status=Status(row["status"]),
        taxon=Taxon.of(lineage, common_name=row["common_name"]) if any(lineage.values()) else None,
        rank=Rank.parse(row["rank"]) if row["rank"] else None,
        matched_name=row["matched_name"],
        checklist=row["checklist"],
        note=row["note"],
    )


class _Run:
    """One pass over distinct names: those that are pending, those that were answered."""

    def __init__(self, resolver: Resolver, queries: pl.DataFrame, on_progress: OnProgress | None) -> None:
        self.index, self.inside, self.lookups = resolver.index, resolver.inside, resolver.lookups
        self.queries = queries
        self.pending = queries.select("q", "label")
        self.answers: list[pl.DataFrame] = []
        self.shared: list[pl.DataFrame] = []
        self.outside: list[pl.DataFrame] = []
        self.on_progress = on_progress
        self.parsed = pl.DataFrame(schema={"q": pl.Int32, "label": pl.String, **PARSED_SCHEMA})

    def answer(self, processes: int) -> pl.DataFrame:
        """Run the lookups in order, and return :data:`RESULT_COLUMNS` in the order of the queries."""
        lookups = self.lookups
        has_vernaculars = not self.index.vernaculars.is_empty()
        self._settle(lookups.as_written(self.pending), "as written")
        self._parse(processes)
        self._settle_together()
        pairs = self._read().filter("is_pair")
        self._settle(lookups.as_parsed(pairs, only_species=True), "parsed")
        if has_vernaculars:
            self._settle(lookups.vernacular(self._read(), "strict", "whole"), "vernacular", is_whole=True)
            self._settle(lookups.vernacular(self._read(), "strict"), "vernacular")
        self._settle(lookups.as_parsed(self._read()), "parsed")
        self._settle(lookups.infraspecific_ending(self._read()), "ending")
        self._settle(lookups.species_of_trinomial(self._read()), "species")
        if has_vernaculars:
            self._settle(lookups.vernacular(self._read(), "loose"), "vernacular")
        self._settle(lookups.joined(self._read()), "joined")
        self._settle(lookups.other_ending(self._read()), "ending")
        self._settle(lookups.moved_genus(self._read()), "genus moved")
        self._settle(lookups.abbreviated(self._read()), "abbreviated")
        self._settle(lookups.misspelt(self._read()), "edits")
        if has_vernaculars:
            self._settle(lookups.reworded(self._read()), "vernacular reworded")
            self._settle(lookups.misspelt_vernacular(self._read()), "vernacular edits")
        self._settle(lookups.genus_alone(self._read()), "genus")
        self._settle(lookups.above(self._read()), "above")
        self._settle_outside()
        return self._table()

    def _parse(self, processes: int) -> None:
        labels = self.pending["label"].to_list()
        parsed = self.pending.hstack(parse_label_table(labels, processes, self._report))
        self.parsed = self.lookups.choose_of_two(parsed)
        rejected = self.parsed.filter(pl.col("reason") != "")
        self.answers.append(
            rejected.select("q", status=pl.lit(Status.REJECTED.value), note="reason", t=pl.lit(None, pl.Int32))
        )
        self._done(rejected)

    def _read(self) -> pl.DataFrame:
        """Return the parsed rows that are still pending."""
        return self.parsed.join(self.pending.select("q"), on="q", how="semi", maintain_order="left")

    # Decisions.

    def _settle(self, candidates: pl.DataFrame, how: str, *, is_whole: bool = False) -> None:
        """Answer the queries with candidates inside the context, and keep the candidates outside it.

        Args:
            candidates: What a lookup found.
            how: The name of the lookup.
            is_whole: Whether the whole label is the name, so that no word of it is a doubt.
        """
        if candidates.is_empty():
            return
        t = candidates["t"]
        candidates = candidates.with_columns(
            best=self.index.taxa["best"].gather(t), is_inside=self.inside.gather(t), how=pl.lit(how)
        )
        inside = keep_agreeing(candidates.filter("is_inside"), self.queries, self.index.taxa)
        if self.parsed.height:
            inside = add_ancestors(inside, self.parsed, self.index)
            # The author of a name below the species says nothing about its species.
            inside = inside if how in ("species", "genus", "above") else agree_with_authors(inside, self.parsed)
            inside = inside if is_whole else self.lookups.only_genera(inside, self.parsed.filter("doubtful"))
        self.outside.append(candidates.filter(~pl.col("is_inside")))
        if inside.is_empty():
            return
        top = _first_choice(inside)
        n_taxa = top.group_by("q").agg(n=pl.col("best").n_unique())
        single = top.unique("q", keep="first", maintain_order=True).join(
            n_taxa.filter(pl.col("n") == 1), on="q", how="semi"
        )
        self.answers.append(self._describe(single))
        several = top.join(n_taxa.filter(pl.col("n") > 1), on="q", how="semi", maintain_order="left")
        if not several.is_empty():
            shared = shared_by_homonyms(several, self.index.taxa)
            self.shared.append(shared.with_columns(status=pl.lit(Status.AMBIGUOUS.value)))
        self._done(n_taxa)

    def _describe(self, found: pl.DataFrame) -> pl.DataFrame:
        """Return q, t, status, matched_name, list and note of names with one taxon."""
        taxa = self.index.taxa.select("rank", "name")[found["best"]]
        named = self.index.taxa["name"].gather(found["t"])
        table = found.with_columns(rank=taxa["rank"], name=taxa["name"], named=named)
        asked = self.parsed.select("q", asked="name", asked_author="authorship")
        table = table.join(asked, on="q", how="left", maintain_order="left").with_columns(
            pl.col("asked", "asked_author").fill_null("")
        )
        table = table.with_columns(author=conflicting_authors(table))
        contradicted = (pl.col("disagree") != "") & (pl.col("agree") == 0)
        status = (
            pl.when(contradicted)
            .then(pl.lit(Status.CONFLICT.value))
            .when(pl.col("rank") == int(Rank.GENUS))
            .then(pl.lit(Status.GENUS_ONLY.value))
            .when(pl.col("rank") < int(Rank.GENUS))
            .then(pl.lit(Status.HIGHER_RANK.value))
            .when(pl.col("how").is_in(_INEXACT))
            .then(pl.lit(Status.FUZZY.value))
            .when(pl.col("how") == "vernacular")
            .then(pl.lit(Status.VERNACULAR.value))
            .when((pl.col("kind") == ACCEPTED) & (pl.col("named") == pl.col("name")))
            .then(pl.lit(Status.ACCEPTED.value))
            .otherwise(pl.lit(Status.SYNONYM.value))
        )
        return table.select("q", "list", t="best", status=status, matched_name="matched", note=_note())

    def _settle_together(self) -> None:
        """Answer labels of several taxa and formulas of hybrids with the ranks that their taxa share."""
        read = self._read()
        parts = self.lookups.parts_together(read)
        parts = parts.with_columns(t=self.index.taxa["best"].gather(parts["t"]))
        parts = parts.filter(self.inside.gather(parts["t"])).unique()
        if parts.is_empty():
            return
        shared = shared_by_parts(parts, read, self.index.taxa)
        genus, family = pl.lit(Status.GENUS_ONLY.value), pl.lit(Status.HIGHER_RANK.value)
        none = pl.lit(Status.UNRESOLVED.value)
        status = pl.when(pl.col("genus") != "").then(genus).when(pl.col("family") != "").then(family).otherwise(none)
        self.shared.append(shared.with_columns(status=status))
        self._done(shared)

    def _settle_outside(self) -> None:
        """Answer names that fit only outside the context as conflicts, and the rest as unresolved."""
        trusted = ("as written", "vernacular", "parsed", "species")
        if self.outside:
            outside = pl.concat(self.outside, how="diagonal").join(self.pending, on="q", how="semi")
            outside = outside.filter(pl.col("how").is_in(trusted))
            if not outside.is_empty():
                top = _first_choice(outside).unique("q", keep="first", maintain_order=True)
                taxa = self.index.taxa.select("name", *RANK_LABELS)[top["best"]]
                place = pl.concat_str(
                    [
                        pl.col("name"),
                        pl.lit(" is in "),
                        pl.concat_str([pl.col(c) for c in ("kingdom", "class", "order", "family")], separator=" "),
                    ]
                )
                note = taxa.select(note=place.str.replace_all(r"\s+", " ") + pl.lit(", outside the context"))
                self.answers.append(
                    top.select(
                        "q", "list", t="best", status=pl.lit(Status.CONFLICT.value), matched_name="matched"
                    ).hstack(note)
                )
                self._done(top)
        self.answers.append(
            self.pending.select(
                "q",
                status=pl.lit(Status.UNRESOLVED.value),
                note=pl.lit("in none of the checklists"),
                t=pl.lit(None, pl.Int32),
            )
        )

    def _done(self, answered: pl.DataFrame) -> None:
        self.pending = self.pending.join(answered.select("q"), on="q", how="anti", maintain_order="left")
        self._report(0)

    def _report(self, ahead: int) -> None:
        if self.on_progress is not None:
            self.on_progress(self.queries.height - self.pending.height + ahead, self.queries.height)

    # The result.

    def _table(self) -> pl.DataFrame:
        empty = pl.DataFrame(schema={"q": pl.Int32, "t": pl.Int32, "list": pl.Int8, "matched_name": pl.String})
        answers = pl.concat([empty, *self.answers], how="diagonal")
        taxa = self.index.taxa.with_columns(common_name=self._common_names())
        filled = answers.join(
            taxa.select("t", "rank", *RANK_LABELS, "common_name"), on="t", how="left", maintain_order="left"
        )
        parts = [filled.drop("t")]
        if self.shared:
            parts.append(pl.concat(self.shared))
        table = pl.concat(parts, how="diagonal").sort("q")
        if self.parsed.height:
            table = self._with_remarks(table)
        lists = pl.Series([*self.index.lists])
        strings = [pl.col(c).fill_null("") for c in ("matched_name", *RANK_LABELS, "common_name", "note")]
        table = table.with_columns(*strings, checklist=lists.gather(table["list"].cast(pl.UInt32)).fill_null(""))
        lowest = pl.coalesce(pl.when(pl.col(label) != "").then(pl.lit(label)) for label in reversed(RANK_LABELS))
        named = table.with_columns(rank=lowest.fill_null(""), scientific_name=scientific_name())
        return named.select(RESULT_COLUMNS)

    def _with_remarks(self, table: pl.DataFrame) -> pl.DataFrame:
        """Add to the notes what labels say besides the name, and vernacular names that mean another taxon."""
        remarks = self.parsed.filter(pl.col("remark") != "").select("q", "remark")
        differing = disagreeing_pairs(self.answers, self.parsed, self.lookups)
        joined = table.join(remarks, on="q", how="left", maintain_order="left").join(
            differing, on="q", how="left", maintain_order="left"
        )
        silent = pl.col("status") == Status.REJECTED.value
        parts = [pl.when(pl.col(c) != "").then(pl.col(c)) for c in ("note", "remark", "differs")]
        note = pl.concat_list(parts).list.drop_nulls().list.join("; ")
        return joined.with_columns(note=pl.when(silent).then("note").otherwise(note)).select(table.columns)

    def _common_names(self) -> pl.Series:
        """Return ``[n_taxa]``: the English name of each taxon in the first checklist that has one."""
        taxa = self.index.taxa
        if len(self.index.lists) == 1:
            return taxa["common_name"]
        named = taxa.filter(pl.col("common_name") != "").unique("best", keep="first", maintain_order=True)
        joined = taxa.select("best").join(
            named.select("best", "common_name"), on="best", how="left", maintain_order="left"
        )
        return joined["common_name"].fill_null("")


_INEXACT = ("ending", "edits", "joined", "abbreviated", "vernacular edits", "vernacular reworded")


def _first_choice(candidates: pl.DataFrame) -> pl.DataFrame:
    """Return the most preferred candidates of each name."""
    choice = pl.col("order").cast(pl.Int32) * 4096 + pl.col("list").cast(pl.Int32) * 16 + pl.col("kind").cast(pl.Int32)
    return candidates.with_columns(choice=choice).filter(pl.col("choice") == pl.col("choice").min().over("q"))


def _note() -> pl.Expr:
    """Return what a person should know about a match besides its status."""
    expressed = pl.when(pl.col("named") != pl.col("name")).then(pl.col("named") + " is " + pl.col("name") + " here")
    synonym = pl.when((pl.col("kind") == SYNONYM) & pl.col("how").is_in(("as written", "parsed", "species"))).then(
        pl.col("matched") + " is a synonym"
    )
    parts = [
        pl.when(pl.col("between") != "").then(pl.col("between") + " " + pl.col("matched")),
        expressed,
        synonym,
        pl.when(pl.col("how") == "ending").then(pl.lit("another ending of the epithet")),
        pl.when(pl.col("how") == "genus moved").then(pl.lit("genus is now part of another")),
        pl.when(pl.col("how").is_in(("edits", "vernacular edits"))).then(pl.lit("spelling corrected")),
        pl.when(pl.col("how") == "vernacular reworded").then(pl.lit("the only similar name: ") + pl.col("matched")),
        pl.when(pl.col("how") == "abbreviated").then(pl.lit("the only genus with that initial and epithet")),
        pl.when(pl.col("how") == "joined").then(pl.lit("words joined or split differently")),
        pl.when((pl.col("how") == "genus") & pl.col("asked").str.contains(" ")).then(
            pl.lit("species not in the checklists")
        ),
        pl.when(pl.col("how").is_in(("species", "above"))).then(pl.col("asked") + " is not in the checklists"),
        pl.when((pl.col("author") != "") & (pl.col("how") == "parsed")).then(pl.col("author")),
        pl.when(pl.col("disagree") != "").then(pl.col("disagree")),
    ]
    return pl.concat_list(parts).list.drop_nulls().list.join("; ")
