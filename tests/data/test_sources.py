"""Every source in its own files and columns: each input once, as a record or with a reason, whatever mess it is in."""

import csv
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linnaea.cli import main
from linnaea.data.build import BuildConfig, build
from linnaea.data.config import KINDS, read_config
from linnaea.data.engine import LocalEngine
from linnaea.data.sources import Record, Rejected, Source, read_location
from linnaea.data.sources.bioscan import BioscanSource
from linnaea.data.sources.eol import EolSource
from linnaea.data.sources.fathomnet import FathomNetSource
from linnaea.data.sources.huggingface import HuggingFaceSource
from linnaea.data.sources.inat21 import Inat21Source
from linnaea.data.sources.occurrences import DarwinCoreSource
from linnaea.data.sources.published import PublishedSource
from linnaea.errors import LinnaeaError, UsageError

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
PICA = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica")


def jpeg(shade: int = 90) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.full((24, 30, 3), shade, np.uint8), colorspace="RGB"))


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(path: Path, rows: list[dict[str, Any]], separator: str = ",") -> Path:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return write(path, stream.getvalue())


def split(source: Source) -> tuple[dict[str, Record], dict[str, str]]:
    """Records by id, and the reasons of the others."""
    items = list(source.records())
    ids = [item.record_id for item in items]
    assert len(set(ids)) == len(ids), "every input once"
    records = {item.record_id: item for item in items if isinstance(item, Record)}
    return records, {item.record_id: item.reason for item in items if isinstance(item, Rejected)}


# iNat21


def make_inat21(folder: Path) -> Inat21Source:
    name = "train/00001_Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_hudsonia"
    for number in range(3):
        write(folder / f"{name}/{number}.jpg", jpeg(number))
    images = [
        {
            "id": n,
            "file_name": f"{name}/{n}.jpg",
            "license": n % 2,
            "rights_holder": "Ann",
            "date": "2019-05-01",
            "latitude": 45.5,
            "longitude": None,
        }
        for n in range(3)
    ]
    images.append({"id": 9, "file_name": "val/x/9.jpg", "license": 7, "rights_holder": None})
    category = {
        "id": 5,
        "name": "Pica hudsonia",
        "common_name": "Black-billed Magpie",
        "specific_epithet": "hudsonia",
        **dict(zip(RANKS, PICA, strict=True)),
    }
    content = {
        "images": images,
        "annotations": [{"id": n, "image_id": n, "category_id": 5} for n in range(3)],
        "categories": [category],
        "licenses": [{"id": 0, "name": "CC-BY-NC", "url": "u"}],
    }
    return Inat21Source(annotations=write(folder / "train.json", json.dumps(content)), root=folder)


def test_inat21(tmp_path: Path) -> None:
    records, rejects = split(make_inat21(tmp_path))
    assert len(records) == 3
    first = records[next(iter(records))]
    assert first.taxon.lineage == (*PICA, "hudsonia")
    assert first.taxon.common_name == "Black-billed Magpie"
    assert first.split == "train"
    assert first.facts["license_name"] == "CC-BY-NC"
    assert first.facts["license_link"] == "u", "the address of a licence is not that of the photograph"
    assert "url" not in first.facts
    assert first.facts["latitude"] == "45.5"
    assert first.facts["label"] == "Pica hudsonia"
    assert rejects == {"val/x/9.jpg": "has no category in the annotations"}
    write(tmp_path / "bad.json", "[]")
    with pytest.raises(LinnaeaError, match="it should be annotations of iNat21"):
        list(Inat21Source(annotations=tmp_path / "bad.json", root=tmp_path).records())


# EOL


