"""Find taxa by the text that a user writes: ``Aves``, ``class:Aves``, ``pica pica``, ``Eurasian magpie``.

One :class:`Finder` serves checklists and tables of taxa. Everything that takes a clade or a taxon by name uses it, so
the grammar, the suggestions and the error messages are the same everywhere.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.errors import UsageError
from linnaea.taxonomy.columns import NAME_COLUMNS, scientific_name
from linnaea.taxonomy.doubts import cut_doubt
from linnaea.taxonomy.keys import loose_vernacular_key, name_key, vernacular_key
from linnaea.taxonomy.label_words import looks_latin
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.readings import tidy

if TYPE_CHECKING:
    from linnaea.taxonomy.checklists.store import Checklist

LEAST_LIKE = 0.6
"""The lowest similarity (0..1) of a word that may be the intended one."""
SHARE_OF_LENGTH = 0.15
"""The share of the score that favours names with few words beyond those asked for."""
N_SUGGESTIONS = 3

HITS = ("name", "row", "rank", "matched", "how")
"""Columns of a search result: the name as asked, a row with the taxon, its rank, the matching name and its kind."""


def parse_clade(text: str) -> tuple[Rank | None, str]:
    """Split ``rank:NAME`` or ``NAME``, in any case, with underscores or spaces, into its rank and its name.

    Raises:
        UsageError: There is no name, or the word before the colon is not a rank.
    """
    word, _, name = text.rpartition(":")
    name = " ".join(name.replace("_", " ").split())
    try:
        rank = Rank.parse(word) if word.strip() else None
    except ValueError:
        ranks = ", ".join(RANK_LABELS)
        raise UsageError(f"{text!r}: {word.strip()!r} is not a rank; write one of {ranks}") from None
    if not name:
        raise UsageError(f"{text!r}: no {rank.label if rank else 'taxon'} is named; write NAME or rank:NAME")
    return rank, name


@dataclass(frozen=True, kw_only=True, eq=False)
class Finder:
    """A search index over the names of the taxa in a table or a checklist.

    Scientific names have priority over synonyms, and synonyms over vernacular names: "Iris" is the genus, although a
    species has it as its common name. The names are indexed on first use (about 3 seconds for a million taxa).
    """

    taxa: pl.DataFrame
    """The seven rank columns, and ``scientific_name`` and ``common_name`` if there are any."""
    where: str
    """The name of the table in messages: "the labels", "checklist inat 0.1.0"."""
    checklist: "Checklist | None" = None

    @classmethod
    def of_taxa(cls, taxa: pl.DataFrame, where: str) -> Self:
        """Return a finder for a table (of a label bank or a data set) whose higher taxa have no rows."""
        if "scientific_name" not in taxa.columns:
            is_species = pl.col("species").fill_null("") != ""
            taxa = taxa.with_columns(scientific_name=pl.when(is_species).then(scientific_name()).otherwise(pl.lit("")))
        return cls(taxa=taxa, where=where)

    @classmethod
    def of_checklist(cls, checklist: "Checklist") -> Self:
        """Return a finder for a checklist, including its synonyms and vernacular names."""
        where = f"checklist {checklist.name} {checklist.version}".strip()
        return cls(taxa=checklist.taxa.with_columns(scientific_name="name"), where=where, checklist=checklist)

    @cached_property
    def names(self) -> pl.DataFrame:
        """All names: ``key``, ``matched``, ``how``, ``tier`` (0 first), ``rank``, ``row`` (one row with the taxon)."""
        return _names_of_taxa(self.taxa) if self.checklist is None else _names_of_checklist(self.checklist)

    @cached_property
    def other_names(self) -> pl.DataFrame:
        """The English and old names that the embedded checklist has for the taxa of a table, as in :attr:`names`."""
        return self.names.clear() if self.checklist is not None else _embedded_names(self.names, self.taxa["kingdom"])

    @cached_property
    def _loose_names(self) -> pl.DataFrame:
        """The vernacular names, keyed without possessives, plurals and spaces ("Brewer Blackbird")."""
        spoken = pl.concat([self.names, self.other_names]).filter(pl.col("how").str.starts_with("vernacular"))
        return spoken.with_columns(key=loose_vernacular_key(pl.col("matched")))

    def _names_with(self, keys: pl.Series) -> pl.DataFrame:
        """Return :attr:`names` with these keys; the tables of a large checklist are filtered instead of indexed."""
        if self.checklist is None or "names" in self.__dict__ or "key" not in self.checklist.taxa.columns:
            return self.names
        asked = keys.unique().implode()
        return _names_of_checklist(self.checklist, lambda key: key.is_in(asked))

    # By name.

    def clade(self, text: str, *, rank: Rank | None = None, kingdom: str = "") -> pl.DataFrame:
        """Return :data:`HITS` of the taxa that have this name at one rank; several hits are homonyms.

        Args:
            text: ``NAME`` or ``rank:NAME``.
            rank: The rank, if it is already known.
            kingdom: Only find taxa of this kingdom.

        Raises:
            UsageError: The text cannot be read, no taxon has the name, or taxa of several ranks have it.
        """
        hits = self.all(text, rank=rank, kingdom=kingdom)
        ranks = [Rank(number) for number in hits["rank"].unique().sort()]
        if len(ranks) > 1:
            name = parse_clade(text)[1]
            choices = " or ".join(f"{rank.label}:{name}" for rank in ranks)
            raise UsageError(f"{text!r}: taxa of several ranks have this name in {self.where}; write {choices}")
        return hits

    def one(self, text: str, *, rank: Rank | None = None, kingdom: str = "") -> int:
        """Return the row of the only taxon with this name in a checklist.

        Raises:
            UsageError: As for :meth:`clade`, and if several taxa of one rank have the name.
        """
        hits = self.clade(text, rank=rank, kingdom=kingdom)
        if hits.height > 1:
            paths = "; ".join(lineage_text(self.taxa[hits["row"]]).head(4))
            raise UsageError(
                f"{text!r}: {hits.height} taxa have this name in {self.where}: {paths}; choose with --kingdom"
            )
        return int(hits["row"][0])

    def all(self, text: str, *, rank: Rank | None = None, kingdom: str = "") -> pl.DataFrame:
        """Return :data:`HITS` of all taxa that have this name, at any rank.

        Raises:
            UsageError: The text cannot be read, or no taxon has the name.
        """
        own_rank, name = parse_clade(text)
        if rank is not None and own_rank is not None and rank != own_rank:
            raise UsageError(f"{text!r}: the rank does not match the given rank {rank.label}")
        rank = own_rank if rank is None else rank
        hits = self._look_up_all([(text, rank, name)], kingdom)
        doubt = cut_doubt(tidy(name))
        if hits.is_empty() and self.checklist is None and doubt is None:
            hits = self._look_up(_asked([(text, rank, name)]), kingdom, self.other_names)
        if hits.is_empty() and doubt is None:
            loose = _asked([(text, rank, name)], (loose_vernacular_key,))
            hits = self._look_up(loose, kingdom, self._loose_names)
        if hits.is_empty():
            inside = f" in {kingdom}" if kingdom else ""
            what = f"no {rank.label if rank else 'taxon'} of that name{inside} in {self.where}"
            raise UsageError(
                f"{text!r}: {what}{did_you_mean(self._meant(doubt.name if doubt else name, rank, kingdom))}"
            )
        return hits

    def rows(self, text: str) -> NDArray[np.int64]:
        """Return the rows of the table at or below the clade ``text``, in order.

        Raises:
            UsageError: As for :meth:`clade`.
        """
        return np.asarray(self.under(self.clade(text))["row"].sort(), np.int64)

    def match(self, names: Iterable[str]) -> pl.DataFrame:
        """Return :data:`HITS` of a list of names; unknown names have no row.

        ``rank:NAME`` is split only if the word before the colon is a rank.
        """
        return self._look_up_all([_read_leniently(name) for name in dict.fromkeys(names)])

    def under(self, hits: pl.DataFrame) -> pl.DataFrame:
        """Return ``name``, ``row``, ``rank`` of every row at or below the taxa of ``hits``, including homonyms."""
        rows = self.taxa.select(pl.col(label).fill_null("") for label in RANK_LABELS)
        numbered = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
        parts = [hits.filter(pl.col("rank") == int(Rank.SPECIES)).select("name", "row", "rank")]
        for rank in list(Rank)[: Rank.SPECIES]:
            of_rank = hits.filter(pl.col("rank") == int(rank)).select("name", "row", "rank")
            if of_rank.height:
                shared = list(dict.fromkeys(("kingdom", rank.label)))
                heads = pl.concat([of_rank.drop("row"), rows[of_rank["row"]].select(shared)], how="horizontal")
                parts.append(heads.unique().join(numbered, on=shared).select("name", "row", "rank"))
        return pl.concat(parts).unique(["name", "row"], keep="last", maintain_order=True)

    def _look_up_all(self, asked: list[tuple[str, Rank | None, str]], kingdom: str = "") -> pl.DataFrame:
        """Return :data:`HITS` of the texts as they are; those without hits are parsed like labels, and tried again.

        Of a text in doubt ("red fox?", "Quercus robur (hybrid)") the genus is found.
        """
        doubtful = {one for one in asked if cut_doubt(tidy(one[2])) is not None}
        first = _asked([one for one in asked if one not in doubtful])
        hits = [self._look_up(first, kingdom, self._names_with(first["key"]))]
        hits += [self._look_up_genus(one, kingdom) for one in asked if one in doubtful]
        found = {name for one in hits for name in one["name"]} | {text for text, _, _ in doubtful}
        left = [(one, _readings(one[2])) for one in asked if one[0] not in found]
        while left := [((text, rank, name), names) for (text, rank, name), names in left if names]:
            asked_now = _asked([(text, rank, names[0]) for (text, rank, _), names in left])
            hits.append(self._look_up(asked_now, kingdom, self._names_with(asked_now["key"])))
            found = set(hits[-1]["name"])
            left = [(one, names[1:]) for one, names in left if one[0] not in found]
        return pl.concat(hits)

    def _look_up_genus(self, asked: tuple[str, Rank | None, str], kingdom: str) -> pl.DataFrame:
        """Return :data:`HITS` of the genus of a text in doubt, or of the higher taxon or common name that it is."""
        text, rank, name = asked
        whole = _asked([(text, rank, name)], (vernacular_key,)) if "?" not in name else _asked([])
        hits = self._look_up(whole, kingdom, self._names_with(whole["key"]))
        for reading in _readings(name) if hits.is_empty() else ():
            keys = _asked([(text, None, reading)])
            found = self._look_up(keys, kingdom, self._names_with(keys["key"]))
            genera = self.taxa["genus"].gather(found.filter(pl.col("rank") == int(Rank.SPECIES))["row"]).unique()
            if len(genera):
                keys = _asked([(text, Rank.GENUS, genus) for genus in genera])
                found = self._look_up(keys, kingdom, self._names_with(keys["key"]))
            hits = found if rank is None else found.filter(pl.col("rank") == int(rank))
            if hits.height:
                break
        return hits

    def _look_up(self, asked: pl.DataFrame, kingdom: str, among: pl.DataFrame) -> pl.DataFrame:
        """Return :data:`HITS` with the best kind of name that matches each text of ``asked``, sorted by row."""
        hits = asked.join(among, on="key")
        hits = hits.filter(pl.col("rank_asked").is_null() | (pl.col("rank_asked") == pl.col("rank")))
        if kingdom:
            hits = hits.filter(self.taxa["kingdom"].gather(hits["row"]).str.to_lowercase() == kingdom.strip().lower())
        best = hits.filter(pl.col("tier") == pl.col("tier").min().over("name"))
        best = best.sort("row", maintain_order=True).unique(["name", "row", "rank"], keep="first", maintain_order=True)
        return best.select(HITS)

    # By similarity.

    def suggest(self, text: str, rank: Rank | None = None) -> tuple[str, ...]:
        """Return up to three names that are most similar to ``text``."""
        return tuple(dict.fromkeys(self.search(text, top_k=N_SUGGESTIONS, rank=rank)["matched"]))

    def _meant(self, name: str, rank: Rank | None, kingdom: str) -> tuple[str, ...]:
        """Return suggestions for a name that was not found: the same name at another rank, or similar names."""
        elsewhere = self._look_up(_asked([(name, None, name)]), kingdom, self.names) if rank is not None else None
        if elsewhere is not None and elsewhere.height:
            return tuple(f"{Rank(number).label}:{name}" for number in elsewhere["rank"].unique().sort())
        return self.suggest(name, rank)

    def search(self, text: str, *, top_k: int = 10, rank: Rank | None = None) -> pl.DataFrame:
        """Return the taxa with the names most similar to ``text``, best first: row, matched, how, score (1 is equal).

        Words may be misspelt, missing or in another order. A search takes about two seconds over a million names.
        """
        asked = " ".join(text.replace("_", " ").lower().split())
        names = self._searchable if rank is None else self._searchable.filter(pl.col("rank") == int(rank))
        if not asked or names.is_empty():
            return names.clear().select("row", "matched", "how", score=pl.lit(0.0))
        names = names.with_row_index("number")
        whole = _like(asked, names["lower"])
        score = np.maximum(_word_scores(asked.split(), names), whole)
        names = names.with_columns(score=pl.Series(score), whole=pl.Series(whole)).filter(pl.col("score") > 0)
        names = names.sort("score", "whole", "tier", "matched", descending=[True, True, False, False])
        taxa = names.unique(["row", "rank"], keep="first", maintain_order=True)
        return taxa.head(top_k).select("row", "matched", "how", "score")

    @cached_property
    def _searchable(self) -> pl.DataFrame:
        return self.names.select("row", "rank", "matched", "how", "tier", lower=pl.col("matched").str.to_lowercase())

    # By prefix.

    def complete(self, text: str, limit: int) -> pl.DataFrame:
        """Return ``rank``, ``name``, ``n`` (rows below), ``row``, ``matched`` of the clades that complete ``text``.

        ``row`` is a row with the clade, and ``matched`` the name that completes the text, which may be a common name.

        Exact matches come first, then names that begin with the text, then names that contain it, each with the
        largest clade first. ``rank:`` alone lists that rank.
        """
        _, rank, name = _read_leniently(text)
        keys = _asked([(text, rank, name)])["key"].to_list() if name else [""]

        def begins(key: pl.Expr) -> pl.Expr:
            return pl.any_horizontal(pl.lit(False), *(key.str.starts_with(one) for one in keys))

        def holds(key: pl.Expr) -> pl.Expr:
            return pl.any_horizontal(pl.lit(False), *(key.str.contains(one, literal=True) for one in keys))

        found = pl.DataFrame()
        for fits in (begins, holds):
            if found.height >= limit:  # what only holds the text comes after what begins with it
                break
            offers = self._offers_that(fits)
            offers = offers if rank is None else offers.filter(pl.col("rank") == rank.label)
            likeness = begins(pl.col("key")).cast(pl.Int8) + pl.col("key").is_in(keys)
            offers = offers.sort(likeness, descending=True, maintain_order=True).drop("key")
            found = offers.unique(["rank", "name"], keep="first", maintain_order=True).head(limit)
        return found

    def _offers_that(self, fits: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
        """Return the offers whose key fits; those of a large checklist are made of the names that fit alone."""
        if self.checklist is not None and "key" in self.checklist.taxa.columns:
            return self._make_offers(_names_of_checklist(self.checklist, fits))
        return self._offers.filter(fits(pl.col("key")))

    @cached_property
    def _offers(self) -> pl.DataFrame:
        return self._make_offers(pl.concat([self.names, self.other_names]))

    def _make_offers(self, some: pl.DataFrame) -> pl.DataFrame:
        """Return ``key``, ``rank`` (as a word), ``name``, ``n``, ``row``, ``matched`` of names, largest taxa first."""
        parts = []
        for rank in Rank:
            names = some.filter(pl.col("rank") == int(rank)).select("key", "row", "matched")
            values = self.taxa["scientific_name" if rank == Rank.SPECIES else rank.label].fill_null("")
            own = values.gather(names["row"]).alias("name")
            counted = values.filter(values.is_in(own.unique().implode()))
            sizes = counted.value_counts(name="n").rename({values.name: "name"})
            named = names.with_columns(own).join(sizes, on="name", maintain_order="left")
            label, depth = pl.lit(rank.label), pl.lit(int(rank))
            parts.append(named.select("key", "matched", "name", "n", "row", rank=label, depth=depth))
        nameless = pl.col("name") == ""  # a user's label that has only a common name
        offers = pl.concat(parts).with_columns(
            name=pl.when(nameless).then("matched").otherwise("name"), n=pl.when(nameless).then(1).otherwise("n")
        )
        ordered = offers.sort("n", "depth", "name", descending=[True, False, False], maintain_order=True)
        return ordered.select("key", "rank", "name", "n", "row", "matched")


def _read_leniently(text: str) -> tuple[str, Rank | None, str]:
    """Return the text, its rank if it begins with a rank and a colon, and its name, which may be empty."""
    word, _, rest = text.rpartition(":")
    rank = Rank.parse(word) if word.strip().lower() in RANK_LABELS else None
    return text, rank, " ".join((text if rank is None else rest).replace("_", " ").split())


def _readings(text: str) -> list[str]:
    """Return the names that a label may mean, likeliest first; of an uncertain one its genus."""
    from linnaea.taxonomy.names import ParsedName, parse_label

    parsed = parse_label(text)
    if not isinstance(parsed, ParsedName):
        return []
    is_english = parsed.doubt and parsed.species and not looks_latin(parsed.species)
    name = "" if is_english else (parsed.genus or parsed.name) if parsed.doubt else parsed.name
    names = (name, parsed.title_cased, *parsed.other_names, "" if parsed.doubt else parsed.binomial, parsed.vernacular)
    return [name for name in dict.fromkeys(names) if name and name != text]


def _asked(
    texts: Iterable[tuple[str, Rank | None, str]],
    make_keys: Sequence[Callable[[pl.Expr], pl.Expr]] = (name_key, vernacular_key),
) -> pl.DataFrame:
    """Return ``name``, ``rank_asked`` and ``key``, with one row per key under which a text may be found."""
    rows = [(text, rank if rank is None else int(rank), name) for text, rank, name in texts]
    table = pl.DataFrame(rows, schema={"name": pl.String, "rank_asked": pl.Int8, "text": pl.String}, orient="row")
    keys = [table.with_columns(key=key(pl.col("text"))) for key in make_keys]
    return pl.concat(keys).drop("text").unique(maintain_order=True).filter(pl.col("key") != "")


def _names_of_taxa(taxa: pl.DataFrame) -> pl.DataFrame:
    rows = taxa.select((pl.col(c) if c in taxa.columns else pl.lit("")).fill_null("").alias(c) for c in NAME_COLUMNS)
    rows = rows.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    named = [
        rows.filter(pl.col(rank.label) != "")
        .unique(list(dict.fromkeys(("kingdom", rank.label))), keep="first", maintain_order=True)
        .select("row", matched=rank.label, rank=pl.lit(int(rank), pl.Int8))
        for rank in list(Rank)[: Rank.SPECIES]
    ]
    species = rows.filter(pl.col("species") != "")
    named.append(species.select("row", matched="scientific_name", rank=pl.lit(int(Rank.SPECIES), pl.Int8)))
    lowest = pl.coalesce(
        *(pl.when(pl.col(rank.label) != "").then(int(rank)) for rank in reversed(Rank)), pl.lit(int(Rank.SPECIES))
    )
    common = rows.filter(pl.col("common_name") != "").select("row", matched="common_name", rank=lowest.cast(pl.Int8))
    common = common.with_columns(key=vernacular_key(pl.col("matched")))
    scientific = pl.concat(named).with_columns(key=name_key(pl.col("matched")))
    return pl.concat([_described(scientific, 0, pl.lit("accepted")), _described(common, 2, pl.lit("vernacular (en)"))])


def _embedded_names(names: pl.DataFrame, kingdoms: pl.Series) -> pl.DataFrame:
    """Return the embedded checklist's names of the taxa with these ``names``; names of several taxa are left out."""
    own = names.filter(pl.col("tier") == 0).select("row", "rank", "key")
    own = own.with_columns(own_kingdom=kingdoms.gather(own["row"]).fill_null(""))
    found = own.join(_single_embedded_names(), on=["key", "rank"], maintain_order="left")
    found = found.filter((pl.col("own_kingdom") == "") | (pl.col("own_kingdom") == pl.col("kingdom")))
    return _described(found.select("row", "rank", "how", key="asked", matched="name"), 3, pl.col("how"))


