"""A row of a table to a taxon, or to the reason why not."""

import polars as pl
import pytest

from linnaea.taxonomy.columns import ANSWER_COLUMNS, NAME_COLUMNS, answer_names
from linnaea.taxonomy.row import NO_NAME, read_binomials, read_taxon
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
        ("Anas", "platyrhynchos × superciliosa", ("Anas", "platyrhynchos × superciliosa")),
        ("Rosa", "× alba", ("Rosa", "× alba")),
        ("Culex", "Culex sp. 3BZ", ("Culex", "sp. 3BZ")),
        ("Culex", "sp. 3BZ", ("Culex", "sp. 3BZ")),
        ("Culex", "cf. pipiens", ("Culex", "cf. pipiens")),
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


def test_species_means_the_binomial_in_answers_alone() -> None:
    answer = answer_names(Taxon.of(genus="Pica", species="pica", common_name="Magpie"))
    assert (answer["species"], answer["species_epithet"], answer["common_name"]) == ("Pica pica", "pica", "Magpie")
    assert set(answer) <= set(ANSWER_COLUMNS)
    assert answer_names(Taxon.of(genus="Pica"))["species"] == ""
