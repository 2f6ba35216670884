"""The columns of what is written are a contract: scripts read them by name. Nowhere else are they written out."""

from pathlib import Path

import polars as pl
import pytest

from linnaea.cli import DONE, SOME_FAILED, main

TABLES = {
    "taxa": "taxon_id kingdom phylum class order family genus species scientific_name common_name",
    "index": "key split shard offset size taxon_id source group width height sha256 pdq",
    "rejects": "source record_id location reason",
    "licences": "key source licence_id attribution",
}
"""Of a data set; ``species`` is the epithet."""

PREDICTIONS = """
    file_name kingdom phylum class order family genus species_epithet species common_name score
    rank status reason prior bbox detection_confidence detection_category event
"""
"""pybioclip's columns first; ``species`` is the binomial."""

RESOLVED = """
    status matched_name rank kingdom phylum class order family genus species scientific_name common_name checklist note
"""
"""After the columns of the input; ``species`` is the epithet."""


@pytest.fixture(scope="module")
def magpie(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one photograph and one file that cannot be read."""
    folder = tmp_path_factory.mktemp("columns")
    (folder / "photographs" / "Pica pica").mkdir(parents=True)
    (folder / "photographs" / "Pica pica" / "a.jpg").write_bytes(first_of(photographs).read_bytes())
    (folder / "photographs" / "Pica pica" / "b.jpg").write_bytes(b"not a photograph")
    words = ["data", "build", "--folder", str(folder / "photographs"), "--output", str(folder / "data")]
    assert main([*words, "--workers", "1"]) == SOME_FAILED
    return folder / "data"


def first_of(photographs: Path) -> Path:
    return min(photographs.rglob("*.jpg"))


@pytest.mark.parametrize("table", list(TABLES))
def test_tables_of_a_data_set(table: str, magpie: Path) -> None:
    written = pl.read_parquet(magpie / f"{table}.parquet")
    assert written.columns == TABLES[table].split()
    assert written.height == 1


def test_predictions(photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    assert main(["predict", str(first_of(photographs)), "--top-k", "1", "--output", str(output)]) == DONE
    written = pl.read_csv(output)
    assert written.columns == PREDICTIONS.split()
    genus, epithet, species = written.select("genus", "species_epithet", "species").row(0)
    assert species == f"{genus} {epithet}"


def test_resolved_names(tmp_path: Path) -> None:
    names, checklist, output = (tmp_path / name for name in ("names.csv", "birds.csv", "resolved.csv"))
    names.write_text("id,name,rank\n1,Pica pica,x\n")
    checklist.write_text(
        "kingdom,phylum,class,order,family,genus,species\n"
        "Animalia,Chordata,Aves,Passeriformes,Corvidae,Pica,Pica pica\n"
    )
    words = ["--column", "name", "--checklist", str(checklist), "--output", str(output)]
    assert main(["taxonomy", "resolve", str(names), *words]) == DONE
    written = pl.read_csv(output)
    ours = [f"resolved_{column}" if column == "rank" else column for column in RESOLVED.split()]
    assert written.columns == ["id", "name", "rank", *ours]
    assert written["species"].to_list() == ["pica"]
