"""One table of dirty rows names the same taxa through every reader of tables that name taxa."""

import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from table_shapes import to_csv, write_parquet

from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.bioscan import BioscanSource
from linnaea.data.sources.huggingface import HuggingFaceSource
from linnaea.data.sources.inat21 import Inat21Source
from linnaea.data.sources.occurrences import DarwinCoreSource
from linnaea.data.sources.published import PublishedSource
from linnaea.data.sources.table import TableSource
from linnaea.errors import LinnaeaError
from linnaea.evaluate.tasks.layouts import read_catalogue
from linnaea.evaluate.tasks.photographs import class_names
from linnaea.predict.label_lists import read_taxa
from linnaea.taxonomy.row import NO_NAME
from linnaea.taxonomy.taxon import Taxon

ROWS: dict[tuple[str, str, str, str], tuple[str, str, str, str] | str] = {
    ("Corvidae", "Pica", "pica", "Magpie"): ("Corvidae", "Pica", "pica", "Magpie"),
    ("Corvidae", "Pica", "Pica hudsonia (Sabine, 1823)", ""): ("Corvidae", "Pica", "hudsonia", ""),
    ("Culicidae", "Culex", "pipiens Linnaeus", "None"): ("Culicidae", "Culex", "pipiens", ""),
    ("Culicidae", "Culex", "Culex sp. 3BZ", "N/A"): ("Culicidae", "Culex", "sp. 3BZ", ""),
    ("Corvidae", "NaN", "not_classified", ""): ("Corvidae", "", "", ""),
    ("Motacillidae ", "Motacilla", "alba  lugens", ""): ("Motacillidae", "Motacilla", "alba", ""),
    ("-", "unknown", "NA", ""): NO_NAME,
    ("", "None", "unidentified", "null"): NO_NAME,
}
"""Family, genus, species and common name as tables write them, and what is meant."""
HEADER = ("family", "genus", "species", "common_name")
INAT21 = ("family", "genus", "specific_epithet", "common_name")

Read = list[tuple[str, str, str, str] | str]


def _names(items: Iterable[Record | Rejected | Taxon | str]) -> Read:
    found: Read = []
    for item in items:
        taxon = item.taxon if isinstance(item, Record) else item
        if isinstance(taxon, Taxon):
            found.append((*taxon.lineage[4:], taxon.common_name))
        else:
            found.append(taxon if isinstance(taxon, str) else taxon.reason)
    return found


def _table(folder: Path, header: Iterable[str], columns: Callable[[int], list[str]], name: str) -> Path:
    rows = [[*header, *HEADER], *([*columns(number), *row] for number, row in enumerate(ROWS))]
    (folder / name).write_text(to_csv(rows))
    return folder / name


def table(folder: Path) -> Read:
    path = _table(folder, ["filepath"], lambda number: [f"{number}.jpg"], "t.csv")
    return _names(TableSource(table=path, root=folder, path_column="filepath").records())


def hugging_face(folder: Path) -> Read:
    _table(folder, ["file_name"], lambda number: [f"{number}.jpg"], "metadata.csv")
    return _names(HuggingFaceSource(folder=folder).records())


def published(folder: Path) -> Read:
    path = _table(folder, ["treeoflife_id"], lambda number: [f"id{number}"], "catalog.csv")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(len(ROWS)):
            tar.addfile(tarfile.TarInfo(f"id{number}.jpg"))
    return _names(PublishedSource(catalog=path, tars=folder).records())


def inat21(folder: Path) -> Read:
    numbers = range(len(ROWS))
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in numbers],
        "annotations": [{"image_id": number, "category_id": number} for number in numbers],
        "categories": [
            {
                "id": number,
                "name": "x",
                "family": family,
                "genus": genus,
                "specific_epithet": epithet,
                "common_name": name,
            }
            for number, (family, genus, epithet, name) in enumerate(ROWS)
        ],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return _names(Inat21Source(annotations=folder / "train.json", root=folder).records())


def darwin_core(folder: Path) -> Read:
    """An occurrence and a picture per row; Darwin Core calls the columns otherwise."""
    terms = ("family", "genus", "species", "vernacularName", "scientificName")
    field = '<field index="{}" term="http://x/{}"/>'
    shape = 'fieldsTerminatedBy="," fieldsEnclosedBy="&quot;" ignoreHeaderLines="1"'
    core = "".join(field.format(index + 1, term) for index, term in enumerate(terms))
    (folder / "meta.xml").write_text(
        f'<archive><core rowType="http://x/Occurrence" {shape}><files><location>o.csv</location></files>'
        f'<id index="0"/>{core}</core><extension rowType="http://x/Multimedia" {shape}><files>'
        f'<location>m.csv</location></files><coreid index="0"/>{field.format(1, "identifier")}</extension></archive>'
    )
    numbers = [str(number) for number in range(len(ROWS))]
    rows = [[number, *row, "unknown"] for number, row in zip(numbers, ROWS, strict=True)]
    (folder / "o.csv").write_text(to_csv([["id", *terms], *rows]))
    (folder / "m.csv").write_text(to_csv([["id", "identifier"], *([number, f"u{number}"] for number in numbers)]))
    write_parquet(folder / "images.parquet", [["identifier", "path"], *([f"u{n}", f"{n}.jpg"] for n in numbers)])
    return _names(DarwinCoreSource(archive=folder, images=folder / "images.parquet").records())


def labels(folder: Path) -> Read:
    """A file of labels refuses what it cannot read: a file per row."""
    found: Read = []
    for row in ROWS:
        (folder / "t.csv").write_text(to_csv([HEADER, row]))
        try:
            found.append(read_taxa(folder / "t.csv").select("family", "genus", "species", "common_name").row(0))
        except LinnaeaError as error:
            found.append(str(error).rpartition("row 2: ")[2])
    return found


def evaluation(folder: Path) -> Read:
    _table(
        folder, ["filepath", "class", "cls"], lambda number: [f"{number}.jpg", f"label {number}", ""], "metadata.csv"
    )
    return _names(taxon or NO_NAME for taxon in class_names(read_catalogue(folder)).values())


@pytest.mark.parametrize("read", [table, hugging_face, published, inat21, darwin_core, labels, evaluation])
def test_every_reader_names_the_same_taxa(read: Callable[[Path], Read], tmp_path: Path) -> None:
    assert read(tmp_path) == list(ROWS.values())


def test_bioscan_knows_the_kingdom_and_no_common_names(tmp_path: Path) -> None:
    path = _table(
        tmp_path, ["processid", "image_file", "order", "chunk_number"], lambda n: [f"p{n}", "x", "", "1"], "t.csv"
    )
    records = list(BioscanSource(metadata=path, images=tmp_path).records())
    expected = [("", "", "", "") if isinstance(names, str) else (*names[:3], "") for names in ROWS.values()]
    assert _names(records) == expected