def make_eol(folder: Path) -> EolSource:
    columns = (
        "EOL content ID",
        "EOL page ID",
        "Medium Source URL",
        "EOL Full-Size Copy URL",
        "License Name",
        "Copyright Owner",
    )
    rows = [
        (1, 100, "s", "https://x/1.jpg", "cc-by-nc-3.0", "Ann"),
        (2, 100, "s", "https://x/2.jpg", "cc-by-3.0", "Bob"),
        (3, 999, "s", "u", "cc-by-3.0", "B"),
        (4, "", "s", "u", "cc-by-3.0", "B"),
        (5, 101, "s", "u", "pd", "C"),
        (1, 101, "s", "https://x/1.jpg", "cc-by-nc-3.0", "Ann"),
    ]
    manifest = table(folder / "media_manifest.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    ranks = ("kingdom", "phylum", "class", "order", "family", "genus")
    taxa = [
        {
            "taxonID": f"T{n}",
            "parentNameUsageID": f"T{n - 1}" if n else "",
            "scientificName": f"{name} Author",
            "canonicalName": name,
            "taxonRank": rank,
            "eolID": 50 + n,
            "Landmark": "",
        }
        for n, (rank, name) in enumerate(zip(ranks, PICA, strict=True))
    ]
    taxa.append(
        {
            "taxonID": "T9",
            "parentNameUsageID": "T5",
            "scientificName": "Pica hudsonia (Sabine)",
            "canonicalName": "Pica hudsonia",
            "taxonRank": "species",
            "eolID": 100,
            "Landmark": "",
        }
    )
    taxa.append(
        {
            "taxonID": "T10",
            "parentNameUsageID": "T5",
            "scientificName": "Pica",
            "canonicalName": "",
            "taxonRank": "genus",
            "eolID": 101,
            "Landmark": "",
        }
    )
    names = [
        ("100", "Elster", "deu", "preferred"),
        ("100", "Magpie", "eng", ""),
        ("100", "Black-billed Magpie", "eng", "preferred"),
    ]
    keys = ("page_id", "vernacular_string", "language_code", "is_preferred_by_eol")
    for content, page in ((1, 100), (2, 100)):
        write(folder / f"images/{content % 2}/{content}_{page}_eol-full-size-copy.jpg", jpeg(content))
    write(folder / "images/notes.jpg", "not of EOL")
    return EolSource(
        manifest=manifest,
        taxa=table(folder / "taxon.tab", taxa, "\t"),
        vernaculars=table(folder / "vernacularnames.csv", [dict(zip(keys, row, strict=True)) for row in names]),
        images=folder / "images",
    )


def test_eol(tmp_path: Path) -> None:
    source = make_eol(tmp_path)
    records, rejects = split(source)
    assert records["1_100"].taxon.lineage == (*PICA, "hudsonia")
    assert records["1_100"].taxon.common_name == "Black-billed Magpie", "preferred English first"
    assert records["1_100"].facts["copyright_owner"] == "Ann"
    assert records["1_100"].facts["license_name"] == "cc-by-nc-3.0"
    assert records["1_101"].taxon.lineage == (*PICA, ""), "a picture may be of several pages"
    assert rejects == {
        "3_999": "page 999 is not in the hierarchy",
        "4_": "has no page id",
        "5_101": "has no picture on disk",
    }
    assert read_location(records["2_100"].location) == jpeg(2)
    downloaded = pl.DataFrame({"EOL content ID": ["1", "5"], "path": ["files/a.jpg", "files/b.jpg"]})
    downloaded.write_parquet(tmp_path / "images.parquet")
    by_download = EolSource(manifest=source.manifest, taxa=source.taxa, images=tmp_path / "images.parquet")
    records, rejects = split(by_download)
    assert records["5_101"].location == str(tmp_path / "files/b.jpg")
    assert rejects["2_100"] == "has no picture on disk"


# BIOSCAN


def bioscan_row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "processid": f"P{number}",
        "sampleid": f"S{number // 2}",
        "uri": "BOLD:AAA",
        "name": "Culex",
        "phylum": "Arthropoda",
        "class": "Insecta",
        "order": "Diptera",
        "family": "Culicidae",
        "subfamily": "not_classified",
        "genus": "not_classified",
        "species": "not_classified",
        **more,
    }


def make_bioscan_1m(folder: Path, ending: str = "tsv") -> BioscanSource:
    rows = [bioscan_row(n, image_file=f"{n}.jpg", chunk_number=n % 2 + 1) for n in range(4)]
    rows[2] |= {"genus": "Culex", "species": "Culex sp. 3BZ"}
    rows[3] |= {"order": "not_classified", "family": "not_classified", "class": "", "phylum": "", "processid": ""}
    for n in range(3):
        write(folder / f"cropped_256/part{n % 2 + 1}/{n}.jpg", jpeg(n))
    path = folder / f"metadata.{ending}"
    if ending == "tsv":
        table(path, rows, "\t")
    else:
        write(path, json.dumps(rows))
    return BioscanSource(metadata=path, images=folder / "cropped_256")


