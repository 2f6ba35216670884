"""A row of a table to a taxon, or to the reason why not."""

import polars as pl
import pytest

from linnaea.taxonomy.columns import ANSWER_COLUMNS, NAME_COLUMNS, answer_names, match_name_columns
from linnaea.taxonomy.row import NO_NAME, read_binomials, read_taxon, tidy_name, tidy_names, with_doubt
from linnaea.taxonomy.taxon import Taxon


@pytest.mark.parametrize(
    ("genus", "species", "expected"),
    [
        ("Pica", "hudsonia", ("Pica", "hudsonia")),
        ("Pica", "Pica hudsonia", ("Pica", "hudsonia")),
        ("Pica", "pica hudsonia", ("Pica", "hudsonia")),
        ("", "Pica hudsonia (Sabine, 1823)", ("Pica", "hudsonia")),
        ("Culex", "pipiens Linnaeus", ("Culex", "pipiens")),
        ("Culex", "pipiens Linnaeus, 1758", ("Culex", "pipiens")),
        ("Culex", "pipiens L.", ("Culex", "pipiens")),
        ("Culex", "(Culex) pipiens", ("Culex", "pipiens")),
        ("Motacilla", "alba lugens", ("Motacilla", "alba")),
        ("Motacilla", "Motacilla alba lugens", ("Motacilla", "alba")),
        ("Anas", "platyrhynchos × superciliosa", ("Anas", "")),
        ("Rosa", "× alba", ("Rosa", "alba")),
        ("Culex", "Culex sp. 3BZ", ("Culex", "sp. 3BZ")),
        ("Culex", "sp. 3BZ", ("Culex", "sp. 3BZ")),
        ("Culex", "cf. pipiens", ("Culex", "")),
        ("Megaselia", "Megaselia BOLD:AAA1234", ("Megaselia", "BOLD:AAA1234")),
        ("Pica", "not_classified", ("Pica", "")),
        ("", "Culex sp. 3BZ", ("Culex", "sp. 3BZ")),
    ],
)
def test_a_species_never_becomes_empty(genus: str, species: str, expected: tuple[str, str]) -> None:
    taxon = read_taxon({"kingdom": "Animalia", "genus": genus, "species": species})
    assert not isinstance(taxon, str)
    assert (taxon.genus, taxon.species) == expected


def test_null_words_are_no_names() -> None:
    words = ("not_classified", "NA", "", "unknown", "None", "-", None)
    empty = dict(zip(NAME_COLUMNS, words, strict=False))
    assert read_taxon(empty) == NO_NAME
    assert read_taxon(empty, "n/a") == NO_NAME
    assert read_taxon(empty | {"common_name": "Magpie"}) == Taxon.of(common_name="Magpie")
    assert read_taxon(empty | {"genus": "Pica", "common_name": "NaN"}) == Taxon.of(genus="Pica")


NULL_WORDS = ["nan", "NA", "None", "Unknown", "not_classified", "unidentified", "Blank", "Animal", "No CV Result",
              "empty", "CV Needed", "Nothing here", "Undefined", "N/A", "-", "indet.", "NOTHINGHERE",
              "no_cv_result", "#N/A", "#REF!", "sin identificar", "não identificada", "unbestimmt"]  # fmt: skip


@pytest.mark.parametrize("word", NULL_WORDS)
def test_a_null_word_is_no_taxon_in_any_column(word: str) -> None:
    assert read_taxon(dict.fromkeys(NAME_COLUMNS, word)) == NO_NAME
    assert read_taxon(dict.fromkeys(NAME_COLUMNS, word) | {"class": "Mammalia"}) == Taxon.of({"class": "Mammalia"})
    assert isinstance(read_taxon({}, word), str)


def test_cells_and_columns_of_names_are_tidied_alike() -> None:
    cells = [*NULL_WORDS, " Pica\tpica ", "7", "sp. 3BZ", "sp.", "Animalia", "Blankia", "No", "unknown sp."]
    assert pl.DataFrame({"a": cells}).select(tidy_names(pl.col("a"))).to_series().to_list() == list(
        map(tidy_name, cells)
    )
    assert [tidy_name(cell) for cell in cells[-7:]] == ["7", "sp. 3BZ", "", "Animalia", "Blankia", "No", ""]


@pytest.mark.parametrize(
    ("kingdom", "ours"),
    [("Metazoa", "Animalia"), ("viridiplantae", "Plantae"), ("Animals", "Animalia"), ("Animalia", "Animalia"),
     ("Fungi", "Fungi"), ("Eubacteria", "Bacteria"), ("Terrabacteria", "Terrabacteria")],
)  # fmt: skip
def test_a_kingdom_of_another_school_is_written_as_ours(kingdom: str, ours: str) -> None:
    assert read_taxon({"kingdom": kingdom, "genus": "Nemo"}) == Taxon.of(kingdom=ours, genus="Nemo")
    folder = read_taxon({}, f"00017_{kingdom}_Foo_Bar_Baz_Qux_Nemo_nullus")
    assert folder == Taxon((ours, "Foo", "Bar", "Baz", "Qux", "Nemo", "nullus"))


def test_columns_of_other_layouts_are_known() -> None:
    inaturalist = [f"taxon_{rank}_name" for rank in NAME_COLUMNS[:7]]
    assert match_name_columns([*inaturalist, "id"]) == dict(zip(inaturalist, NAME_COLUMNS[:7], strict=True))
    assert match_name_columns(["genus", "specificEpithet", "vernacularName", "scientificName"]) == {
        "specificEpithet": "species", "vernacularName": "common_name", "scientificName": "scientific_name",
    }  # fmt: skip
    assert match_name_columns(["species name", "scientific name"]) == {
        "species name": "common_name", "scientific name": "scientific_name",
    }  # fmt: skip
    assert match_name_columns(["species name"]) == {}, "it may be a scientific name"
    assert match_name_columns(["Scientific Name"], kept=["Scientific Name"]) == {}


