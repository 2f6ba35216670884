"""The lookups of a resolution. Each is a join of all remaining names with the names of the checklists.

Every lookup returns candidates (:data:`CANDIDATES`), and ``resolve`` decides between them. ``read`` is the table of
parsed labels (:func:`~linnaea.taxonomy.parsed_labels.parse_label_table`).
"""

import polars as pl

from linnaea.taxonomy.keys import epithet_stem, loose_vernacular_key, name_key, vernacular_key, words_key
from linnaea.taxonomy.misspellings import honours_no_author, is_slip, near_binomials, near_words
from linnaea.taxonomy.name_index import ACCEPTED, SYNONYM, NameIndex
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

CANDIDATES = {
    "q": pl.Int32,
    "order": pl.Int16,
    "t": pl.Int32,
    "list": pl.Int8,
    "kind": pl.Int8,
    "matched": pl.String,
    "authorship": pl.String,
}
"""The columns of candidates: query, preference within the lookup, taxon, checklist, kind of name, matching name and its
authors."""


class Lookups:
    """The lookups over the names of checklists within a context; what several of them need is made once."""

    def __init__(self, index: NameIndex, inside: pl.Series) -> None:
        self.index, self.inside = index, inside
        self.names_inside: pl.DataFrame | None = None

    def _lookup(self, keyed: pl.DataFrame) -> pl.DataFrame:
        """Return the candidates for q, order, key."""
        found = keyed.join(self.index.names, on="key")
        return found.select(*CANDIDATES, "between")

    def as_written(self, pending: pl.DataFrame) -> pl.DataFrame:
        plain = pl.col("label").str.replace_all("[_\\s]+", " ").str.strip_chars()
        keyed = pending.filter(plain.str.contains(_AS_WRITTEN) & ~plain.str.contains(_NOT_AS_WRITTEN))
        keyed = keyed.with_columns(key=name_key(plain), order=pl.lit(0, pl.Int16))
        # A single word in upper or lower case may be a vernacular name, so it waits for the parser.
        one_word = ~pl.col("key").str.contains(" ")
        if not self.index.vernaculars.is_empty():
            keyed = keyed.filter(~one_word | plain.str.contains(r"^\p{Lu}\p{Ll}"))
        return self._lookup(keyed.filter(pl.col("key") != ""))

    def as_parsed(self, read: pl.DataFrame, *, only_species: bool = False) -> pl.DataFrame:
        """Look up the names of each label, likeliest first; of a trinomial, the trinomial alone."""
        read = read.filter(~pl.col("weak") | (pl.col("title_cased") != "") | (pl.col("others").list.len() > 0))
        own = pl.when(pl.col("weak")).then(pl.lit("")).otherwise("name")
        names = pl.concat_list(pl.concat_list("title_cased", own), pl.col("others"))
        tried = read.select("q", name=names).explode("name").filter(pl.col("name") != "")
        if only_species:
            tried = tried.filter(pl.col("name").str.contains(" ", literal=True))
        keyed = tried.with_columns(key=name_key(pl.col("name")), order=pl.int_range(pl.len()).over("q").cast(pl.Int16))
        return self._lookup(keyed)

    def choose_of_two(self, parsed: pl.DataFrame) -> pl.DataFrame:
        """Decide which of two binomials in one label is the organism: the first, if its genus exists.

        The second of "Puccinia graminis (Berberis vulgaris)" is a host; the first of "Triangle cactus (Acanthocereus
        tetragonus)" is English.
        """
        both = parsed.filter(pl.col("is_pair") & (pl.col("title_cased") != ""))
        first = both.select("q", key=name_key(pl.col("title_cased").str.extract(r"^(\S+)")))
        named = first.join(self.index.names.filter(pl.col("kind") <= SYNONYM), on="key", how="semi")["q"]
        is_first = pl.col("q").is_in(named.implode())
        title = pl.col("title_cased")
        columns = {column: pl.when(is_first).then(title).otherwise(column) for column in ("name", "binomial")}
        columns["genus"] = pl.when(is_first).then(title.str.extract(r"^(\S+)")).otherwise("genus")
        return parsed.with_columns(
            **columns,
            latin=pl.col("latin") & ~is_first,
            title_cased=pl.when("is_pair").then(pl.lit("")).otherwise(title),
        )

    def species_of_trinomial(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up the species of names below the species that no checklist has."""
        asked = read.filter((pl.col("binomial") != "") & (pl.col("binomial") != pl.col("name")))
        keyed = asked.select("q", key=name_key(pl.col("binomial")), order=pl.lit(0, pl.Int16))
        return self._lookup(keyed)

    def infraspecific_ending(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up names below the species with other endings of their epithets."""
        asked = _with_stems(read.select("q", key=name_key(pl.col("name"))))
        if asked.is_empty():
            return no_candidates()
        found = asked.drop("key").join(self._trinomials(asked["genus"]), on=["genus", "stem", "below"])
        return found.with_columns(order=pl.lit(0, pl.Int16)).select(*CANDIDATES, between=pl.lit(""))

    def _trinomials(self, genera: pl.Series) -> pl.DataFrame:
        """Return the names below the species in these genera: genus, stem, below (stems), and a candidate's columns."""
        there = self.index.names.filter(
            pl.col("key").str.contains(r"^\S+ \S+ \S+$") & pl.col("t").is_in(self._t_inside())
        )
        there = there.filter(pl.col("key").str.extract(r"^(\S+)").is_in(genera.unique().implode()))
        return _with_stems(there)

    def keep_below(self, found: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
        """Replace the species of a corrected trinomial where a checklist has the trinomial as another name."""
        below = read.filter((pl.col("binomial") != "") & (pl.col("binomial") != pl.col("name")))
        asked = found.join(below.select("q", last=name_key(pl.col("name")).str.extract(r" (\S+)$")), on="q")
        if asked.is_empty():
            return found
        keyed = asked.select("q", "order", key=name_key(pl.col("matched")) + " " + pl.col("last"))
        exact = self._lookup(keyed).select(found.columns)
        return pl.concat([found.join(exact, on="q", how="anti"), exact])

    def only_genera(self, found: pl.DataFrame, doubtful: pl.DataFrame) -> pl.DataFrame:
        """Replace the species of doubtful labels by their genera: "red fox?" is a Vulpes."""
        species = self.index.taxa["rank"].gather(found["best"]) == int(Rank.SPECIES)
        asked = found.filter(species & found["q"].is_in(doubtful["q"].implode()))
        if asked.is_empty():
            return found
        place = ["list", "kingdom", "family", "genus"]
        genera = self.index.taxa.filter(pl.col("rank") == int(Rank.GENUS)).unique(place).select(*place, genus_t="t")
        asked = asked.hstack(self.index.taxa.select(pl.col(place).name.prefix("_"))[asked["best"]])
        asked = asked.join(genera, left_on=[f"_{name}" for name in place], right_on=place, maintain_order="left")
        asked = asked.with_columns(t="genus_t", best="genus_t").select(found.columns)
        return pl.concat([found.join(asked, on="q", how="anti", maintain_order="left"), asked])

    def parts_together(self, read: pl.DataFrame) -> pl.DataFrame:
        """Return q, part, t of the taxa that a label names together; of an unknown species its genus."""
        asked = read.filter(pl.col("together").list.len() > 0).select("q", name="together")
        asked = asked.explode("name").with_columns(part=pl.int_range(pl.len()).over("q").cast(pl.Int16))
        asked = asked.with_columns(key=name_key(pl.col("name")))
        own = asked.join(self.index.names.filter(pl.col("kind") <= SYNONYM), on="key").select("q", "part", "t")
        left = asked.join(own, on=["q", "part"], how="anti").with_columns(key=pl.col("key").str.extract(r"^(\S+) "))
        genera = self.index.taxa.filter(pl.col("rank") == int(Rank.GENUS)).select("t")
        of_genus = left.join(self.index.names.filter(pl.col("kind") <= SYNONYM), on="key").join(
            genera, on="t", how="semi"
        )
        return pl.concat([own, of_genus.select("q", "part", "t")])

    def above(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up the lowest name of a label's lineage that a checklist has."""
        asked = read.filter(pl.col("ancestors").list.len() > 0).select("q", name="ancestors").explode("name")
        order = pl.int_range(pl.len()).over("q").cast(pl.Int16)
        keyed = asked.with_columns(order=order, key=name_key(pl.col("name")))
        return self._lookup(keyed.filter(pl.col("key") != ""))

    def vernacular(self, read: pl.DataFrame, column: str, text: str = "vernacular") -> pl.DataFrame:
        make_key = vernacular_key if column == "strict" else loose_vernacular_key
        asked = read.filter(pl.col(text) != "")
        asked = asked.select("q", **{column: make_key(pl.col(text))}, words=vernacular_key(pl.col(text)))
        asked = asked.filter(pl.col(column).str.len_chars() > 2)
        found = asked.join(self.index.vernaculars, on=column)
        if column == "loose" and self.inside.all():
            # Without any context, corn is not a corn snake.
            found = found.filter(pl.col("words").str.contains(" ") | ~pl.col("strict").str.contains(" "))
        return _as_candidates(found.join(self._outside_bracket(found, read), on=["q", "t"], how="anti"))

    def _outside_bracket(self, found: pl.DataFrame, read: pl.DataFrame) -> pl.DataFrame:
        """Return q, t of the vernacular names that lie outside a genus or higher taxon that their label has, too.

        "Common Blackbird (Corvus)" is not a Turdus.
        """
        named = read.select("q", name=pl.concat_list("others", "ancestors"))
        added = found.select("q").unique().join(named, on="q").explode("name").drop_nulls("name")
        added = added.with_columns(key=name_key(pl.col("name")).str.extract(r"^(\S+)"))
        groups = added.join(self.index.names.filter(pl.col("kind") <= SYNONYM), on="key").select("q", "t", "key")
        groups = groups.select("q", "key").hstack(self.index.taxa.select("rank", "name")[groups["t"]])
        lineage = [pl.col(label).alias(str(number)) for number, label in enumerate(RANK_LABELS)]
        both = found.select("q", "t").join(groups, on="q")
        both = both.hstack(self.index.taxa.select(lineage)[self.index.taxa["best"].gather(both["t"])])
        at_rank = pl.coalesce(pl.when(pl.col("rank") == number).then(str(number)) for number in range(len(RANK_LABELS)))
        both = both.with_columns(inside=(at_rank == pl.col("name")) | (at_rank == ""))
        return both.filter(~pl.col("inside").any().over("q", "t", "key")).select("q", "t").unique()

    def reworded(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up names whose words are in another order, lack one in the middle, or end with one cut short."""
        there = self.index.vernaculars.filter(pl.col("t").is_in(self._t_inside()))
        asked = read.filter(pl.col("vernacular").str.contains(r"\S[ -]\S")).select("q", "vernacular")
        if asked.is_empty() or there.is_empty():
            return no_candidates()
        asked = asked.with_columns(bag=words_key(pl.col("vernacular")), strict=vernacular_key(pl.col("vernacular")))
        there = there.with_columns(bag=words_key(pl.col("matched")))
        same_words = asked.drop("strict").join(there, on="bag")
        ends = {"first": pl.col("strict").str.extract(r"^(.*) \S+$"), "last": pl.col("strict").str.extract(r" (\S+)$")}
        cut = asked.with_columns(**ends).filter(pl.col("last").str.len_chars() >= 4)
        # A red spider is not a red spiderling: a last word that other names end with is whole.
        cut = cut.join(there.select(ends["last"].alias("last")), on="last", how="anti")
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
        """Return the species names within the context: n, genus, epithet, and the columns of a candidate."""
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
        """Return the binomials of these genera, with the stem of their epithets."""
        table = pl.DataFrame({"genus": genera.unique()})
        inside = self._binomials().join(table, on="genus", how="semi")
        return inside.with_columns(stem=epithet_stem(pl.col("epithet")))

    def _t_inside(self) -> pl.Series:
        return self.inside.arg_true().cast(pl.Int32).implode()

    def _asked_binomials(self, read: pl.DataFrame) -> pl.DataFrame:
        """Return q, order, genus, epithet and stem of every reading of the pending names.

        A second word with a capital may be an author, so it is never corrected into an epithet that honours one.
        """
        capital = pl.col("title_cased") != ""
        names = pl.concat_list(pl.concat_list("binomial", "title_cased"), pl.col("others")).list.unique(
            maintain_order=True
        )
        tried = read.select("q", name=names, capital=capital).explode("name")
        words = name_key(pl.col("name")).str.splitn(" ", 2)
        asked = tried.filter(pl.col("name") != "").with_columns(genus=words.struct[0], epithet=words.struct[1])
        asked = asked.filter(pl.col("epithet").is_not_null())
        return asked.with_columns(
            stem=epithet_stem(pl.col("epithet")), order=pl.int_range(pl.len()).over("q").cast(pl.Int16)
        )

    def joined(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up names with blanks in other places: "Lemnaminor", "Pedicularis sceptrum carolinum"."""
        read = read.filter((pl.col("name") != pl.col("binomial")) | (pl.col("binomial") == ""))
        asked = read.select("q", joined=name_key(pl.col("text")).str.replace_all(" ", ""))
        asked = asked.filter(pl.col("joined").str.len_chars() >= 8)
        if asked.is_empty():
            return no_candidates()
        names = self.index.names.filter((pl.col("kind") <= SYNONYM) & pl.col("key").str.contains(" ", literal=True))
        found = asked.join(names.with_columns(joined=pl.col("key").str.replace_all(" ", "")), on="joined")
        return found.with_columns(order=pl.lit(0, pl.Int16)).select(*CANDIDATES, between=pl.lit(""))

    def other_ending(self, read: pl.DataFrame) -> pl.DataFrame:
        asked = self._asked_binomials(read)
        if asked.is_empty():
            return no_candidates()
        asked = asked.select("q", "order", "genus", "stem", "capital", asked="epithet")
        found = asked.join(self._of_genera(asked["genus"]), on=["genus", "stem"]).filter(honours_no_author())
        return self.keep_below(found.select(*CANDIDATES, between=pl.lit("")), read)

    def moved_genus(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up species in the genus that their genus is now a subgenus or synonym of."""
        asked = self._asked_binomials(read)
        if asked.is_empty():
            return no_candidates()
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
        asked = asked.rename({"epithet": "asked"}).join(moved, on="genus")
        found = asked.join(there, left_on=["now", "stem"], right_on=["genus", "stem"]).filter(honours_no_author())
        return found.select(*CANDIDATES, between=pl.lit("")).with_columns(kind=pl.lit(SYNONYM, pl.Int8))

    def misspelt(self, read: pl.DataFrame) -> pl.DataFrame:
        asked = self._asked_binomials(read).filter(pl.col("genus").str.len_chars() > 2)
        if asked.is_empty():
            return no_candidates()
        distinct = asked.select("genus", "epithet").unique(maintain_order=True).with_row_index("q")
        distinct = distinct.with_columns(pl.col("q").cast(pl.Int32))
        names = self._binomials()
        found = near_binomials(distinct, names.select("n", "genus", "epithet"))
        genera = self.index.names.join(asked.select(key="genus").unique(), on="key", how="semi")["key"]
        known = pl.DataFrame({"g": pl.concat([names["genus"], genera]).unique()}).with_columns(known=pl.lit(True))
        found = found.join(distinct.rename({"genus": "g", "epithet": "e"}), on="q").drop("q")
        found = found.join(names, on="n").join(known, on="g", how="left").with_columns(pl.col("known").fill_null(False))
        found = found.filter(is_slip() & ((pl.col("epithet_edits") == 0) | ~self._is_word(found["e"])))
        asked = asked.select("q", "capital", g="genus", e="epithet")
        found = asked.join(found, on=["g", "e"]).with_columns(asked="e").filter(honours_no_author())
        order = (pl.col("genus_edits") + pl.col("epithet_edits")).cast(pl.Int16)
        return self.keep_below(found.with_columns(order=order).select(*CANDIDATES, between=pl.lit("")), read)

    def _is_word(self, epithets: pl.Series) -> pl.Series:
        """Return ``[n]``: whether an epithet occurs in any genus; such a species is unknown rather than misspelt."""
        word = pl.col("epithet").str.replace("(?:us|um|a|is|e)$", "")
        known = self._binomials().select(word).unique()["epithet"]
        return pl.DataFrame({"epithet": epithets}).select(word.is_in(known.implode()))["epithet"]

    def misspelt_vernacular(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up vernacular names one edit away, where a word as written occurs in none of them."""
        vernaculars = self.index.vernaculars.filter(pl.col("t").is_in(self._t_inside()))
        asked = read.select(
            "q",
            loose=loose_vernacular_key(pl.col("vernacular")),
            words=vernacular_key(pl.col("vernacular")).str.split(" "),
        )
        asked = asked.filter(pl.col("loose").str.len_chars() >= 5)
        if asked.is_empty() or vernaculars.is_empty():
            return no_candidates()
        known = vernaculars.select(pl.col("strict").str.split(" ").alias("words")).explode("words").unique()
        misspelt = asked.explode("words").join(known, on="words", how="anti")
        asked = asked.join(misspelt, on="q", how="semi")
        near = near_words(asked["loose"].unique(), vernaculars["loose"].unique())
        found = asked.join(near, left_on="loose", right_on="word").join(vernaculars, left_on="near", right_on="loose")
        # One word is not the slip of a name of several: "found" is not a round frog.
        found = found.filter((pl.col("words").list.len() > 1) | ~pl.col("strict").str.contains(" "))
        return _as_candidates(found)

    def abbreviated(self, read: pl.DataFrame) -> pl.DataFrame:
        """Look up species by the initial of their genus and their epithet ("Q. robur")."""
        words = pl.col("vernacular").str.extract_groups(r"^(\p{Lu}\p{Ll}?)\. ?(\p{Ll}[\p{Ll}-]{2,})")
        asked = read.select("q", initial=words.struct[0].str.to_lowercase(), epithet=name_key(words.struct[1]))
        asked = asked.filter(pl.col("epithet").is_not_null())
        if asked.is_empty():
            return no_candidates()
        found = asked.join(self._binomials(), on="epithet").filter(pl.col("genus").str.starts_with(pl.col("initial")))
        return found.with_columns(order=pl.lit(0, pl.Int16)).select(*CANDIDATES, between=pl.lit(""))

    def genus_alone(self, read: pl.DataFrame) -> pl.DataFrame:
        read = read.filter(pl.col("latin"))
        if not self.index.vernaculars.is_empty():
            # "Magnolia Warbler" has no author: its second word occurs in vernacular names.
            second = vernacular_key(pl.col("text")).str.extract(r"^\S+ (\S+)")
            known = self.index.vernaculars.select(second=pl.col("strict").str.split(" ")).explode("second").unique()
            read = read.with_columns(second=pl.when(pl.col("weak")).then(second))
            read = read.join(known, on="second", how="anti", maintain_order="left")
        keyed = read.select("q", key=name_key(pl.col("genus")), order=pl.lit(0, pl.Int16)).filter(pl.col("key") != "")
        genera = self.index.taxa.filter(pl.col("rank") == int(Rank.GENUS)).select("t")
        found = self._lookup(keyed).filter(pl.col("kind") <= SYNONYM)
        return found.join(genera, on="t", how="semi")


def _as_candidates(found: pl.DataFrame, order: int = 0) -> pl.DataFrame:
    """Return candidates from vernacular names; preferred ones go first within a checklist."""
    kind = pl.when("preferred").then(ACCEPTED).otherwise(SYNONYM).cast(pl.Int8)
    columns = {"order": pl.lit(order, pl.Int16), "kind": kind, "authorship": pl.lit("")}
    return found.with_columns(**columns).select(*CANDIDATES, between=pl.lit(""))


_AS_WRITTEN = r"^\p{Lu}[\p{L} .'-]*$|^\p{Ll}[\p{L} .'-]*$"
_NOT_AS_WRITTEN = (
    r"(?i)(?:^| )(?:[x×]|spp?|spec|cf|aff|nr|near|on|ex|from|of|and|or|non|nec|sensu|auct\.?|hybrids?|not|with|agg|gr|"
    r"group|in|subsp|ssp|subspecies|var|subvar|f|fo|forma|nothosubsp|nothovar)(?:[ .]|$)"
)
"""Labels that are looked up before they are parsed: plain words, of which none is a mark."""


def _with_stems(table: pl.DataFrame) -> pl.DataFrame:
    """Add genus and the stems of both epithets to keys of three words."""
    words = pl.col("key").str.split(" ")
    three = table.filter(pl.col("key").str.contains(r"^\S+ \S+ \S+$"))
    return three.with_columns(
        genus=words.list.get(0), stem=epithet_stem(words.list.get(1)), below=epithet_stem(words.list.get(2))
    )


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
    *(
        "western",
        "black",
        "white",
        "red",
        "green",
        "blue",
        "brown",
        "yellow",
        "gray",
        "purple",
        "wild",
        "true",
        "false",
    ),
)
"""Last and first words that are too general for a name with a missing word."""


def no_candidates() -> pl.DataFrame:
    return pl.DataFrame(schema={**CANDIDATES, "between": pl.String})