@pytest.mark.parametrize("ending", ["tsv", "jsonld"])
def test_bioscan_1m(tmp_path: Path, ending: str) -> None:
    records, rejects = split(make_bioscan_1m(tmp_path, ending))
    assert records["P0"].taxon.lineage == ("Animalia", "Arthropoda", "Insecta", "Diptera", "Culicidae", "", "")
    assert records["P0"].group == records["P1"].group == "S0", "photographs of a specimen stay together"
    assert records["P2"].taxon.species == "sp. 3BZ"
    assert read_location(records["P1"].location) == jpeg(1)
    assert rejects == {"": "has no process id"}


def make_bioscan_5m(folder: Path) -> BioscanSource:
    rows = []
    for number, part in enumerate(("pretrain", "train", "val", "test_unseen")):
        process = f"P{number}"
        letters = {"pretrain": 2, "train": 1}.get(part, 0)
        chunk = hashlib.md5(process.encode()).hexdigest()[:letters]
        write(folder / "images" / part / chunk / f"{process}.jpg", jpeg(number))
        row = bioscan_row(number, dna_bin="BOLD:X", split=part, **{"coord-lat": "9.5"})
        rows.append({"taxon": row.pop("name"), **row})
    return BioscanSource(metadata=table(folder / "meta.csv", rows), images=folder / "images", use_splits=True)


def test_bioscan_5m(tmp_path: Path) -> None:
    records, rejects = split(make_bioscan_5m(tmp_path))
    assert not rejects
    assert [records[f"P{n}"].split for n in range(4)] == ["train", "train", "val", "unseen"]
    for number in range(4):
        assert read_location(records[f"P{number}"].location) == jpeg(number)
    assert records["P0"].facts["latitude"] == "9.5"
    assert records["P0"].facts["dna_bin"] == "BOLD:X"


# Darwin Core

META = """<archive xmlns="http://rs.tdwg.org/dwc/text/">
<core encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"
 rowType="http://rs.tdwg.org/dwc/terms/Occurrence"><files><location>occurrence.txt</location></files><id index="0"/>
{core}</core>
<extension encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"
 rowType="http://rs.gbif.org/terms/1.0/Multimedia"><files><location>multimedia.txt</location></files><coreid index="0"/>
{media}</extension></archive>"""


def make_gbif(folder: Path) -> DarwinCoreSource:
    core = ("gbifID", "scientificName", *RANKS, "specificEpithet", "decimalLatitude", "eventDate", "species")
    media = ("gbifID", "type", "format", "identifier", "title", "creator", "license", "rightsHolder")

    def fields(names: tuple[str, ...]) -> str:
        return "".join(
            f'<field index="{n}" term="http://rs.tdwg.org/dwc/terms/{name}"/>' for n, name in enumerate(names)
        )

    write(folder / "dwca/meta.xml", META.format(core=fields(core), media=fields(media)))
    occurrences = [
        ("1", "Pica hudsonia (Sabine, 1823)", *PICA, "hudsonia", "45.5", "2020-01-02", "Pica hudsonia"),
        ("2", "Pica Brisson, 1760", *PICA, "", "", "", ""),
        ("3", "Nothing known", *[""] * 6, "", "", "", ""),
    ]
    pictures = [
        (
            "1",
            "StillImage",
            "image/jpeg",
            "https://x/1",
            "t",
            'An "n',
            "http://creativecommons.org/licenses/by/4.0/",
            "A",
        ),
        ("1", "StillImage", "image/jpeg", "https://x/2", "", "", "", ""),
        ("2", "", "image/jpeg", "https://x/3", "", "", "", ""),
        ("2", "Sound", "audio/mp3", "https://x/4", "", "", "", ""),
        ("9", "StillImage", "", "https://x/5", "", "", "", ""),
        ("1", "StillImage", "", "", "", "", "", ""),
        ("1", "StillImage", "", "https://x/6", "", "", "", ""),
    ]
    write(folder / "dwca/occurrence.txt", "\n".join("\t".join(row) for row in (core, *occurrences)) + "\n")
    write(folder / "dwca/multimedia.txt", "\n".join("\t".join(row) for row in (media, *pictures)) + "\n")
    for n in (1, 2, 3):
        write(folder / f"download/files/{n}.jpg", jpeg(n))
    there = pl.DataFrame(
        {"identifier": [f"https://x/{n}" for n in (1, 2, 3)], "path": [f"files/{n}.jpg" for n in (1, 2, 3)]}
    )
    there.write_parquet(folder / "download/images.parquet")
    return DarwinCoreSource(archive=folder / "dwca", images=folder / "download/images.parquet")