@cache
def _single_embedded_names() -> pl.DataFrame:
    """Return the embedded checklist's names of one taxon each, with the keys of taxon and name; half a second once."""
    from linnaea.taxonomy.checklists.source import read_embedded_names

    spoken = pl.col("kind") == "vernacular"
    known = read_embedded_names().with_columns(
        key=name_key(pl.col("taxon")),
        asked=pl.when(spoken).then(vernacular_key(pl.col("name"))).otherwise(name_key(pl.col("name"))),
        how=pl.when(spoken).then(pl.lit("vernacular (en)")).otherwise("kind"),
    )
    first = known.filter(pl.col("preferred") == pl.col("preferred").max().over("asked"))
    single = first.filter(pl.col("id").n_unique().over("asked") == 1)
    return single.select("rank", "kingdom", "name", "key", "asked", "how")


def _names_of_checklist(checklist: "Checklist", fits: Callable[[pl.Expr], pl.Expr] | None = None) -> pl.DataFrame:
    """Return the names of a checklist, or those whose key fits.

    The keys of names are computed unless the checklist has them from its cache.
    """

    def named(table: pl.DataFrame, key: str, make_key: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
        if fits is not None:
            table = table.filter(fits(pl.col(key)))
        given = pl.col(key) if key in table.columns else make_key(pl.col("name"))
        return table.with_columns(pl.col("row").cast(pl.Int64), key=given, matched="name")

    columns = [column for column in ("name", "rank", "key") if column in checklist.taxa.columns]
    accepted = named(checklist.taxa.select(columns).with_row_index("row"), "key", name_key)
    synonyms = named(checklist.synonyms, "key", name_key)
    parts = [_described(accepted, 0, pl.lit("accepted"))]
    ranks = checklist.taxa["rank"].cast(pl.Int8)
    others = [(synonyms, 1, pl.col("kind").fill_null("synonym"))]
    if checklist.vernaculars.width:
        spoken = named(checklist.vernaculars, "strict", vernacular_key)
        others.append((spoken, 2, pl.format("vernacular ({})", pl.col("language").fill_null("?"))))
    parts += [_described(t.with_columns(rank=ranks.gather(t["row"])), tier, how) for t, tier, how in others]
    return pl.concat(parts)


def _described(names: pl.DataFrame, tier: int, how: pl.Expr) -> pl.DataFrame:
    kind = {"tier": pl.lit(tier, pl.Int8), "how": how}
    return names.select("key", "matched", pl.col("rank").cast(pl.Int8), "row", **kind)


def _like(asked: str, names: pl.Series) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Return the similarity of each name (1 - edits / length; a swap of two letters is one edit); 0 if too low."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import cdist

    scorer = OSA.normalized_similarity
    row = cdist([asked], names.to_list(), scorer=scorer, score_cutoff=LEAST_LIKE, dtype=np.float32, workers=-1)[0]
    return np.asarray(row, np.float32)


def _word_scores(asked: list[str], names: pl.DataFrame) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Return how well the words of each name cover those asked for, in any order."""
    words = names.select("number", pl.col("lower").str.split(" ").alias("word")).explode("word")
    distinct = words["word"].unique()
    scores = np.zeros(names.height, np.float32)
    n_words = words.group_by("number").len("n")
    found = names.select("number").join(n_words, on="number", how="left", maintain_order="left")["n"].to_numpy()
    for word in asked:
        like = pl.DataFrame({"word": distinct, "like": _like(word, distinct)}).filter(pl.col("like") > 0)
        best = words.join(like, on="word").group_by("number").agg(pl.col("like").max())
        scores[best["number"].to_numpy()] += best["like"].to_numpy() / len(asked)
    complete = scores * (1 - SHARE_OF_LENGTH) + SHARE_OF_LENGTH * len(asked) / np.maximum(found, len(asked))
    return np.where(scores > LEAST_LIKE, complete, 0).astype(np.float32)


def did_you_mean(names: Iterable[str]) -> str:
    """Return the end of a message that suggests ``names``, or ``""`` if there are none."""
    *others, last = [*names] or [""]
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def lineage_text(taxa: pl.DataFrame) -> pl.Series:
    """Return the names of each row, from kingdom down, joined by ``" > "``."""
    named = [pl.when(pl.col(label) != "").then(pl.col(label)) for label in RANK_LABELS]
    return taxa.select(pl.concat_str(named, separator=" > ", ignore_nulls=True).alias("lineage"))["lineage"]
