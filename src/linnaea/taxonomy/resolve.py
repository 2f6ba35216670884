"""From any name to its place in the tree: a taxon with evidence, or precisely why not.

Distinct names go through a sequence of lookups, the most trustworthy first; what one lookup settles does not reach
the next. Every lookup is a join over all names that are left, so a million names take minutes.

1. as written: the name of a taxon, a synonym, a subspecies
2. as a vernacular name, before any parse is trusted
3. as the parser reads it (authorship, qualifiers, brackets taken apart)
4. as a vernacular name without possessives, plurals, blanks, life forms
5. another ending of the epithet; a genus that is now a subgenus or synonym of another
6. one or two edits, of scientific and of vernacular names
7. the genus alone
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from typing import TypeAlias

import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy import fuzzy
from linnaea.taxonomy.checklist import Checklist, load_checklist
from linnaea.taxonomy.keys import epithet_stem, loose_vernacular_key, name_key, vernacular_key, words_key
from linnaea.taxonomy.name_index import (
    ACCEPTED,
    SYNONYM,
    NameIndex,
    fold_rank,
    in_scope,
    make_index,
)
from linnaea.taxonomy.names import ParsedName, Rejection, looks_latin, parse_labels
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

OnProgress: TypeAlias = Callable[[int, int | None], None]


class Status(StrEnum):
    """How sure a resolution is, and of what. The first four give a species."""

    ACCEPTED = "accepted"
    """The name of a species as the checklist has it."""
    SYNONYM = "synonym"
    """Another name of a species, or of a part of it."""
    VERNACULAR = "vernacular"
    """A vernacular name of one species."""
    FUZZY = "fuzzy"
    """A misspelling of one species' name."""
    GENUS_ONLY = "genus_only"
    """Nothing finer than a genus is certain."""
    HIGHER_RANK = "higher_rank"
    """A taxon above the genus."""
    AMBIGUOUS = "ambiguous"
    """Several taxa bear the name; the ranks they share are filled."""
    CONFLICT = "conflict"
    """The name belongs to a taxon that contradicts the given context; that taxon is filled in."""
    UNRESOLVED = "unresolved"
    """A name that no checklist knows."""
    REJECTED = "rejected"
    """No name at all."""


RESULT_COLUMNS = ("status", "matched_name", "rank", *RANK_LABELS, "scientific_name", "common_name", "checklist", "note")
"""What :func:`resolve` returns, a row per name."""

_GIVEN = RANK_LABELS[: int(Rank.FAMILY) + 1]
"""Ranks that decide between homonyms; a genus changes too often to contradict a name."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What became of one label."""

    label: str
    status: Status
    taxon: Taxon | None
    """``None`` where nothing at all is certain."""
    rank: Rank | None
    matched_name: str
    checklist: str
    note: str


def resolve(
    names: Sequence[str] | pl.Series,
    checklists: Sequence[str | Checklist] = ("inat",),
    *,
    context: Mapping[str, str] | None = None,
    given: pl.DataFrame | None = None,
    processes: int = 1,
    on_progress: OnProgress | None = None,
) -> pl.DataFrame:
    """Resolve names, a row of :data:`RESULT_COLUMNS` for each, in their order; equal names are resolved once.

    Args:
        names: raw labels, null or "" where there is none
        checklists: names or files of checklists, or checklists, in order of preference
        context: what all names have in common, such as ``{"class": "Aves"}``
        given: ranks known per name (columns kingdom to family, as many as there are), rows as ``names``
        processes: worker processes for parsing; above 1 only where the program may be started again (``spawn``)
        on_progress: receives names settled, of how many distinct ones

    Raises:
        LinnaeaError: a checklist cannot be read, or the context names no rank or no taxon.
    """
    resolver = Resolver.of(checklists, context=context)
    return resolver.resolve(names, given=given, processes=processes, on_progress=on_progress)