def test_hybrids_and_doubt_of_occurrences_are_their_genus(tmp_path: Path) -> None:
    core = ("occurrenceID", "scientificName", "kingdom", "genus", "specificEpithet", "identificationQualifier")
    rows = [
        ("o1", "Anas platyrhynchos × acuta", "Animalia", "Anas", "platyrhynchos", ""),
        ("o2", "Salix × fragilis", "Plantae", "Salix", "×", ""),
        ("o3", "Quercus robur L.", "Plantae", "Quercus", "robur", "aff. robur"),
        ("o4", "Pica pica (Linnaeus, 1758)", "Animalia", "Pica", "pica", ""),
        ("o5", "Pica pica (Linnaeus, 1758)", "Animalia", "Pica", "pica", "cf."),
    ]
    media = ("occurrenceID", "type", "identifier")
    pictures = [(row[0], "StillImage", f"https://x/{row[0]}") for row in rows]
    terms = [
        "".join(f'<field index="{n}" term="http://rs.tdwg.org/dwc/terms/{name}"/>' for n, name in enumerate(names))
        for names in (core, media)
    ]
    write(tmp_path / "meta.xml", META.format(core=terms[0], media=terms[1]))
    write(tmp_path / "occurrence.txt", "\n".join("\t".join(row) for row in (core, *rows)) + "\n")
    write(tmp_path / "multimedia.txt", "\n".join("\t".join(row) for row in (media, *pictures)) + "\n")
    images = pl.DataFrame({"identifier": [row[2] for row in pictures], "path": [f"{row[0]}.jpg" for row in rows]})
    images.write_parquet(tmp_path / "images.parquet")
    records, _ = split(DarwinCoreSource(archive=tmp_path, images=tmp_path / "images.parquet"))
    names = {key.split("/")[0]: record.taxon.scientific_name for key, record in records.items()}
    assert names == {"o1": "Anas", "o2": "Salix fragilis", "o3": "Quercus", "o4": "Pica pica", "o5": "Pica"}
    assert records["o3/2"].facts["label"] == "aff. Quercus robur L."


def test_gbif(tmp_path: Path) -> None:
    source = make_gbif(tmp_path)
    records, rejects = split(source)
    assert source.name == "gbif"
    assert records["1/0"].taxon.lineage == (*PICA, "hudsonia")
    assert records["1/0"].group == records["1/1"].group == "1"
    assert records["1/0"].facts["license_name"].endswith("by/4.0/")
    assert records["1/0"].facts["creator"] == 'An "n', "a stray quote is a letter"
    assert records["1/0"].facts["event_date"] == "2020-01-02"
    assert records["2/2"].taxon.lineage == (*PICA, "")
    assert read_location(records["2/2"].location) == jpeg(3)
    assert rejects == {
        "2/3": "not a picture (Sound)",
        "9/4": "its occurrence is not in the archive",
        "1/5": "has no URL",
        "1/6": "was not downloaded",
    }


def test_an_archive_of_something_else_is_one_line(tmp_path: Path) -> None:
    source = make_gbif(tmp_path)
    meta = tmp_path / "dwca/meta.xml"
    text = meta.read_text()
    for bad, message in (
        (text.replace("terms/Occurrence", "terms/Taxon"), "the core is Taxon"),
        ("<x", "not a description"),
        (text.replace("multimedia.txt", "gone.txt"), "it names is missing"),
        (text.replace("1.0/Multimedia", "1.0/Other"), "has no multimedia extension"),
    ):
        meta.write_text(bad)
        with pytest.raises(LinnaeaError, match=message):
            list(DarwinCoreSource(archive=source.archive, images=source.images).records())
    with pytest.raises(UsageError, match="unpack the archive"):
        list(DarwinCoreSource(archive=tmp_path / "x.zip", images=source.images).records())


