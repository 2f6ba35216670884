"""One small table, in every shape in which people bring tables, gives the same through every door that takes one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from table_shapes import SHAPES, Rows, write_shape

from linnaea.cli import main
from linnaea.data.download.fetch import DownloadConfig
from linnaea.data.download.url_table import download
from linnaea.data.shards import make_taxa_table
from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.table import TableSource
from linnaea.predict.label_lists import read_bins, read_taxa
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import has_weights, make_regions, read_weights
from linnaea.predict.pybioclip import TreeOfLifeClassifier
from linnaea.taxonomy.checklists.source import read_checklist_source
from linnaea.taxonomy.name_tables import read_name_table, read_species_list
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

TEXT = 'a, b; c | d\nof "Zürich"'
"""What readers stumble over: every separator, a newline, quotes, letters beyond ASCII."""

Door = tuple[Rows, Callable[[Path], Any]]


def _never() -> Any:
    raise AssertionError("every name is known")


def _weights(path: Path) -> list[float]:
    taxa = make_taxa_table([Taxon.of(genus="Corvus", species="corax"), Taxon.of(genus="Pica", species="pica")])
    weights, unknown = read_weights(path, LabelBank(taxa, np.zeros((2, 3), np.float32), {}), _never)
    assert not unknown
    assert path.suffix != ".parquet" or has_weights(path)
    return list(weights.tolist())


def _records(path: Path) -> list[Record | Rejected]:
    return list(TableSource(table=path, root=Path("root"), path_column="file", group_column="site").records())


def _split_records(path: Path) -> list[Record | Rejected]:
    photographs = path.parent / "photographs.csv"
    photographs.write_text("file,label\n1.jpg,Pica pica\n2.jpg,Corvus corax\n3.jpg,Alca torda\n")
    source = TableSource(
        table=photographs, root=Path("root"), path_column="file", label_column="label", split_table=path
    )
    return list(source.records())


def _names(path: Path) -> tuple[list[str], Any, list[tuple[str, ...]]]:
    table = read_name_table(path, "name")
    assert table.given is not None
    return table.names.to_list(), table.given.fill_null(""), table.rows.fill_null("").rows()


def _checklist(path: Path) -> list[dict[str, Any]]:
    return list(read_checklist_source(path).records.to_dicts())


def _migrated(path: Path) -> list[tuple[Any, ...]]:
    checklist, output = path.parent / "birds.csv", path.parent / "out.parquet"
    checklist.write_text("order,family,genus,species\nPasseriformes,Corvidae,Pica,pica\n")
    words = [
        "taxonomy",
        "migrate",
        str(path),
        "--from",
        str(checklist),
        "--to",
        str(checklist),
        "--output",
        str(output),
    ]
    assert main(words) == 0
    return pl.read_parquet(output).fill_null("").rows()


def _rejects(path: Path) -> list[tuple[Any, ...]]:
    download(path, path.parent / "out", DownloadConfig(url_column="url"))
    table = pl.read_parquet(path.parent / "out" / "rejects.parquet")
    return table.select("url", pl.nth(1), "reason").fill_null("").rows()


def _regions(path: Path) -> tuple[int, int, list[tuple[Any, ...]]]:
    pytest.importorskip("h3")
    counts = make_regions(path, path.parent / "regions.parquet")
    return *counts, pl.read_parquet(path.parent / "regions.parquet").rows()


LINEAGE = ["family", "genus", "species", "common_name", "note"]
DOORS: dict[str, Door] = {
    "predict --labels, labels build --taxa": (
        [LINEAGE, ["Corvidae", "Pica", "pica", "Magpie", TEXT], ["Corvidae", "Corvus", "Corvus corax L.", "NA", ""]],
        lambda path: read_taxa(path).rows(),
    ),
    "predict --labels, by name": (
        [["label", "note"], ["Pica pica", TEXT], ["Männchen", ""]],
        lambda path: read_taxa(path).rows(),
    ),
    "predict --species-list": (
        [["genus", "species", "note"], ["Pica", "pica", TEXT], ["Corvus", "Corvus corax", ""], ["Alca", "", "Zürich"]],
        lambda path: read_species_list(path).to_list(),
    ),
    "predict --prior": (
        [["genus", "species", "weight", "note"], ["Pica", "pica", "0.5", TEXT], ["Corvus", "corax", "2", ""]],
        _weights,
    ),
    "predict --bins": (
        [["label", "bin", "note"], ["Männchen", "A", TEXT], ["b, c", "B\nC", ""]],
        lambda path: read_bins(path).rows(),
    ),
    "data build --table": (
        [
            ["file", "genus", "species", "common_name", "site", "license"],
            ["1.jpg", "Pica", "pica", "Elster, die", TEXT, "CC0"],
            ["2.jpg", "unknown", "NA", "", "", ""],
            ["Zürich/3.jpg", "Culex", "pipiens Linnaeus", "None", "s", ""],
        ],
        _records,
    ),
    "data build --split-table": (
        [["file", "split"], ["1.jpg", "train"], ["2.jpg", "val"], ["Zürich, 3.jpg", "test"]],
        _split_records,
    ),
    "taxonomy resolve": (
        [["name", "family", "note"], ["Pica pica", "Corvidae", TEXT], ["Männchen", "", ""]],
        _names,
    ),
    "taxonomy migrate": (
        [["genus", "species", "remark"], ["Pica", "pica", TEXT], ["Alca", "torda", ""]],
        _migrated,
    ),
    "data download": (
        [["url", "note"], ["no-address", TEXT], ["file:///etc/passwd", ""]],
        _rejects,
    ),
    "labels regions": (
        [
            ["decimalLatitude", "decimalLongitude", "month", "species", "note"],
            ["47.3", "8.5", "5", "Pica pica", TEXT],
            ["", "", "", "Pica pica", ""],
        ],
        _regions,
    ),
    "a checklist from a table": (
        [["scientific_name", "family", "common_name", "note"], ["Pica pica", "Corvidae", "Elster, die", TEXT],
         ["Corvus corax", "Corvidae", "Kolkrabe", "ü"]],
        _checklist,
    ),
    "pybioclip's filter": (
        [["genus", "note"], ["Pica", TEXT]],
        lambda path: TreeOfLifeClassifier.create_taxa_filter_from_csv(_Filter(), path),  # type: ignore[arg-type]
    ),
}  # fmt: skip


class _Filter:
    """What the filter asks of a classifier."""

    def create_taxa_filter(self, rank: Rank, names: list[str]) -> list[bool]:
        return [rank == Rank.GENUS, *(name == "Pica" for name in names)]


@pytest.mark.parametrize("door", DOORS)
def test_every_shape_gives_the_same(door: str, tmp_path: Path) -> None:
    rows, enter = DOORS[door]
    expected: Any = None
    for shape in SHAPES:
        folder = tmp_path / shape
        folder.mkdir()
        answer = enter(write_shape(shape, folder, rows))
        if expected is None:
            expected = answer
            assert answer, "the first shape says something"
        for mine, first in zip(_parts(answer), _parts(expected), strict=True):
            same = mine.equals(first) if isinstance(mine, pl.DataFrame) else mine == first
            assert same, f"{shape}: {mine} is not {first}"


def _parts(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def test_what_the_first_shape_says(tmp_path: Path) -> None:
    """The doors agree; and what they agree on is right."""
    folder = {door: tmp_path / str(number) for number, door in enumerate(DOORS)}
    said = {}
    for door, (rows, enter) in DOORS.items():
        folder[door].mkdir()
        said[door] = enter(write_shape("comma", folder[door], rows))
    assert said["predict --species-list"] == ["Pica pica", "Corvus corax", "Alca"]
    assert said["predict --prior"] == [2.0, 0.5]
    assert [row[6:] for row in said["predict --labels, labels build --taxa"]] == [
        ("Corvus", "corax", "Corvus corax", ""), ("Pica", "pica", "Pica pica", "Magpie"),
    ]  # fmt: skip
    first, second, third = said["data build --table"]
    assert (first.group, first.taxon.common_name, first.facts["license"]) == (TEXT, "Elster, die", "CC0")
    assert second.reason == "no name at any rank"
    assert third.taxon == Taxon.of(genus="Culex", species="pipiens")
    assert [item.split for item in said["data build --split-table"][:2]] == ["train", "val"]
    assert said["data download"][0][:2] == ("no-address", TEXT)
    assert said["labels regions"][:2] == (1, 1)