def resolve_one(
    name: str, checklists: Sequence[str | Checklist] = ("inat",), *, context: Mapping[str, str] | None = None
) -> Resolution:
    """Resolve one name; for several names of the same checklists make a :class:`Resolver`."""
    return Resolver.of(checklists, context=context).resolve_one(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resolver:
    """Checklists and a context, ready for any number of names."""

    index: NameIndex
    inside: pl.Series
    """[n_taxa] whether a taxon is within the context"""

    @classmethod
    def of(cls, checklists: Sequence[str | Checklist], *, context: Mapping[str, str] | None = None) -> "Resolver":
        """Load the checklists and index their names; about 2 seconds for the embedded one.

        Raises:
            LinnaeaError: a checklist cannot be read, or the context names no rank or no taxon.
        """
        loaded = [load_checklist(entry) if isinstance(entry, str) else entry for entry in checklists]
        index = make_index(loaded)
        return cls(index=index, inside=in_scope(index.taxa, context or {}))

    def resolve_one(self, name: str) -> Resolution:
        """Resolve one name."""
        row = self.resolve([name]).row(0, named=True)
        lineage = {label: row[label] for label in RANK_LABELS}
        named = any(lineage.values())
        return Resolution(
            label=name,
            status=Status(row["status"]),
            taxon=Taxon.of(lineage, common_name=row["common_name"]) if named else None,
            rank=Rank.parse(row["rank"]) if row["rank"] else None,
            matched_name=row["matched_name"],
            checklist=row["checklist"],
            note=row["note"],
        )

    def resolve(
        self,
        names: Sequence[str] | pl.Series,
        *,
        given: pl.DataFrame | None = None,
        processes: int = 1,
        on_progress: OnProgress | None = None,
    ) -> pl.DataFrame:
        """See :func:`resolve`."""
        labels = names if isinstance(names, pl.Series) else pl.Series("label", list(names), dtype=pl.String)
        table = pl.DataFrame({"label": labels.cast(pl.String).fill_null("")})
        if given is not None:
            if given.height != table.height:
                raise LinnaeaError(f"{given.height} rows of given ranks for {table.height} names")
            table = table.hstack([given[c].cast(pl.String).fill_null("") for c in _GIVEN if c in given.columns])
        distinct = table.unique(maintain_order=True).with_row_index("q").with_columns(pl.col("q").cast(pl.Int32))
        answers = _Run(self, distinct, on_progress).answer(processes)
        keyed = pl.concat([distinct.drop("q"), answers.select(pl.all().name.prefix("_"))], how="horizontal")
        joined = table.join(keyed, on=table.columns, how="left", maintain_order="left")
        return joined.select(pl.col(f"_{column}").alias(column) for column in RESULT_COLUMNS)


_CANDIDATES = {"q": pl.Int32, "order": pl.Int16, "t": pl.Int32, "list": pl.Int8, "kind": pl.Int8, "matched": pl.String}
"""A lookup's findings: query, preference within the lookup, taxon, checklist, kind of name, the name that matched."""


class _Run:
    """One pass over distinct queries: what is pending, what was answered."""

    def __init__(self, resolver: Resolver, queries: pl.DataFrame, on_progress: OnProgress | None) -> None:
        self.index, self.inside = resolver.index, resolver.inside
        self.queries = queries
        self.pending = queries.select("q", "label")
        self.answers: list[pl.DataFrame] = []
        self.shared: list[pl.DataFrame] = []
        self.outside: list[pl.DataFrame] = []
        self.hints: list[pl.DataFrame] = []
        self.on_progress = on_progress
        self.parsed = pl.DataFrame()
        self.names_inside: pl.DataFrame | None = None

    def answer(self, processes: int) -> pl.DataFrame:
        self._settle(self._as_written(), "as written")
        self._parse(processes)
        has_vernaculars = not self.index.vernaculars.is_empty()
        if has_vernaculars:
            self._settle(self._vernacular("strict", vernacular_key(pl.col("vernacular"))), "vernacular")
        self._settle(self._as_parsed(), "parsed")
        if has_vernaculars:
            self._settle(self._vernacular("loose", loose_vernacular_key(pl.col("vernacular"))), "vernacular")
        self._settle(self._joined(), "joined")
        self._settle(self._other_ending(), "ending")
        self._settle(self._moved_genus(), "genus moved")
        self._settle(self._misspelt(), "edits")
        if has_vernaculars:
            self._settle(self._reworded(), "vernacular reworded")
            self._settle(self._misspelt_vernacular(), "vernacular edits")
        self._settle(self._genus_alone(), "genus")
        self._settle_outside()
        return self._table()

    # Lookups.

    def _lookup(self, keyed: pl.DataFrame) -> pl.DataFrame:
        """Candidates for q, order, key."""
        found = keyed.join(self.index.names, on="key")
        return found.select(*_CANDIDATES, "between")

    def _as_written(self) -> pl.DataFrame:
        plain = pl.col("label").str.replace_all("[_\\s]+", " ").str.strip_chars()
        keyed = self.pending.with_columns(key=name_key(plain), order=pl.lit(0, pl.Int16))
        # One word in capitals or small letters may be a vernacular name; it waits for the parser.
        one_word = ~pl.col("key").str.contains(" ")
        if not self.index.vernaculars.is_empty():
            keyed = keyed.filter(~one_word | plain.str.contains(r"^\p{Lu}\p{Ll}"))
        return self._lookup(keyed.filter(pl.col("key") != ""))

    def _parse(self, processes: int) -> None:
        labels = self.pending["label"].to_list()
        rows = [row for chunk in _parse_chunks(labels, processes, self._report) for row in chunk]
        parsed = pl.DataFrame(rows, schema=_PARSED_SCHEMA, orient="row")
        self.parsed = self.pending.hstack(parsed)
        rejected = self.parsed.filter(pl.col("reason") != "")
        self.answers.append(
            rejected.select("q", status=pl.lit(Status.REJECTED.value), note="reason", t=pl.lit(None, pl.Int32))
        )
        self._done(rejected)

    def _names_read(self) -> pl.DataFrame:
        """The parsed rows that are still pending."""
        return self.parsed.join(self.pending.select("q"), on="q", how="semi", maintain_order="left")

    def _as_parsed(self) -> pl.DataFrame:
        read = self._names_read().filter(~pl.col("weak"))
        tried = read.select("q", name=pl.concat_list(pl.concat_list("name", "binomial"), pl.col("others"))).explode(
            "name"
        )
        keyed = tried.filter(pl.col("name") != "").with_columns(key=name_key(pl.col("name")))
        keyed = keyed.with_columns(order=pl.int_range(pl.len()).over("q").cast(pl.Int16))
        return self._lookup(keyed)

    def _vernacular(self, column: str, key: pl.Expr) -> pl.DataFrame:
        asked = self._names_read().filter(pl.col("vernacular") != "").select("q", **{column: key})
        asked = asked.filter(pl.col(column).str.len_chars() > 2)
        found = asked.join(self.index.vernaculars, on=column)
        return _as_candidates(found)

    def _reworded(self) -> pl.DataFrame:
        """The words in another order, one left out in the middle, or the last one cut short."""
        there = self.index.vernaculars.filter(pl.col("t").is_in(self._t_inside()))
        asked = self._names_read().filter(pl.col("vernacular").str.contains(r"\S[ -]\S")).select("q", "vernacular")
        if asked.is_empty() or there.is_empty():
            return _no_candidates()
        asked = asked.with_columns(bag=words_key(pl.col("vernacular")), strict=vernacular_key(pl.col("vernacular")))
        there = there.with_columns(bag=words_key(pl.col("matched")))
        same_words = asked.drop("strict").join(there, on="bag")
        ends = {"first": pl.col("strict").str.extract(r"^(.*) \S+$"), "last": pl.col("strict").str.extract(r" (\S+)$")}
        cut = asked.with_columns(**ends).filter(pl.col("last").str.len_chars() >= 4)
        cut = cut.join(there.with_columns(**ends), on="first").filter(
            pl.col("last_right").str.starts_with(pl.col("last")) & (pl.col("last_right") != pl.col("last"))
        )
        words = pl.col("strict").str.split(" ")
        outer = {"first": words.list.first(), "last": words.list.last(), "words": words}
        short = asked.with_columns(**outer)
        short = short.filter(~pl.col("last").is_in(_GENERIC_NOUNS) & ~pl.col("first").is_in(_VAGUE_ADJECTIVES))
        longer = short.join(there.with_columns(**outer), on=["first", "last"])
        longer = longer.filter(
            (pl.col("words_right").list.len() == pl.col("words").list.len() + 1)
            & (pl.col("words").list.set_difference("words_right").list.len() == 0)
        )
        return pl.concat([_as_candidates(found, order) for order, found in enumerate((same_words, cut, longer))])

    def _binomials(self) -> pl.DataFrame:
        """Species names within the context: n, genus, epithet, and what a candidate needs."""
        if self.names_inside is None:
            words = pl.col("key").str.splitn(" ", 2)
            self.names_inside = (
                self.index.names.filter((pl.col("kind") <= SYNONYM) & pl.col("t").is_in(self._t_inside()))
                .with_columns(genus=words.struct[0], epithet=words.struct[1])
                .filter(~pl.col("epithet").str.contains(" ", literal=True))
                .with_row_index("n")
                .with_columns(pl.col("n").cast(pl.Int32))
            )
        return self.names_inside

    def _of_genera(self, genera: pl.Series) -> pl.DataFrame:
        """Those of :meth:`_binomials` that are in the genera, with the stem of their epithet."""
        table = pl.DataFrame({"genus": genera.unique()})
        inside = self._binomials().join(table, on="genus", how="semi")
        return inside.with_columns(stem=epithet_stem(pl.col("epithet")))

    def _t_inside(self) -> pl.Series:
        return self.inside.arg_true().cast(pl.Int32).implode()

    def _asked_binomials(self) -> pl.DataFrame:
        """q, order, genus, epithet, stem for all readings of the pending names."""
        read = self._names_read()
        tried = read.select("q", name=pl.concat_list(pl.concat_list("binomial"), pl.col("others"))).explode("name")
        words = name_key(pl.col("name")).str.splitn(" ", 2)
        asked = tried.filter(pl.col("name") != "").with_columns(genus=words.struct[0], epithet=words.struct[1])
        asked = asked.filter(pl.col("epithet").is_not_null())
        return asked.with_columns(
            stem=epithet_stem(pl.col("epithet")), order=pl.int_range(pl.len()).over("q").cast(pl.Int16)
        )

    def _joined(self) -> pl.DataFrame:
        """Blanks at other places: "Lemnaminor", "Pedicularis sceptrum carolinum"."""
        read = self._names_read().filter((pl.col("name") != pl.col("binomial")) | (pl.col("binomial") == ""))
        asked = read.select("q", joined=name_key(pl.col("text")).str.replace_all(" ", ""))
        asked = asked.filter(pl.col("joined").str.len_chars() >= 8)
        if asked.is_empty():
            return _no_candidates()
        names = self.index.names.filter((pl.col("kind") <= SYNONYM) & pl.col("key").str.contains(" ", literal=True))
        found = asked.join(names.with_columns(joined=pl.col("key").str.replace_all(" ", "")), on="joined")
        return found.select(*(c for c in _CANDIDATES if c != "order"), order=pl.lit(0, pl.Int16), between=pl.lit(""))

    def _other_ending(self) -> pl.DataFrame:
        asked = self._asked_binomials()
        if asked.is_empty():
            return _no_candidates()
        found = asked.select("q", "order", "genus", "stem").join(self._of_genera(asked["genus"]), on=["genus", "stem"])
        return found.select(*_CANDIDATES, between=pl.lit(""))

    def _moved_genus(self) -> pl.DataFrame:
        """A genus that is a subgenus or synonym of another now: its species are looked for there."""
        asked = self._asked_binomials()
        if asked.is_empty():
            return _no_candidates()
        genera = self.index.taxa.select("t", now=pl.col("genus").str.to_lowercase(), rank="rank")
        moved = (
            self.index.names.filter((pl.col("kind") == SYNONYM) | (pl.col("between") == "subgenus"))
            .join(asked.select(key="genus").unique(), on="key", how="semi")
            .join(genera.filter(pl.col("rank") == int(Rank.GENUS)), on="t")
            .select(genus="key", now="now")
            .filter(pl.col("genus") != pl.col("now"))
            .unique()
        )
        there = self._of_genera(moved["now"])
        found = asked.join(moved, on="genus").join(there, left_on=["now", "stem"], right_on=["genus", "stem"])
        return found.select(*_CANDIDATES, between=pl.lit("")).with_columns(kind=pl.lit(SYNONYM, pl.Int8))

    def _misspelt(self) -> pl.DataFrame:
        asked = self._asked_binomials().filter(pl.col("genus").str.len_chars() > 2)
        if asked.is_empty():
            return _no_candidates()
        distinct = asked.select("genus", "epithet").unique(maintain_order=True).with_row_index("q")
        distinct = distinct.with_columns(pl.col("q").cast(pl.Int32))
        names = self._binomials()
        found = fuzzy.near_binomials(distinct, names.select("n", "genus", "epithet"))
        known = names.select(g="genus", known=pl.lit(True)).unique()
        found = found.join(distinct.rename({"genus": "g", "epithet": "e"}), on="q").drop("q")
        found = found.join(names, on="n").join(known, on="g", how="left").with_columns(pl.col("known").fill_null(False))
        found = found.filter(_believable())
        found = asked.select("q", "genus", "epithet").join(found, left_on=["genus", "epithet"], right_on=["g", "e"])
        order = (pl.col("genus_edits") + pl.col("epithet_edits")).cast(pl.Int16)
        return found.select("q", "t", "list", "kind", "matched", order=order, between=pl.lit(""))

    def _misspelt_vernacular(self) -> pl.DataFrame:
        """One edit in a vernacular name, where a word as written occurs in none of them."""
        vernaculars = self.index.vernaculars.filter(pl.col("t").is_in(self._t_inside()))
        asked = self._names_read().select(
            "q",
            loose=loose_vernacular_key(pl.col("vernacular")),
            words=vernacular_key(pl.col("vernacular")).str.split(" "),
        )
        asked = asked.filter(pl.col("loose").str.len_chars() >= 5)
        if asked.is_empty() or vernaculars.is_empty():
            return _no_candidates()
        known = vernaculars.select(pl.col("strict").str.split(" ").alias("words")).explode("words").unique()
        misspelt = asked.explode("words").join(known, on="words", how="anti")
        asked = asked.join(misspelt, on="q", how="semi")
        near = fuzzy.near_words(asked["loose"].unique(), vernaculars["loose"].unique())
        found = asked.join(near, left_on="loose", right_on="word").join(vernaculars, left_on="near", right_on="loose")
        return _as_candidates(found)

    def _genus_alone(self) -> pl.DataFrame:
        read = self._names_read().filter(pl.col("latin"))
        keyed = read.select("q", key=name_key(pl.col("genus")), order=pl.lit(0, pl.Int16)).filter(pl.col("key") != "")
        genera = self.index.taxa.filter(pl.col("rank") == int(Rank.GENUS)).select("t")
        found = self._lookup(keyed).filter(pl.col("kind") <= SYNONYM)
        return found.join(genera, on="t", how="semi")

    # Decisions.

    def _settle(self, candidates: pl.DataFrame, how: str) -> None:
        """Answer the queries that have candidates within the context; remember those outside it."""
        if candidates.is_empty():
            return
        t = candidates["t"]
        candidates = candidates.with_columns(
            best=self.index.taxa["best"].gather(t), is_inside=self.inside.gather(t), how=pl.lit(how)
        )
        inside = self._agreeing(candidates.filter("is_inside"))
        self.outside.append(candidates.filter(~pl.col("is_inside")))
        if inside.is_empty():
            return
        key = pl.struct("order", "list", "kind")
        top = inside.filter(key == key.min().over("q")) if False else _first_choice(inside)
        n_taxa = top.group_by("q").agg(n=pl.col("best").n_unique())
        single = top.unique("q", keep="first", maintain_order=True).join(
            n_taxa.filter(pl.col("n") == 1), on="q", how="semi"
        )
        self.answers.append(self._describe(single))
        several = top.join(n_taxa.filter(pl.col("n") > 1), on="q", how="semi", maintain_order="left")
        if not several.is_empty():
            self._share(several)
        self._done(n_taxa)

    def _agreeing(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """Of homonyms those that agree best with the ranks given for the query; counts of agreement are kept."""
        given = [label for label in _GIVEN if label in self.queries.columns]
        if not given or candidates.is_empty():
            return candidates.with_columns(agree=pl.lit(0), disagree=pl.lit(""))
        asked = self.queries.select("q", *(pl.col(label).alias(f"given_{label}") for label in given))
        table = candidates.join(asked, on="q", maintain_order="left")
        lineage = self.index.taxa.select(given)[table["best"]]
        agree, differ = pl.lit(0), []
        for label in given:
            folded = pl.Series([fold_rank(label, v) for v in table[f"given_{label}"].unique().to_list()])
            fold = dict(zip(table[f"given_{label}"].unique().to_list(), folded.to_list(), strict=True))
            wanted = table[f"given_{label}"].replace_strict(fold, default="")
            found = lineage[label].str.to_lowercase()
            known = (wanted != "") & (found != "")
            table = table.with_columns(
                (known & (wanted == found)).cast(pl.Int32).alias(f"same_{label}"),
                pl.when(known & (wanted != found))
                .then(pl.format("{} {} given, {} found", pl.lit(label), wanted, lineage[label]))
                .otherwise(pl.lit(""))
                .alias(f"differ_{label}"),
            )
            agree = agree + pl.col(f"same_{label}")
            differ.append(pl.col(f"differ_{label}"))
        disagreements = pl.concat_list(differ).list.eval(pl.element().filter(pl.element() != ""))
        table = table.with_columns(
            agree=agree, n_differ=disagreements.list.len(), disagree=disagreements.list.join("; ")
        )
        score = pl.col("agree").cast(pl.Int32) - pl.col("n_differ").cast(pl.Int32)
        table = table.filter(score == score.max().over("q"))
        return table.select(*candidates.columns, "agree", "disagree")

    def _describe(self, found: pl.DataFrame) -> pl.DataFrame:
        """q, t, status, matched_name, list, note of queries with one taxon."""
        taxa = self.index.taxa.select("rank", "name")[found["best"]]
        named = self.index.taxa["name"].gather(found["t"])
        table = found.with_columns(rank=taxa["rank"], name=taxa["name"], named=named)
        contradicted = (pl.col("disagree") != "") & (pl.col("agree") == 0)
        status = (
            pl.when(contradicted)
            .then(pl.lit(Status.CONFLICT.value))
            .when(pl.col("rank") == int(Rank.GENUS))
            .then(pl.lit(Status.GENUS_ONLY.value))
            .when(pl.col("rank") < int(Rank.GENUS))
            .then(pl.lit(Status.HIGHER_RANK.value))
            .when(pl.col("how").is_in(("ending", "edits", "joined", "vernacular edits", "vernacular reworded")))
            .then(pl.lit(Status.FUZZY.value))
            .when(pl.col("how") == "vernacular")
            .then(pl.lit(Status.VERNACULAR.value))
            .when((pl.col("kind") == ACCEPTED) & (pl.col("named") == pl.col("name")))
            .then(pl.lit(Status.ACCEPTED.value))
            .otherwise(pl.lit(Status.SYNONYM.value))
        )
        return table.select("q", "list", t="best", status=status, matched_name="matched", note=_note())

    def _share(self, several: pl.DataFrame) -> None:
        """Ambiguous queries: the ranks that all their taxa share, and who they are."""
        taxa = self.index.taxa.select(*RANK_LABELS, "name")[several["best"]]
        table = (
            several.select("q", "list", "matched").hstack(taxa).unique(["q", *RANK_LABELS, "name"], maintain_order=True)
        )
        same = [(pl.col(label).n_unique() == 1).alias(f"same_{label}") for label in RANK_LABELS]
        lineage = "kingdom"
        names = pl.col("name") + " (" + pl.col(lineage) + " " + pl.col("family") + ")"
        shared = table.group_by("q", maintain_order=True).agg(
            pl.col("list").first(),
            pl.col("matched").first().alias("matched_name"),
            *(pl.col(label).first() for label in RANK_LABELS),
            *same,
            note=pl.lit("may be ")
            + names.head(4).str.join(", ")
            + pl.when(pl.len() > 4).then(pl.lit(", ...")).otherwise(pl.lit("")),
        )
        kept = pl.lit(True)
        columns = []
        for label in RANK_LABELS:
            kept = kept & pl.col(f"same_{label}")
            columns.append(pl.when(kept).then(pl.col(label)).otherwise(pl.lit("")).alias(label))
        self.shared.append(shared.select("q", "list", "matched_name", *columns, "note"))

    def _settle_outside(self) -> None:
        """Names that fit only outside the context: a conflict. What is left nobody knows."""
        trusted = ("as written", "vernacular", "parsed")
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
        answers = pl.concat(self.answers, how="diagonal")
        taxa = self.index.taxa.with_columns(common_name=self._common_names())
        filled = answers.join(
            taxa.select("t", "rank", *RANK_LABELS, "common_name"), on="t", how="left", maintain_order="left"
        )
        parts = [filled.drop("t")]
        if self.shared:
            parts.append(pl.concat(self.shared).with_columns(status=pl.lit(Status.AMBIGUOUS.value)))
        table = pl.concat(parts, how="diagonal").sort("q")
        lists = pl.Series([*self.index.lists])
        strings = [pl.col(c).fill_null("") for c in ("matched_name", *RANK_LABELS, "common_name", "note")]
        table = table.with_columns(*strings, checklist=lists.gather(table["list"].cast(pl.UInt32)).fill_null(""))
        lowest = pl.coalesce(pl.when(pl.col(label) != "").then(pl.lit(label)) for label in reversed(RANK_LABELS))
        scientific = pl.coalesce(
            pl.when(pl.col("species") != "").then(pl.col("genus") + " " + pl.col("species")),
            *(pl.when(pl.col(label) != "").then(pl.col(label)) for label in reversed(RANK_LABELS[:-1])),
            pl.lit(""),
        )
        return table.with_columns(rank=lowest.fill_null(""), scientific_name=scientific).select(RESULT_COLUMNS)

    def _common_names(self) -> pl.Series:
        """[n_taxa] the English name of a taxon in the first checklist that has one."""
        taxa = self.index.taxa
        if len(self.index.lists) == 1:
            return taxa["common_name"]
        named = taxa.filter(pl.col("common_name") != "").unique("best", keep="first", maintain_order=True)
        joined = taxa.select("best").join(
            named.select("best", "common_name"), on="best", how="left", maintain_order="left"
        )
        return joined["common_name"].fill_null("")


def _first_choice(candidates: pl.DataFrame) -> pl.DataFrame:
    """The candidates of each query that nothing is preferred to."""
    choice = pl.col("order").cast(pl.Int32) * 4096 + pl.col("list").cast(pl.Int32) * 16 + pl.col("kind").cast(pl.Int32)
    return candidates.with_columns(choice=choice).filter(pl.col("choice") == pl.col("choice").min().over("q"))


def _as_candidates(found: pl.DataFrame, order: int = 0) -> pl.DataFrame:
    """Candidates from vernacular names; preferred ones go first within a checklist."""
    kind = pl.when("preferred").then(ACCEPTED).otherwise(SYNONYM).cast(pl.Int8)
    return found.select(
        "q", pl.lit(order, pl.Int16).alias("order"), "t", "list", kind.alias("kind"), "matched"
    ).with_columns(between=pl.lit(""))


_GENERIC_NOUNS = (
    "moth",
    "butterfly",
    "beetle",
    "bird",
    "fish",
    "bug",
    "fly",
    "plant",
    "tree",
    "shrub",
    "mushroom",
    "frog",
)
_VAGUE_ADJECTIVES = (
    *("common", "great", "greater", "lesser", "little", "large", "small", "giant", "northern", "southern", "eastern"),
    *("western", "black", "white", "red", "green", "blue", "brown", "yellow", "gray", "purple", "wild", "true", "false"),
)
"""Last and first words that say too little for a name of which a word is missing."""


def _no_candidates() -> pl.DataFrame:
    return pl.DataFrame(schema={**_CANDIDATES, "between": pl.String})


def _note() -> pl.Expr:
    """What a person should know about a match besides its status."""
    expressed = pl.when(pl.col("named") != pl.col("name")).then(pl.col("named") + " is " + pl.col("name") + " here")
    synonym = pl.when((pl.col("kind") == SYNONYM) & pl.col("how").is_in(("as written", "parsed"))).then(
        pl.col("matched") + " is a synonym"
    )
    parts = [
        pl.when(pl.col("between") != "").then(pl.col("between") + " " + pl.col("matched")),
        expressed,
        synonym,
        pl.when(pl.col("how") == "ending").then(pl.lit("another ending of the epithet")),
        pl.when(pl.col("how") == "genus moved").then(pl.lit("genus is part of another now")),
        pl.when(pl.col("how").is_in(("edits", "vernacular edits"))).then(pl.lit("spelling corrected")),
        pl.when(pl.col("how") == "vernacular reworded").then(pl.lit("the only such name: ") + pl.col("matched")),
        pl.when(pl.col("how") == "joined").then(pl.lit("words joined or split otherwise")),
        pl.when(pl.col("how") == "genus").then(pl.lit("species not in the checklists")),
        pl.when(pl.col("disagree") != "").then(pl.col("disagree")),
    ]
    return pl.concat_list(parts).list.drop_nulls().list.join("; ")


def _believable() -> pl.Expr:
    """Whether the edits are a slip rather than another name; columns g, e as written, genus, epithet as found.

    A genus that exists is not misspelt; in short words an edit makes another word; two edits want long words that
    begin alike; and some edits turn one Latin element into another.
    """
    g, e = pl.col("g").str.len_chars(), pl.col("e").str.len_chars()
    in_genus, in_epithet = pl.col("genus_edits"), pl.col("epithet_edits")
    same_start = pl.col("e").str.head(2) == pl.col("epithet").str.head(2)
    same_genus_start = pl.col("g").str.head(1) == pl.col("genus").str.head(1)
    epithet = (
        (in_epithet == 0)
        | ((in_epithet == 1) & (e >= 5))
        | ((in_epithet == 2) & (in_genus == 0) & (e >= 10) & same_start)
    )
    genus = (in_genus == 0) | (
        ~pl.col("known")
        & (((in_genus == 1) & (g >= 5) & same_genus_start) | ((in_genus == 2) & (g >= 9) & same_genus_start))
    )
    other_element = pl.lit(False)
    for one, other in _ELEMENTS:
        for a, b in ((one, other), (other, one)):
            other_element = other_element | (
                pl.col("e").str.contains(a, literal=True) & pl.col("epithet").str.contains(b, literal=True)
            )
    return epithet & genus & ~other_element


_ELEMENTS = (("micr", "macr"), ("flor", "foli"), ("hyper", "hypo"), ("alb", "alp"), ("major", "minor"))
"""Elements of epithets that are few edits apart and mean different things."""


# Parsing.

_PARSED_SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
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