# Published TreeOfLife


def make_published(folder: Path) -> PublishedSource:
    (folder / "tars").mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(folder / f"tars/shard-{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(3):
                key = f"id{3 * shard + number}"
                for ending, data in ((".jpg", jpeg(number)), (".sci.txt", b"x")):
                    info = tarfile.TarInfo(f"{key}{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    rows = [
        {
            "split": "train_small" if n else "val",
            "treeoflife_id": f"id{n}",
            "eol_content_id": n // 2 if n < 2 else "",
            "eol_page_id": "",
            **dict(zip(RANKS, PICA, strict=True)),
            "species": "hudsonia",
            "common": "magpie",
        }
        for n in range(5)
    ]
    rows.append({**rows[0], "treeoflife_id": "gone"})
    return PublishedSource(catalog=table(folder / "catalog.csv", rows), tars=folder / "tars")


def test_published(tmp_path: Path) -> None:
    source = make_published(tmp_path)
    records, rejects = split(source)
    assert sorted(records) == [f"id{n}" for n in range(5)]
    assert records["id0"].split == "val"
    assert records["id3"].split == "train"
    assert records["id0"].group == records["id1"].group == "0"
    assert read_location(records["id4"].location) == jpeg(1)
    assert records["id0"].taxon.common_name == "magpie"
    assert rejects == {"gone": "no picture of this id in the tars", "id5": "is not in the catalog"}
    path = tmp_path / "tars/shard-1.tar"
    path.write_bytes(path.read_bytes()[:700])
    _, rejects = split(PublishedSource(catalog=source.catalog, tars=source.tars))
    assert rejects["shard-1.tar"].startswith("tar: ")
    assert rejects["id4"] == "no picture of this id in the tars"
    with pytest.raises(UsageError, match="has no tars"):
        PublishedSource(catalog=source.catalog, tars=tmp_path / "nowhere").describe()


# Hugging Face


def make_files(folder: Path, form: str) -> HuggingFaceSource:
    rows = [
        {"file_name": f"{n}.jpg", "label": name} for n, name in enumerate(("Pica hudsonia", "Abies alba", "unknown"))
    ]
    rows.append({"file_name": "", "label": "Pica pica"})
    for n in range(3):
        write(folder / f"train/{n}.jpg", jpeg(n))
    if form == "csv":
        table(folder / "train/metadata.csv", rows)
    elif form == "jsonl":
        write(folder / "train/metadata.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    else:
        pl.DataFrame(rows).write_parquet(folder / "train/metadata.parquet")
    return HuggingFaceSource(folder=folder)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_image_folders_of_the_hub(tmp_path: Path, form: str) -> None:
    records, rejects = split(make_files(tmp_path / "birds", form))
    assert records["train/0.jpg"].taxon.scientific_name == "Pica hudsonia"
    assert records["train/0.jpg"].split == "train"
    assert records["train/0.jpg"].facts["label"] == "Pica hudsonia"
    assert read_location(records["train/1.jpg"].location) == jpeg(1)
    assert rejects == {"train/2.jpg": "no name at any rank", "train/": "has no picture"}


def make_parquet(folder: Path) -> HuggingFaceSource:
    pictures = [{"bytes": jpeg(n), "path": None} for n in range(3)] + [{"bytes": None, "path": "gone.jpg"}, None]
    columns = {
        "image": pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array([0, 1, 0, 1, 1]),
    }
    info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["Pica hudsonia", "Abies alba"]}}}}
    schema = pa.schema(
        [(name, column.type) for name, column in columns.items()], metadata={"huggingface": json.dumps(info)}
    )
    folder.mkdir(parents=True)
    pq.write_table(pa.table(list(columns.values()), schema=schema), folder / "train-00000.parquet", row_group_size=2)
    return HuggingFaceSource(folder=folder)


