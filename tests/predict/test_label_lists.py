"""Files of labels: names get their lineages, what is not certain is said, and classes stay apart."""

import logging
from pathlib import Path

import pytest

from linnaea.data.naming import make_naming
from linnaea.errors import LinnaeaError
from linnaea.predict.label_lists import is_complete, read_taxa
from linnaea.taxonomy.taxon import Taxon

PICA = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica")


def test_names_of_a_file_get_their_lineages_unless_they_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("Pica pica\nPICA_PICA\nPica pica juvenile\nTurdus merula_Merle noir\ncar\nBlank\nSome Thing\n\n")
    with caplog.at_level(logging.WARNING):
        taxa = read_taxa(path, make_naming())
    assert taxa.select("family", "scientific_name", "common_name").rows() == [
        ("", "", "Some Thing"), ("", "", "car"), ("Corvidae", "Pica pica", ""),
        ("Corvidae", "Pica pica", "Pica pica juvenile"), ("Turdidae", "Turdus merula", ""),
    ]  # fmt: skip
    said = [record.getMessage().removeprefix(f"{path}: ") for record in caplog.records]
    assert said == [
        "not a name: 1 label ('Blank': no name at any rank)", "not found: 1 name (Some Thing)",
        "doubtful: 1 name (car)", "merged: 2 labels are 1 class",
    ]  # fmt: skip
    assert set(read_taxa(path, make_naming(resolve=False))["family"]) == {""}
    assert read_taxa(path, make_naming(resolve=False, merge_by="taxon")).height == 4


def test_a_whole_lineage_is_kept_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "kingdom,phylum,class,order,family,genus,species\n"
        + "Animalia,Chordata,Aves,Foo,Bar,Pica,pica\n,,,,,Corvus,corax\nMetazoa,,,,,Alca,torda\n"
    )
    families = read_taxa(tmp_path / "labels.csv", make_naming()).select("kingdom", "family", "genus").rows()
    assert [names[1] for names in sorted(families)] == ["Alcidae", "Bar", "Corvidae"]
    assert {names[0] for names in families} == {"Animalia"}
    assert is_complete(Taxon(PICA))
    assert is_complete(Taxon((*PICA[:5], "", "")))
    assert not is_complete(Taxon(("", *PICA[1:])))
    assert not is_complete(Taxon.of(common_name="Magpie"))


def test_a_file_of_null_words_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("Blank\nNo CV Result\nnan\n")
    with pytest.raises(LinnaeaError, match="has no labels"):
        read_taxa(tmp_path / "labels.txt", make_naming())
