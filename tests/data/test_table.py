"""Tables of photographs in the layouts that other programs export."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from linnaea.cli import main
from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.occurrences import ABSENT
from linnaea.data.sources.table import TableSource
from linnaea.taxonomy.row import label_reader

WILDLIFE_INSIGHTS = "image_id,location,is_blank,identified_by,class,order,family,genus,species,common_name,license"
INATURALIST = ("id,observed_on,image_url,license,species_guess,scientific_name,common_name,iconic_taxon_name,taxon_id,"
               "taxon_kingdom_name,taxon_phylum_name,taxon_class_name,taxon_order_name,taxon_family_name,"
               "taxon_subfamily_name,taxon_genus_name,taxon_species_name")  # fmt: skip
OBSERVATION_ORG = "id,date,species name,scientific name,species group,photo"


def read(folder: Path, header: str, rows: list[str], path_column: str) -> list[tuple[str, ...] | str]:
    """Return the seven ranks and the common name of each row, or the reason why it has none."""
    (folder / "images.csv").write_text("\n".join([header, *rows]) + "\n")
    assert {len(row) for row in csv.reader((folder / "images.csv").open())} == {header.count(",") + 1}
    items = list(TableSource(table=folder / "images.csv", root=folder, path_column=path_column).records())
    return [
        (*item.taxon.lineage, item.taxon.common_name) if isinstance(item, Record) else item.reason for item in items
    ]


def test_wildlife_insights(tmp_path: Path) -> None:
    nothing = ",".join(["No CV Result"] * 6)
    rows = [
        "a,gs://b/a.jpg,0,Ann,Mammalia,Carnivora,Felidae,Lynx,rufus,Bobcat,CC-BY",
        "b,gs://b/b.jpg,1,Computer vision,,,,,,Blank,CC-BY",
        f"c,gs://b/c.jpg,0,Computer vision,{nothing},CC-BY",
        "d,gs://b/d.jpg,0,Ann,Mammalia,Rodentia,,,,Rodent,CC-BY",
        "e,gs://b/e.jpg,0,Computer vision,,,,,,Animal,CC-BY",
    ]
    assert read(tmp_path, WILDLIFE_INSIGHTS, rows, "location") == [
        ("", "", "Mammalia", "Carnivora", "Felidae", "Lynx", "rufus", "Bobcat"),
        "no name at any rank",
        "no name at any rank",
        ("", "", "Mammalia", "Rodentia", "", "", "", "Rodent"),
        "no name at any rank",
    ]


def test_inaturalist(tmp_path: Path) -> None:
    lineage = "Animalia,Chordata,Aves,Passeriformes,Corvidae"
    rows = [
        f"1,2024-05-01,a.jpg,CC-BY,a magpie,Pica pica,Eurasian Magpie,Aves,7,{lineage},,Pica,Pica pica",
        f"2,2024-05-01,b.jpg,CC-BY,,Corvidae,Crows,Aves,8,{lineage},,,",
        "3,2024-05-01,c.jpg,CC0,,,,,,,,,,,,,",
    ]
    aves = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae")
    assert read(tmp_path, INATURALIST, rows, "image_url") == [
        (*aves, "Pica", "pica", "Eurasian Magpie"),
        (*aves, "", "", "Crows"),
        "no name at any rank",
    ]


def test_rows_of_absences_are_rejected(tmp_path: Path) -> None:
    rows = ["a.jpg,Pica pica,present,1", "b.jpg,Pica pica,absent,", "c.jpg,Pica pica,,0", "d.jpg,Pica pica,,"]
    (tmp_path / "images.csv").write_text("\n".join(["file,scientific_name,occurrenceStatus,individualCount", *rows]))
    items = list(TableSource(table=tmp_path / "images.csv", root=tmp_path, path_column="file").records())
    assert [getattr(item, "reason", "") for item in items] == ["", ABSENT, ABSENT, ""]


def test_backslashes_separate_folders_unless_a_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("file,scientific_name\nbirds\\a.jpg,Pica pica\nb\\c.jpg,Pica pica\n")
    (tmp_path / "b\\c.jpg").touch()
    items = TableSource(table=tmp_path / "images.csv", root=tmp_path, path_column="file").records()
    found = [(item.record_id, Path(item.location).relative_to(tmp_path).parts) for item in items]
    assert found == [("birds\\a.jpg", ("birds", "a.jpg")), ("b\\c.jpg", ("b\\c.jpg",))]


def test_observation_org(tmp_path: Path) -> None:
    rows = ["1,2024-05-01,Eurasian Magpie,Pica pica,Birds,a.jpg", "2,2024-05-01,unknown,,Birds,b.jpg"]
    magpie = ("", "", "", "", "", "Pica", "pica", "Eurasian Magpie")
    assert read(tmp_path, OBSERVATION_ORG, rows, "photo") == [magpie, "no name at any rank"]


@pytest.mark.parametrize("column", ["label", "scientific_name"])
def test_a_column_that_was_chosen_keeps_its_meaning(tmp_path: Path, column: str) -> None:
    (tmp_path / "t.csv").write_text(f"filepath,{column}\na.jpg,Pica pica\nb.jpg,No CV Result\n")
    source = TableSource(table=tmp_path / "t.csv", root=tmp_path, path_column="filepath", label_column=column)
    good, bad = source.records()
    assert isinstance(good, Record)
    assert good.taxon.scientific_name == "Pica pica"
    assert isinstance(bad, Rejected)


def test_labels_over_one_taxon_are_classes_of_their_own_unless_merged(tmp_path: Path) -> None:
    labels = ["Danaus plexippus", "Danaus_plexippus_larva", "Danaus plexippus pupa", "Tomato___healthy"]
    (tmp_path / "t.csv").write_text("\n".join(["filepath,label", *(f"{n}.jpg,{one}" for n, one in enumerate(labels))]))
    source = TableSource(table=tmp_path / "t.csv", root=tmp_path, path_column="filepath", label_column="label")
    taxa = [item.taxon for item in source.records() if isinstance(item, Record)]
    assert [taxon.common_name for taxon in taxa] == [
        "", "Danaus plexippus larva", "Danaus plexippus pupa", "Tomato healthy",
    ]  # fmt: skip
    merged = [item.taxon for item in replace(source, label_to_taxon=label_reader("taxon")).records()]  # type: ignore[union-attr]
    assert len(set(merged)) == 2


def test_a_photograph_of_two_rows_says_if_they_name_it_differently(photographs: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(next(photographs.rglob("*.jpg")), tmp_path / name)
    rows = ("a.jpg,Pica pica", "a.jpg,Corvus corax", "b.jpg,Pica pica", "b.jpg,Pica pica")
    (tmp_path / "images.csv").write_text("\n".join(["file,scientific_name", *rows]) + "\n")
    words = f"--table {tmp_path}/images.csv --root {tmp_path} --path-column file --no-resolve --output {tmp_path}/data"
    assert main(["data", "build", *words.split()]) == 3
    rejects = pl.read_parquet(tmp_path / "data/rejects.parquet")
    twice = "occurs twice (same source and record id)"
    assert dict(rejects.select("record_id", "reason").iter_rows()) == {
        "a.jpg": f"{twice}, first under another name", "b.jpg": twice,
    }  # fmt: skip