def test_pictures_inside_parquet(tmp_path: Path) -> None:
    source = make_parquet(tmp_path / "hub")
    records, rejects = split(source)
    assert [record.taxon.genus for record in records.values()] == ["Pica", "Abies", "Pica"]
    for number, record in enumerate(records.values()):
        assert read_location(record.location) == jpeg(number)
    assert set(rejects.values()) == {"has no picture"}
    assert len(rejects) == 2
    again, _ = split(HuggingFaceSource(folder=source.folder))
    assert {r.location for r in again.values()} == {r.location for r in records.values()}, "unpacked once"
    with pytest.raises(UsageError, match="no column 'picture'; it has image, label"):
        list(HuggingFaceSource(folder=source.folder, image_column="picture").records())


# All of them


def make_fathomnet(folder: Path) -> FathomNetSource:
    boxes = [
        {"uuid": f"b{n}", "concept": concept, "x": 2 * n, "y": 3, "width": 8, "height": 6, "rejected": n == 2}
        for n, concept in enumerate(("Nanomia bijuga", "Sebastes", "Sebastes", ""))
    ]
    image = {"uuid": "aa", "url": "https://example.org/frame.jpg", "boundingBoxes": boxes}
    write(folder / "images/aa.jpg", jpeg(60))
    return FathomNetSource(annotations=write(folder / "images.json", json.dumps([image])), images=folder / "images")


