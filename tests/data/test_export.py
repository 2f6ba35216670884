"""An export holds the pictures byte for byte and the names letter for letter, however often it was interrupted."""

import errno
import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import simplejpeg
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linnaea.cli import main
from linnaea.data import export as export_module
from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.export import ExportConfig, Format, export, make_card
from linnaea.data.export_parts import CATALOG_COLUMNS, folder_name
from linnaea.data.samples import make_texts
from linnaea.data.shards import DataSet
from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.table import TableSource
from linnaea.data.statistics import measure
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.names import taxon_from_label
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import tidy_name
from linnaea.taxonomy.taxon import Taxon

FORMATS: tuple[Format, ...] = ("parquet", "catalog", "webdataset", "imagefolder")


def run(dataset_dir: Path, output: Path, form: Format, n_workers: int = 1, **options: Any) -> int:
    config = ExportConfig(form=form, **options)
    return export(DataSet.open(dataset_dir), output, config, LocalEngine(n_workers)).n_images


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_parquet_shows_images_and_holds_every_column(dataset_dir: Path, tmp_path: Path) -> None:
    run(dataset_dir, tmp_path / "out", "parquet", part_bytes=20_000)
    dataset = DataSet.open(dataset_dir)
    files = sorted((tmp_path / "out" / "data").glob("train-*.parquet"))
    assert len(files) > 1
    assert files[0].name == f"train-00000-of-{len(files):05d}.parquet"
    features = json.loads(pq.read_schema(files[0]).metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert set(features) == set(pq.read_schema(files[0]).names) >= {*RANK_LABELS, "licence_id", "attribution"}
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    train = dataset.split("train")
    assert [row["key"] for row in rows] == train.index["key"].to_list()
    for place, row in enumerate(rows):
        assert row["image"]["bytes"] == train.read(place)
        assert tuple(row[label] for label in RANK_LABELS) == train.taxon(train.index["taxon_id"][place]).lineage
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "data/train-*.parquet" in card


def test_row_groups_are_small(dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linnaea.data.export_parts.MOST_ROWS", 7)
    run(dataset_dir, tmp_path, "parquet", split="train")
    file = pq.ParquetFile(next((tmp_path / "data").iterdir()))
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert max(sizes) == 7
    assert sum(sizes) == len(DataSet.open(dataset_dir).split("train"))


@dataclass(frozen=True)
class Given:
    """A source of given records."""

    items: tuple[Record, ...]
    name: str = "given"

    def describe(self) -> dict[str, str]:
        return {"kind": "given", "sha256": hashlib.sha256(repr(self.items).encode()).hexdigest()}

    def records(self) -> Iterator[Record | Rejected]:
        yield from self.items


def picture(path: Path, seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=80, colorspace="RGB"))
    return str(path)


def test_the_catalog_has_the_columns_and_ids_of_treeoflife_10m(tmp_path: Path) -> None:
    pica = Taxon.of(genus="Pica", species="hudsonia", common_name="black-billed magpie")
    family = Taxon.of(kingdom="Animalia", family="Corvidae")
    cases = [
        ("eol", "29541376_45511218_eol-full-size-copy.jpg", pica, {}),
        ("bioscan-1m", "4530231.jpg", family, {"bioscan_part": "7"}),
        ("inat21", "03111_Animalia_C_A_P_Corvidae_Pica_hudsonia/a.jpg", pica,
         {"label": "03111_Animalia_C_A_P_Corvidae_Pica_hudsonia"}),
        ("other", "x,\"y\".jpg", pica, {"treeoflife_id": "0000-uuid"}),
    ]  # fmt: skip
    records = tuple(
        Record(source=source, record_id=name, location=picture(tmp_path / f"{i}.jpg", i), taxon=taxon, facts=facts)
        for i, (source, name, taxon, facts) in enumerate(cases)
    )
    build([Given(records)], tmp_path / "data", BuildConfig(), LocalEngine(1))
    run(tmp_path / "data", tmp_path / "out", "catalog")
    text = (tmp_path / "out" / "catalog.csv").read_text()
    assert text.splitlines()[0] == (
        "split,treeoflife_id,eol_content_id,eol_page_id,bioscan_part,bioscan_filename,inat21_filename,"
        "inat21_cls_name,inat21_cls_num,kingdom,phylum,class,order,family,genus,species,common"
    )
    rows = pl.read_csv(io.StringIO(text), infer_schema=False).fill_null("").to_dicts()
    eol = next(row for row in rows if row["eol_content_id"])
    assert (eol["eol_content_id"], eol["eol_page_id"], eol["common"]) == ("29541376", "45511218", "black-billed magpie")
    bioscan = next(row for row in rows if row["bioscan_part"])
    assert (bioscan["bioscan_part"], bioscan["bioscan_filename"], bioscan["common"]) == ("7", "4530231.jpg", "Corvidae")
    inat = next(row for row in rows if row["inat21_filename"])
    assert (inat["inat21_filename"], inat["inat21_cls_num"]) == ("a.jpg", "3111")
    assert inat["inat21_cls_name"] == "03111_Animalia_C_A_P_Corvidae_Pica_hudsonia"
    assert [row["treeoflife_id"] for row in rows].count("0000-uuid") == 1


def test_webdataset_has_the_texts_and_the_stored_bytes(dataset_dir: Path, tmp_path: Path) -> None:
    run(dataset_dir, tmp_path, "webdataset")
    dataset = DataSet.open(dataset_dir)
    for shard in dataset.index["shard"].unique():
        before, after = (_members(folder / shard) for folder in (dataset_dir, tmp_path))
        assert {name: data for name, data in after.items() if name in before} == before
    shards = sorted(str(path) for path in tmp_path.rglob("*.tar"))
    samples = {sample["__key__"]: sample for sample in webdataset.WebDataset(shards, shardshuffle=False)}
    assert set(samples) == set(dataset.index["key"])
    for key, taxon_id in dataset.index.select("key", "taxon_id").iter_rows():
        texts = {name: samples[key][name].decode() for name in make_texts(dataset.taxon(taxon_id))}
        assert texts == make_texts(dataset.taxon(taxon_id))


@pytest.mark.parametrize("form", ["parquet", "imagefolder", "webdataset"])
def test_the_card_names_the_files_of_every_split(dataset_dir: Path, tmp_path: Path, form: Format) -> None:
    """Hugging Face's ``datasets`` leaves out folders other than train, validation and test that no card names."""
    run(dataset_dir, tmp_path, form)
    stated = re.findall(r'  - split: "(.+)"\n    path: "(.+)"', (tmp_path / "README.md").read_text())
    files = {word: list(tmp_path.glob(path)) for word, path in stated}
    names = {word.replace("validation", "val") for word in files}
    assert names == {split.replace("-", "_") for split in DataSet.open(dataset_dir).index["split"].unique()}
    assert "unseen" in names
    assert all(files.values())


def test_the_card_names_no_two_splits_alike(dataset_dir: Path) -> None:
    statistics = measure(DataSet.open(dataset_dir))
    by_split = pl.DataFrame({"split": ["train", "val", "validation"], "images": [1, 1, 1], "taxa": [1, 1, 1]})
    card = make_card("x", replace(statistics, by_split=by_split), "imagefolder")
    assert re.findall('split: "(.+)"', card) == ["train", "val", "validation"]


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_one_split_and_one_taxon_alone(dataset_dir: Path, tmp_path: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    family = dataset.taxa["family"][0]
    rows = dataset.index.join(dataset.taxa, on="taxon_id").filter(pl.col("family") == family)
    for within in (family, f"family:{family.lower()}"):
        assert run(dataset_dir, tmp_path / within, "catalog", within=within) == rows.height
    train = rows.filter(pl.col("split") == "train").height
    assert run(dataset_dir, tmp_path / "both", "imagefolder", within=family, split="train") == train
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"train", "README.md", "export.json"}
    species = dataset.taxa["scientific_name"][0]
    assert 0 < run(dataset_dir, tmp_path / "species", "catalog", within=f"species:{species}") < rows.height
    for wrong in ({"within": "Nothing"}, {"within": "tribe:X"}, {"split": "none"}, {"within": " "}):
        with pytest.raises(LinnaeaError, match=r"no taxon|not a rank|no split"):
            run(dataset_dir, tmp_path / "wrong", "catalog", **wrong)


class StoppedError(Exception):
    pass


@dataclass(frozen=True)
class Stopping:
    """An engine that stops after some parts, in the middle of the next."""

    after: int

    def map(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        for number, task in enumerate(reversed(list(tasks))):
            if number == self.after:
                path = task.output / task.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.1.partial").write_bytes(b"half")
                raise StoppedError
            yield function(task)


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_export_goes_on_to_the_same_bytes(
    form: Format, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "CATALOG_ROWS", 10)
    config = ExportConfig(form=form, part_bytes=20_000)
    dataset = DataSet.open(dataset_dir)
    export(dataset, tmp_path / "whole", config, LocalEngine(1))
    for after in (0, 2):
        with pytest.raises(StoppedError):
            export(dataset, tmp_path / "cut", config, Stopping(after))
    seen: list[int] = []
    export(dataset, tmp_path / "cut", config, LocalEngine(1), lambda done, total: seen.append(done))
    assert seen[0] > 0  # what was finished is not done again
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
    assert export(dataset, tmp_path / "cut", config, LocalEngine(1)).already_exported


@pytest.mark.long
@pytest.mark.parametrize("form", FORMATS)
def test_a_killed_export_goes_on_to_the_same_bytes(form: Format, tmp_path: Path) -> None:
    """kill -9 at random moments, in the parent with its workers, until one run comes through."""
    source = tmp_path / "photographs"
    for number in range(1500):
        picture(source / f"Pica s{number % 40}" / f"{number}.jpg", number)
    build([FolderSource(root=source)], tmp_path / "data", BuildConfig(shard_size=50), LocalEngine(1))
    run(tmp_path / "data", tmp_path / "whole", form, part_bytes=500_000_000)
    words = [sys.executable, "-m", "linnaea", "data", "export", str(tmp_path / "data"), "--format", form,
             "--output", str(tmp_path / "cut"), "--workers", "2"]  # fmt: skip
    moments = random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moments.uniform(1.0, 8.0))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")


def test_workers_change_no_byte(dataset_dir: Path, tmp_path: Path) -> None:
    run(dataset_dir, tmp_path / "one", "parquet", part_bytes=20_000)
    run(dataset_dir, tmp_path / "two", "parquet", n_workers=2, part_bytes=20_000)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


def test_a_full_disk_and_a_wrong_folder_are_one_line(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "export", str(dataset_dir), "--format", "parquet", "--workers", "1", "--output"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert main([*words, str(tmp_path / "mine")]) == 1
    assert main([*words, str(dataset_dir)]) == 1

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_module, "write_parquet_part", full)
    assert main([*words, str(tmp_path / "full")]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert "not empty, and not an unfinished export" in lines[0]
    assert "this is the data set itself" in lines[1]
    assert "disk is full" in lines[-1]
    monkeypatch.undo()
    assert main([*words, str(tmp_path / "full")]) == 0
    assert main([*words, str(tmp_path / "full"), "--split", "train"]) == 1
    assert "choose another --output" in capsys.readouterr().err


@given(st.lists(st.text(max_size=90), min_size=7, max_size=7).filter(any))
def test_any_names_make_a_folder_that_a_file_system_holds(names: list[str]) -> None:
    row = {**dict(zip(RANK_LABELS, names, strict=True)), "common_name": ""}
    folder = folder_name(3, row)
    assert len(folder.encode(errors="surrogatepass")) <= 200
    assert folder.count("_") == 7
    assert not set('/\\:*?"<>|\0') & set(folder)


def test_class_folders_are_read_as_inat21s() -> None:
    taxon = Taxon.of(kingdom="Animalia", phylum="Chordata", genus="Pica", species="hudsonia")
    row = {**dict(zip(RANK_LABELS, taxon.lineage, strict=True)), "common_name": ""}
    assert folder_name(12, row) == "00012_Animalia_Chordata____Pica_hudsonia"
    assert taxon_from_label(folder_name(12, row)) == taxon


NAMES = (
    st.text("abcdé×-_/'\" .,", max_size=6)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: text == tidy_name(text))
)
EPITHETS = st.from_regex("|[abcdé]([abcdé-]{0,3}[abcdé])?", fullmatch=True)
"""What a data set can hold as an epithet: readers drop authors, hybrid signs and words for no name."""


@st.composite
def taxa(draw: st.DrawFn) -> Taxon:
    names = draw(st.tuples(*[NAMES] * 6, EPITHETS))
    try:
        return Taxon(names, common_name=draw(NAMES))
    except ValueError:
        return Taxon.of(kingdom="Animalia", genus="Pica", species=draw(st.sampled_from(["pica", "hudsonia"])))


def contents(folder: Path, *, common_names: bool = True) -> list[tuple[Any, ...]]:
    dataset = DataSet.open(folder)
    rows = dataset.index.select("sha256", "split", "taxon_id").iter_rows()
    found = [(sha256, split, dataset.taxon(number)) for sha256, split, number in rows]
    return sorted(
        (sha256, split, taxon.lineage, taxon.common_name if common_names else "") for sha256, split, taxon in found
    )


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=st.lists(taxa(), min_size=1, max_size=8))
def test_a_build_from_an_export_has_the_same_pictures_and_taxa(
    drawn: list[Taxon], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("again")
    records = tuple(
        Record(source="s", record_id=f"{i}.jpg", location=picture(root / "in" / f"{i}.jpg", i), taxon=taxon,
               split=("train", "val")[i % 2])
        for i, taxon in enumerate(drawn)
    )  # fmt: skip
    build([Given(records)], root / "data", BuildConfig(shard_size=3), LocalEngine(1))
    for form in FORMATS:
        run(root / "data", root / form, form)
    for form, again in {
        "parquet": _from_parquet(root / "parquet", root / "files"),
        "imagefolder": _from_folders(root / "imagefolder"),
        "webdataset": _from_tars(root / "webdataset", root / "catalog" / "catalog.csv"),
    }.items():
        build(again, root / f"{form}-again", BuildConfig(), LocalEngine(1))
        common_names = form != "webdataset"  # the catalog always fills the common name
        expected = contents(root / "data", common_names=common_names)
        assert contents(root / f"{form}-again", common_names=common_names) == expected


def test_columns_of_image_folders_have_one_type_in_every_split(tmp_path: Path) -> None:
    """As pandas guesses it, with which ``datasets`` reads ``metadata.csv``."""
    import pandas as pd

    above = ("Animalia", "Chordata", "Aves", "Passeriformes", "Paridae")
    records = tuple(
        Record(source="s", record_id=name, location=picture(tmp_path / "in" / f"{number}.jpg", number), split=split,
               taxon=Taxon((*above, *genus)), group=group)
        for number, (name, split, genus, group) in enumerate([
            ("17", "train", ("", ""), "1"), ("18", "train", ("", ""), ""), ("a-1", "test", ("Parus", "major"), "2"),
            ("19", "test", ("Parus", ""), "3"),
        ])
    )  # fmt: skip
    build([Given(records)], tmp_path / "data", BuildConfig(), LocalEngine(1))
    run(tmp_path / "data", tmp_path / "out", "imagefolder")
    tables = {split: pd.read_csv(tmp_path / "out" / split / "metadata.csv") for split in ("train", "test")}
    assert dict(tables["train"].dtypes) == dict(tables["test"].dtypes)
    assert set(tables["train"]["genus"]) == {"none"}
    assert sorted(tables["train"]["record_id"]) == ["#17", "#18"]
    assert sorted(tables["test"]["record_id"]) == ["#19", "a-1"]
    assert list(tables["test"]["family"]) == ["Paridae"] * 2
    assert contents(tmp_path / "data") == contents(_rebuilt(tmp_path / "out", tmp_path / "again"))


def _rebuilt(exported: Path, again: Path) -> Path:
    build(_from_folders(exported), again, BuildConfig(), LocalEngine(1))
    return again


def _from_parquet(folder: Path, files: Path) -> list[Given]:
    records = []
    for path in sorted((folder / "data").iterdir()):
        for row in pq.read_table(path).to_pylist():
            place = files / row["image"]["path"]
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(row["image"]["bytes"])
            taxon = Taxon.of(row, common_name=row["common_name"])
            split = path.name.partition("-")[0]
            records.append(Record(source="p", record_id=row["key"], location=str(place), taxon=taxon, split=split))
    return [Given(tuple(records))]


def _from_folders(folder: Path) -> list[Given]:
    items: list[Record] = []
    for path in sorted(folder.glob("*/metadata.csv")):
        source = TableSource(table=path, root=path.parent, path_column="file_name")
        read = list(source.records())
        assert all(isinstance(item, Record) for item in read), read
        items += [replace(item, split=path.parent.name) for item in read if isinstance(item, Record)]
    return [Given(tuple(items))]


def _from_tars(folder: Path, catalog: Path) -> list[Given]:
    names = pl.read_csv(catalog, infer_schema=False).fill_null("")
    taxa_by_key = {row["treeoflife_id"]: row for row in names.iter_rows(named=True)}
    assert names.columns == list(CATALOG_COLUMNS)
    records = []
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in (member for member in tar if member.name.endswith(".jpg")):
                row = taxa_by_key[member.name.removesuffix(".jpg")]
                common = "" if any(row[label] for label in RANK_LABELS) else row["common"]
                location = f"{path}::{member.offset_data}::{member.size}"
                records.append(Record(source="w", record_id=member.name, location=location, split=row["split"],
                                      taxon=Taxon.of(row, common_name=common)))  # fmt: skip
    return [Given(tuple(records))]


def test_class_folders_alone_give_the_same_taxa(dataset_dir: Path, tmp_path: Path) -> None:
    run(dataset_dir, tmp_path / "folders", "imagefolder", split="train")
    build([FolderSource(root=tmp_path / "folders")], tmp_path / "again", BuildConfig(), LocalEngine(1))
    before, again = DataSet.open(dataset_dir).split("train"), DataSet.open(tmp_path / "again")
    assert sorted(again.index["sha256"]) == sorted(before.index["sha256"])
    assert {taxon.lineage for taxon in again.taxa_list} == {
        before.taxon(number).lineage for number in before.index["taxon_id"].unique()
    }
