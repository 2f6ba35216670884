"""Clades and lists: which taxa may answer, whatever their names were when the list was written."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.labels import LabelBank
from linnaea.predict.restrict import find_names, keep_clades, keep_listed, keep_rows
from linnaea.taxonomy.name_tables import read_species_list
from linnaea.taxonomy.taxon import Taxon

MOTH = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera")
TAXA = [
    Taxon((*MOTH, "Sphingidae", "Deilephila", "elpenor"), common_name="Elephant Hawk-moth"),
    Taxon((*MOTH, "Sphingidae", "Deilephila", "porcellus"), common_name="Small Elephant Hawk-moth"),
    Taxon((*MOTH, "Erebidae", "Arctia", "caja"), common_name="Garden Tiger"),
    Taxon(("Animalia", "Arthropoda", "Insecta", "Coleoptera", "Lucanidae", "Lucanus", "cervus")),
    Taxon(("Animalia", "Chordata", "Aves", "Suliformes", "Sulidae", "Morus", "bassanus"), common_name="Gannet"),
    Taxon(("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Moraceae", "Morus", "alba"), common_name="Mulberry"),
]


@pytest.fixture
def bank() -> LabelBank:
    return LabelBank(make_taxa_table(TAXA), np.eye(len(TAXA), dtype=np.float32), {})


def names(bank: LabelBank) -> list[str]:
    return sorted(bank.taxa["scientific_name"])


class OneSynonym:
    """A taxonomy that has moved the garden tiger from Euprepia to Arctia, and Lucanus from Lucanus to Platycerus."""

    ACCEPTED: ClassVar = {
        "Euprepia caja": ("synonym", "Arctia caja"),
        "Lucanus cervus": ("synonym", "Platycerus cervus"),
        "Platycerus cervus": ("accepted", "Platycerus cervus"),
        "Vanessa atalanta": ("accepted", "Vanessa atalanta"),
    }

    def resolve(self, names: "list[str] | pl.Series") -> pl.DataFrame:
        rows = [self.ACCEPTED.get(name, ("unresolved", "")) for name in names]
        return pl.DataFrame(rows, schema=["status", "scientific_name"], orient="row")


def never() -> OneSynonym:
    raise AssertionError("the bank's own names need no checklist")


def test_within_and_exclude_combine(bank: LabelBank) -> None:
    kept = keep_clades(bank, ["class:Insecta", "genus:Morus"], ["family:Sphingidae", "kingdom:Plantae"])
    assert names(kept) == ["Arctia caja", "Lucanus cervus", "Morus bassanus"]
    with pytest.raises(UsageError, match="leaves no taxon"):
        keep_clades(bank, ["kingdom:Plantae"], ["genus:Morus"])


@given(st.sets(st.integers(0, len(TAXA) - 1), min_size=1))
@settings(max_examples=30, deadline=None)
def test_rows_and_vectors_stay_together(rows: set[int]) -> None:
    bank = LabelBank(make_taxa_table(TAXA), np.eye(len(TAXA), dtype=np.float32), {})
    kept = keep_rows(bank, np.array(sorted(rows)))
    assert kept.vectors.argmax(axis=1).tolist() == sorted(rows)
    assert kept.taxa["scientific_name"].to_list() == [bank.taxa["scientific_name"][row] for row in sorted(rows)]
    assert kept.taxa["taxon_id"].to_list() == list(range(len(rows)))


def test_a_list_may_hold_names_of_any_rank_and_language(bank: LabelBank) -> None:
    found = find_names(bank, ["arctia_caja", "Deilephila", "elephant hawk moth", "gannet", " "], never)
    assert not found.unknown
    kept = keep_rows(bank, found.rows)
    assert names(kept) == ["Arctia caja", "Deilephila elpenor", "Deilephila porcellus", "Morus bassanus"]


def test_synonyms_meet_on_either_side(bank: LabelBank) -> None:
    """An old name in the list, and an old name in the bank."""
    kept, unknown = keep_listed(bank, ["Euprepia caja", "Platycerus cervus"], OneSynonym)
    assert names(kept) == ["Arctia caja", "Lucanus cervus"]
    assert not unknown


def test_unknown_names_are_listed_with_reason_and_suggestion(bank: LabelBank) -> None:
    kept, unknown = keep_listed(bank, ["Arctia caja", "Arctia cajja", "Vanessa atalanta", "zzz"], OneSynonym)
    assert names(kept) == ["Arctia caja"]
    said = {one.name: str(one) for one in unknown}
    assert "did you mean Arctia caja" in said["Arctia cajja"]
    assert "is Vanessa atalanta, which is not among the labels" in said["Vanessa atalanta"]
    assert "unresolved" in said["zzz"]
    with pytest.raises(LinnaeaError, match="3 names of the list"):
        keep_listed(bank, ["Arctia caja", "Arctia cajja", "Vanessa atalanta", "zzz"], OneSynonym, strict=True)
    with pytest.raises(LinnaeaError, match="no name of the list"):
        keep_listed(bank, ["zzz"], OneSynonym)


def test_rows_of_a_list_without_a_name_are_left_out(tmp_path: Path) -> None:
    pl.DataFrame({"species": ["Pica pica", None, "Parus major"]}).write_parquet(tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_text('name,species\n"Pica,pica\nx,y\n')  # a quote that is never closed
    assert read_species_list(tmp_path / "list.parquet").to_list() == ["Pica pica", "Parus major"]
    assert None not in read_species_list(tmp_path / "list.csv").to_list()


def test_a_list_without_a_known_header_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "park.csv").write_text("Art;Deutsch\nPanthera leo;Löwe\n", encoding="utf-8")
    with pytest.raises(UsageError, match="write scientific_name above the one that has them: Art, Deutsch"):
        read_species_list(tmp_path / "park.csv")
    (tmp_path / "park.csv").write_text("Deutsch;Wissenschaftlicher Name\nLöwe;Panthera leo\n", encoding="utf-8")
    assert read_species_list(tmp_path / "park.csv").to_list() == ["Panthera leo"]