MAKERS: dict[str, Callable[[Path], Any]] = {
    "fathomnet": make_fathomnet,
    "inat21": make_inat21,
    "eol": make_eol,
    "bioscan-1m": make_bioscan_1m,
    "bioscan-5m": make_bioscan_5m,
    "gbif": make_gbif,
    "treeoflife": make_published,
    "files": lambda folder: make_files(folder, "csv"),
    "parquet": make_parquet,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_identifies_an_input_changes_with_it(kind: str, tmp_path: Path) -> None:
    source = MAKERS[kind](tmp_path / kind)
    before = source.describe()
    assert before == MAKERS[kind](tmp_path / f"other{kind}").describe().__class__(before)
    path = next(
        path
        for path in sorted((tmp_path / kind).rglob("*"))
        if path.suffix in (".json", ".csv", ".tsv", ".tab", ".parquet", ".txt")
    )
    path.write_bytes(path.read_bytes() + b"\n")
    fresh = type(source)(**{name: getattr(source, name) for name in source.__dataclass_fields__})
    assert fresh.describe() != before


def corruptions(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6))
def test_records_in_are_images_out_and_rejects_in_any_mess(
    kind: str, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Random damage to random files: the build accounts for every input, or says in one line why it cannot begin."""
    folder = tmp_path_factory.mktemp("mess")
    source = MAKERS[kind](folder / "in")
    dice = random.Random(seed)
    files = list(corruptions(folder / "in"))
    for path in dice.sample(files, min(2, len(files))):
        data = path.read_bytes()
        at = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0:
                path.write_bytes(data[:at])
            case 1:
                path.write_bytes(data[:at] + dice.randbytes(5) + data[at:])
            case 2:
                path.unlink()
            case _:
                path.write_bytes(data.replace(b"\n", b"\n\n", 1))
    try:
        summary = build([source], folder / "out", BuildConfig(), LocalEngine(1))
    except LinnaeaError as error:
        assert "\n" not in str(error)
        return
    assert summary.n_in == summary.n_out + summary.n_rejected
    rejects = pl.read_parquet(folder / "out/rejects.parquet")
    assert rejects.height == summary.n_rejected
    assert (rejects["reason"] != "").all()


def config_of(folder: Path) -> Path:
    for kind, make in MAKERS.items():
        make(folder / kind)
    text = """
[[sources]]
kind = "inat21"
annotations = "inat21/train.json"
root = "inat21"

[[sources]]
kind = "eol"
manifest = "eol/media_manifest.csv"
taxa = "eol/taxon.tab"
vernaculars = "eol/vernacularnames.csv"
images = "eol/images"

[[sources]]
kind = "bioscan"
metadata = "bioscan-1m/metadata.tsv"
images = "bioscan-1m/cropped_256"

[[sources]]
kind = "darwin-core"
archive = "gbif/dwca"
images = "gbif/download/images.parquet"

[[sources]]
kind = "treeoflife"
catalog = "treeoflife/catalog.csv"
tars = "treeoflife/tars"

[[sources]]
kind = "huggingface"
folder = "parquet"

[[sources]]
kind = "folder"
root = "inat21/train"

[build]
short_side = 64

[build.splits]
val = 0.0
test = 0.25
unseen_rank = "genus"
"""
    return write(folder / "build.toml", text)


def test_one_file_builds_them_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["data", "build", "--config", str(config_of(tmp_path)), "--output", str(out), "--workers", "1"]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "36 records in = 23 images out + 13 rejected"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["options"]["short_side"] == 64
    assert manifest["options"]["splits"]["test"] == 0.25
    by_source = pl.read_parquet(out / "index.parquet")["source"].value_counts()
    assert set(by_source["source"]) == {"inat21", "eol", "bioscan", "gbif", "treeoflife", "parquet", "train"}
    assert main(["data", "check", str(out)]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('kind = "eol"', 'kind = "eoll"'), "source 2: kind 'eoll' is not one of .*; did you mean 'eol'"),
        (('manifest = "eol', 'manifesto = "eol'), "source 2 (eol) has no 'manifesto'; did you mean 'manifest'"),
        (('taxa = "eol/taxon.tab"', ""), "source 2 (eol): needs taxa"),
        (("short_side = 64", 'short_side = "64"'), "[build]: .*must be int, not '64'"),
        (("val = 0.0", "vall = 0.0"), "[build].splits has no 'vall'; did you mean 'val'"),
        (('"genus"', '"tribe"'), "'tribe' is not a rank"),
        (("val = 0.0", "val = 2.0"), "shares of splits"),
        (("[build]", "[built]"), "the file has no 'built'; did you mean 'build'"),
        (("[build]", "[build"), "cannot be read as TOML"),
    ],
)
def test_mistakes_in_a_configuration_are_one_line(
    tmp_path: Path, change: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config_of(tmp_path)
    path.write_text(path.read_text().replace(*change))
    assert main(["data", "build", "--config", str(path), "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(path) in line
    for part in message.split(".*"):
        assert part in line


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = config_of(tmp_path)
    path.write_text(path.read_text().replace("eol/taxon.tab", "eol/gone.tab"))
    config = read_config(path)
    with pytest.raises(LinnaeaError, match=r"gone\.tab: no such file"):
        build(config.sources, tmp_path / "out", config.build, LocalEngine(1))


EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "sources").glob("*.toml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_worked_examples_are_valid(example: Path, tmp_path: Path) -> None:
    text = example.read_text()
    for word in ("photos", "birds", "rare-species"):
        (tmp_path / word).mkdir()
    config = read_config(write(tmp_path / example.name, text))
    assert len(config.sources) == text.count("[[sources]]")


def _lay_out_eol(folder: Path) -> None:
    source = make_eol(folder)
    (folder / "dh21").mkdir()
    (folder / "taxon.tab").rename(folder / "dh21/taxon.tab")
    files = {path.name.partition("_")[0]: str(path.resolve()) for path in source.images.rglob("*_eol*")}
    write(folder / "downloads/images.parquet", b"")
    table = pl.DataFrame({"EOL content ID": list(files), "path": list(files.values())})
    table.write_parquet(folder / "downloads/images.parquet")


def _lay_out_bioscan(folder: Path) -> None:
    make_bioscan_1m(folder)
    (folder / "metadata.tsv").rename(folder / "BIOSCAN_Insect_Dataset_metadata.tsv")


def _lay_out_gbif(folder: Path) -> None:
    make_gbif(folder)
    (folder / "download").rename(folder / "downloads")


@pytest.mark.parametrize(
    ("example", "lay_out"),
    [
        ("inat21", make_inat21),
        ("eol", _lay_out_eol),
        ("bioscan", _lay_out_bioscan),
        ("darwin-core", _lay_out_gbif),
    ],
)
def test_a_worked_example_reads_its_published_layout(
    example: str, lay_out: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Those of TreeOfLife and FathomNet are in test_published.py."""
    lay_out(tmp_path)
    text = next(path for path in EXAMPLES if path.stem == example).read_text()
    (source,) = read_config(write(tmp_path / "example.toml", text)).sources
    records, _ = split(source)
    assert records
    assert all(read_location(record.location).startswith(b"\xff\xd8") for record in records.values())


def test_every_kind_has_a_worked_example() -> None:
    assert set(KINDS) <= {example.stem for example in EXAMPLES}