def test_ranks_come_before_names_and_names_before_labels() -> None:
    row = {"genus": "Pica", "species": "pica", "scientific_name": "Corvus corax", "common_name": " Mag\tpie "}
    assert read_taxon(row, "Alca torda") == Taxon.of(genus="Pica", species="pica", common_name="Mag pie")
    row |= {"genus": "", "species": "unknown"}
    assert read_taxon(row, "Alca torda") == Taxon.of(genus="Corvus", species="corax", common_name="Mag pie")
    row["scientific_name"] = ""
    assert read_taxon(row, "Alca torda") == Taxon.of(genus="Alca", species="torda", common_name="Mag pie")
    assert read_taxon(row, "x", lambda label: f"what is {label}?") == "what is x?"
    assert read_taxon({"species": "pica"}) == "species 'pica' has no genus"


def test_genus_and_species_make_a_name_together() -> None:
    table = pl.DataFrame(
        {
            "GENUS": ["Pica", "Corvus", "Alca", "unknown", None],
            "Species ": ["pica", "Corvus corax L.", None, "NA", "Larus canus"],
        }
    )
    names = read_binomials(table)
    assert names is not None
    assert names.to_list() == ["Pica pica", "Corvus corax L.", "Alca", "", "Larus canus"]
    assert read_binomials(table.drop("GENUS")) is None


def test_a_doubtful_common_name_without_a_checklist_stays_a_class_of_its_own() -> None:
    assert read_taxon({}, "red fox?") == Taxon.of(common_name="red fox?")
    assert read_taxon({}, "Q. robur × petraea") == Taxon.of(common_name="Q. robur × petraea")


def test_species_means_the_binomial_in_answers_alone() -> None:
    answer = answer_names(Taxon.of(genus="Pica", species="pica", common_name="Magpie"))
    assert (answer["species"], answer["species_epithet"], answer["common_name"]) == ("Pica pica", "pica", "Magpie")
    assert set(answer) <= set(ANSWER_COLUMNS)
    assert answer_names(Taxon.of(genus="Pica"))["species"] == ""


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        ({"genus": "Anas", "species": "platyrhynchos"}, "Anas platyrhynchos × acuta", ("Anas", "")),
        ({"genus": "Anas", "species": "platyrhynchos × acuta"}, "", ("Anas", "")),
        ({"genus": "", "species": "platyrhynchos"}, "Anas platyrhynchos × Mareca strepera", ("", "")),
        ({"genus": "Salix", "species": "×"}, "Salix × fragilis", ("Salix", "fragilis")),
        ({"genus": "Quercus", "species": "robur"}, "aff. Quercus robur L.", ("Quercus", "")),
        ({"genus": "Trifolium", "species": "repens"}, "Trifolium repens auct. non L.", ("Trifolium", "")),
        ({"genus": "Pica", "species": "pica"}, "Pica pica (Linnaeus, 1758)", ("Pica", "pica")),
        ({"genus": "Quercus", "species": "robur"}, "Quercus robur (hybrid)", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur"}, "Quercus robur / petraea", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur"}, "Quercus robur or petraea", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur"}, "Q. robur x petraea", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur"}, "Quercus robur group", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur"}, "Quercus cfr. robur", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur (uncertain)"}, "", ("Quercus", "")),
        ({"genus": "", "species": ""}, "Quercus robur (uncertain)", ("Quercus", "")),
        ({"genus": "Quercus", "species": "robur"}, "Quercus robur agg.", ("Quercus", "robur")),
        ({"genus": "Pica", "species": "pica"}, "what is this?", ("Pica", "pica")),
        ({"genus": "Hyacinthoides", "species": "non-scripta"}, "", ("Hyacinthoides", "non-scripta")),
    ],
)
def test_the_name_decides_about_hybrids_and_doubt(row: dict[str, str], name: str, expected: tuple[str, str]) -> None:
    taxon = read_taxon({"kingdom": "Animalia", "family": "Anatidae", **row}, name)
    assert not isinstance(taxon, str)
    assert (taxon.genus, taxon.species) == expected
    assert read_taxon({"kingdom": "Animalia", "family": "Anatidae", **row, "scientific_name": name}) == taxon


@pytest.mark.parametrize(
    ("qualifier", "expected"),
    [
        ("cf.", "cf. Quercus robur"),
        ("aff. robur", "aff. Quercus robur"),
        ("?", "? Quercus robur"),
        ("uncertain", "? Quercus robur"),
        *((words, "? Quercus robur") for words in ("cfr.", "prob.", "unsure", "ID to be confirmed", "vermutlich")),
        *((words, "? Quercus robur") for words in ("hybrid", "gr.", "sensu auct.", "[?]", "not certain")),
        ("confirmed", "Quercus robur"),
        ("cf. var. robur", "Quercus robur"),
        ("s.l.", "Quercus robur"),
        ("", "Quercus robur"),
        (None, "Quercus robur"),
    ],
)
def test_a_doubt_stated_beside_the_name_is_read(qualifier: str | None, expected: str) -> None:
    table = pl.DataFrame(
        {"name": ["Quercus robur"], "qualifier": [qualifier]}, schema_overrides={"qualifier": pl.String}
    )
    assert table.select(with_doubt(pl.col("name"), pl.col("qualifier"))).item() == expected
