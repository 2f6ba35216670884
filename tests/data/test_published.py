"""TreeOfLife and FathomNet in the files of their real layouts: every row once, with its picture, rights and flags.

The columns are those of the data sets' cards and of their exporters; the pictures and rows are ours.
"""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import simplejpeg

from linnaea.cli import main
from linnaea.data.build import BuildConfig, build
from linnaea.data.config import read_config
from linnaea.data.engine import LocalEngine
from linnaea.data.images import ImageError, decode
from linnaea.data.licences import licence_of
from linnaea.data.sources import Record, Rejected, Source, read_location
from linnaea.data.sources.fathomnet import FathomNetSource
from linnaea.data.sources.published import PublishedSource
from linnaea.errors import LinnaeaError, UsageError

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
PICA = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "hudsonia")
POA = ("Plantae", "Tracheophyta", "Liliopsida", "Poales", "Poaceae", "Poa", "angustifolia")
TEN_M = ("split", "treeoflife_id", "eol_content_id", "eol_page_id", "bioscan_part", "bioscan_filename",
         "inat21_filename", "inat21_cls_name", "inat21_cls_num", *RANKS, "common")  # fmt: skip
TWO_HUNDRED_M = ("uuid", "source_url", *RANKS, "scientific_name", "common", "data_source", "publisher",
                 "basis_of_record", "img_type", "source_id", "shard_filename", "shard_file_path",
                 "base_dataset_file_path")  # fmt: skip


def picture(shade: int = 90, size: int = 24) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.full((size, size, 3), shade, np.uint8), colorspace="RGB"))


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def packed(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for shade, name in enumerate(names):
            info, data = tarfile.TarInfo(name), picture(10 * shade)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def row(columns: tuple[str, ...], lineage: tuple[str, ...] = PICA, **cells: str) -> dict[str, str]:
    return dict.fromkeys(columns, "") | dict(zip(RANKS, lineage, strict=True)) | cells


def read(source: Source) -> tuple[dict[str, Record], dict[str, str]]:
    items = list(source.records())
    ids = [item.record_id for item in items]
    assert len(set(ids)) == len(ids), "every picture once"
    records = {item.record_id: item for item in items if isinstance(item, Record)}
    return records, {item.record_id: item.reason for item in items if isinstance(item, Rejected)}


# TreeOfLife-10M


@pytest.fixture
def ten_m(tmp_path: Path) -> Path:
    """The folders of the release, and the user's copies of iNat21 and BIOSCAN-1M beside it."""
    eol = tmp_path / "TreeOfLife-10M/dataset/EOL"
    write(eol / "image_set_01.tar.gz", gzip.compress(packed(["eol-a.jpg", "eol-b.jpg"])))
    write(eol / "image_set_02.tar", packed(["image_set_02/eol-c.jpg", "image_set_02/stray.jpg"]))
    rows = [
        row(TEN_M, split="train", treeoflife_id="eol-a", eol_content_id="11", eol_page_id="7", common="magpie"),
        row(TEN_M, split="train_small", treeoflife_id="eol-a", eol_content_id="11", eol_page_id="7", common="magpie"),
        row(TEN_M, split="val", treeoflife_id="eol-b", eol_content_id="12", eol_page_id="7", common="magpie"),
        row(TEN_M, split="train", treeoflife_id="eol-c", eol_content_id="13", eol_page_id="7", common="magpie"),
        row(TEN_M, split="train", treeoflife_id="inat-a", inat21_filename="x.jpg", inat21_cls_num="42",
            inat21_cls_name="_".join(PICA)),
        row(TEN_M, split="train_small", treeoflife_id="inat-a", inat21_filename="x.jpg", inat21_cls_num="42",
            inat21_cls_name="_".join(PICA)),
        row(TEN_M, split="train", treeoflife_id="bio-a", bioscan_part="3", bioscan_filename="BIOUG1.jpg"),
    ]  # fmt: skip
    metadata = tmp_path / "TreeOfLife-10M/metadata"
    metadata.mkdir()
    pl.DataFrame(rows).write_csv(metadata / "catalog.csv")
    pl.DataFrame(
        {
            "treeoflife_id": ["eol-a", "eol-b", "elsewhere"],
            "eol_content_id": ["11", "12", "99"],
            "eol_page_id": ["7", "7", "7"],
            "md5": ["0", "0", "0"],
            "medium_source_url": ["https://example.org/a", "https://example.org/b", ""],
            "eol_full_size_copy_url": ["https://example.org/a.jpg", "https://example.org/b.jpg", ""],
            "license_name": ["cc-by", "No known copyright restrictions", "cc-by"],
            "copyright_owner": ["Ann", "not provided", ""],
            "license_link": ["http://creativecommons.org/licenses/by/3.0/", None, ""],
            "title": ["not provided", "A magpie", ""],
        }
    ).write_csv(metadata / "licenses.csv")
    folder = "00042_" + "_".join(PICA)
    write(tmp_path / f"inat21/train/{folder}/x.jpg", picture(77))
    annotations = {
        "images": [{"id": 1, "file_name": f"train/{folder}/x.jpg", "license": 2, "rights_holder": "Bo"}],
        "annotations": [{"image_id": 1, "category_id": 5}],
        "categories": [{"id": 5, "name": "Pica hudsonia"}],
        "licenses": [{"id": 2, "name": "Attribution-NonCommercial License",
                      "url": "http://creativecommons.org/licenses/by-nc/4.0/"}],
    }  # fmt: skip
    write(tmp_path / "inat21/train.json", json.dumps(annotations).encode())
    write(tmp_path / "bioscan/cropped_256/part3/BIOUG1.jpg", picture(33))
    return tmp_path


def open_ten_m(folder: Path, **more: Any) -> PublishedSource:
    release = folder / "TreeOfLife-10M"
    given = {"catalog": release / "metadata/catalog.csv", "tars": release / "dataset", "unpacked": folder / "plain",
             "rights": release / "metadata/licenses.csv"}  # fmt: skip
    return PublishedSource(**(given | more))


def test_treeoflife_10m_with_the_users_copies(ten_m: Path) -> None:
    source = open_ten_m(ten_m, inat21=ten_m / "inat21", bioscan=ten_m / "bioscan/cropped_256")
    records, rejects = read(source)
    assert sorted(records) == ["bio-a", "eol-a", "eol-b", "eol-c", "inat-a"]
    assert rejects == {"stray": "is not in the catalog"}
    assert {key: record.split for key, record in records.items()} == {
        "eol-a": "train", "eol-b": "val", "eol-c": "train", "inat-a": "train", "bio-a": "train"
    }  # fmt: skip
    small = {key for key, record in records.items() if record.facts.get("subset") == "train_small"}
    assert small == {"eol-a", "inat-a"}
    assert read_location(records["eol-b"].location) == picture(10), "out of the packed set"
    assert read_location(records["inat-a"].location) == picture(77)
    assert read_location(records["bio-a"].location) == picture(33)


def test_the_rights_of_every_part_of_treeoflife_10m(ten_m: Path) -> None:
    source = open_ten_m(ten_m, inat21=ten_m / "inat21", bioscan=ten_m / "bioscan/cropped_256")
    records, _ = read(source)
    assert {key: licence_of(record.facts) for key, record in records.items()} == {
        "eol-a": "CC-BY-3.0", "eol-b": "no-known-restrictions", "eol-c": "none-stated", "inat-a": "CC-BY-NC-4.0",
        "bio-a": "CC-BY-3.0",
    }  # fmt: skip
    assert records["eol-a"].facts["copyright_owner"] == "Ann"
    assert records["eol-a"].facts["identifier"] == "https://example.org/a.jpg"
    assert records["inat-a"].facts["rights_holder"] == "Bo"


def test_without_the_users_copies_their_rows_are_rejected_with_what_to_give(ten_m: Path) -> None:
    _, rejects = read(open_ten_m(ten_m))
    assert rejects["inat-a"] == "its picture is in inat21 only; give your copy with inat21 = ..."
    assert rejects["bio-a"] == "its picture is in bioscan only; give your copy with bioscan = ..."


def test_train_small_alone(ten_m: Path) -> None:
    source = open_ten_m(ten_m, train_small=True, inat21=ten_m / "inat21")
    records, rejects = read(source)
    assert sorted(records) == ["eol-a", "inat-a"]
    assert records["eol-a"].split == "train"
    assert set(rejects) == {"stray"}
    assert source.describe() != open_ten_m(ten_m, inat21=ten_m / "inat21").describe()
    catalog = ten_m / "whole.csv"
    pl.read_csv(source.catalog, infer_schema=False).filter(pl.col("split") != "train_small").write_csv(catalog)
    with pytest.raises(UsageError, match="no row of the split train_small"):
        list(open_ten_m(ten_m, catalog=catalog, train_small=True).records())


def test_a_packed_image_set_is_unpacked_once(ten_m: Path) -> None:
    list(open_ten_m(ten_m).records())
    (plain,) = (ten_m / "plain").iterdir()
    before = plain.stat().st_mtime_ns
    list(open_ten_m(ten_m).records())
    assert plain.stat().st_mtime_ns == before
    broken = ten_m / "TreeOfLife-10M/dataset/EOL/image_set_03.tar.gz"
    write(broken, (ten_m / "TreeOfLife-10M/dataset/EOL/image_set_01.tar.gz").read_bytes()[:90])
    records, rejects = read(open_ten_m(ten_m))
    assert "broken archive" in rejects["EOL/image_set_03.tar.gz"]
    assert "eol-a" in records


def test_a_catalog_cannot_name_files_outside_of_a_copy(ten_m: Path) -> None:
    catalog = ten_m / "odd.csv"
    cells = {"split": "train", "treeoflife_id": "odd", "inat21_filename": "../../../secret.jpg",
             "inat21_cls_name": "00042_x", "inat21_cls_num": "42"}  # fmt: skip
    pl.DataFrame([row(TEN_M, **cells)]).write_csv(catalog)
    records, rejects = read(open_ten_m(ten_m, catalog=catalog, inat21=ten_m / "inat21"))
    assert not records
    assert rejects["odd"] == "the path of its picture leads outside of inat21"


def test_open_licences_are_found_in_treeoflife_10m(ten_m: Path) -> None:
    """Before the rights were joined, no picture was usable under open licences."""
    config = write(
        ten_m / "open.toml",
        b"""
[[sources]]
kind = "treeoflife"
catalog = "TreeOfLife-10M/metadata/catalog.csv"
tars = "TreeOfLife-10M/dataset"
rights = "TreeOfLife-10M/metadata/licenses.csv"
unpacked = "plain"
inat21 = "inat21"
bioscan = "bioscan/cropped_256"

[build.licences]
allow = "open"
""",
    )
    assert main(["data", "build", "--config", str(config), "--output", str(ten_m / "out"), "--workers", "1"]) == 3
    licences = pl.read_parquet(ten_m / "out/licences.parquet")["licence_id"].to_list()
    assert sorted(licences) == ["CC-BY-3.0", "CC-BY-3.0", "no-known-restrictions"]


# TreeOfLife-200M


@pytest.fixture
def two_hundred_m(tmp_path: Path) -> Path:
    """A catalog of GBIF, EOL and FathomNet, its provenance, a shard of the toolbox, and a download."""
    gbif = {"data_source": "gbif", "publisher": "iNaturalist.org", "source_id": "4076331867"}
    eol = {"data_source": "eol", "img_type": "Unidentified"}
    sea = {"data_source": "fathomnet", "img_type": "Unidentified", "source_url": "https://example.org/sea.png"}
    rows = [
        row(TWO_HUNDRED_M, POA, uuid="g1", scientific_name="Poa angustifolia", img_type="Citizen Science",
            basis_of_record="HUMAN_OBSERVATION", source_url="https://example.org/g1.jpg", **gbif),
        row(TWO_HUNDRED_M, POA, uuid="g2", img_type="Museum Specimen: Plant", basis_of_record="PRESERVED_SPECIMEN",
            source_url="https://example.org/g2.jpg", **gbif),
        row(TWO_HUNDRED_M, uuid="g3", img_type="Camera-trap", basis_of_record="MACHINE_OBSERVATION",
            source_url="https://example.org/g3.jpg", **gbif),
        row(TWO_HUNDRED_M, uuid="e1", source_id="5_100", source_url="https://example.org/e.jpg", **eol),
        row(TWO_HUNDRED_M, uuid="e2", source_id="5_200", source_url="https://example.org/e.jpg", **eol),
        row(TWO_HUNDRED_M, uuid="f1", source_id="box-1", **sea),
        row(TWO_HUNDRED_M, uuid="f2", source_id="box-2", **sea),
        row(TWO_HUNDRED_M, uuid="b1", data_source="bioscan", img_type="Unidentified", source_id="ABCDE123-20"),
        row(TWO_HUNDRED_M, uuid="gone", source_url="https://example.org/gone.jpg", **gbif),
    ]  # fmt: skip
    dataset = tmp_path / "dataset"
    (dataset / "metadata").mkdir(parents=True)
    catalog = pl.DataFrame(rows).with_columns(pl.col(pl.String).replace("", None))
    catalog.write_parquet(dataset / "catalog.parquet")
    known = catalog.filter(pl.col("uuid") != "b1").select("uuid", "source_id", "data_source", "source_url")
    provenance = known.with_columns(
        license_name=pl.lit("cc-by-nc"), copyright_owner=pl.lit("not provided"),
        license_link=pl.lit("http://creativecommons.org/licenses/by-nc/4.0/"), title=pl.lit("not provided"),
        bibliographicCitation=pl.lit("A citation"),
    )  # fmt: skip
    provenance.write_parquet(dataset / "metadata/provenance.parquet")
    (dataset / "metadata/fathom_metadata.csv").write_text("uuid,x,y,width,height\nf1,2,3,8,6\nf2,20,20,40,40\n")
    write(tmp_path / "shards/shard-00000.tar", packed(["g1.jpg", "g1.sci.txt", "g2.jpg", "g3.jpg"]))
    sea_picture = np.zeros((32, 32, 3), np.uint8)
    sea_picture[3:9, 2:10] = 200
    write(tmp_path / "downloads/files/sea.jpg", bytes(simplejpeg.encode_jpeg(sea_picture, quality=100,
                                                                            colorsubsampling="444")))  # fmt: skip
    write(tmp_path / "downloads/files/e.jpg", picture(50))
    fetched = {"https://example.org/sea.png": "files/sea.jpg", "https://example.org/e.jpg": "files/e.jpg"}
    table = pl.DataFrame({"source_url": list(fetched), "path": list(fetched.values())})
    table.write_parquet(tmp_path / "downloads/images.parquet")
    return tmp_path


def open_two_hundred_m(folder: Path, **more: Any) -> PublishedSource:
    given = {"catalog": folder / "dataset/catalog.parquet", "tars": folder / "shards",
             "downloads": folder / "downloads/images.parquet", "name": "treeoflife-200m",
             "rights": folder / "dataset/metadata/provenance.parquet",
             "boxes": folder / "dataset/metadata/fathom_metadata.csv"}  # fmt: skip
    return PublishedSource(**(given | more))


def test_treeoflife_200m_from_shards_and_from_addresses(two_hundred_m: Path) -> None:
    records, rejects = read(open_two_hundred_m(two_hundred_m))
    assert sorted(records) == ["e1", "e2", "f1", "f2", "g1", "g2", "g3"]
    assert rejects == {"gone": "was not downloaded", "b1": "no picture of this specimen; give bioscan = ..."}
    assert read_location(records["g2"].location) == picture(20)
    assert read_location(records["e1"].location) == picture(50)
    assert records["e1"].group == records["e2"].group == "5", "one picture of two pages stays in one split"
    assert records["g1"].group == records["g2"].group == "4076331867", "pictures of one occurrence"
    facts = records["g1"].facts
    assert licence_of(facts) == "CC-BY-NC-4.0"
    assert facts["basis_of_record"] == "HUMAN_OBSERVATION"
    assert facts["url"] == "https://example.org/g1.jpg"
    assert facts["citation"] == "A citation"
    assert records["g1"].taxon.lineage == POA


def test_specimens_of_bioscan_5m_are_found_by_their_process_id(two_hundred_m: Path) -> None:
    copy = two_hundred_m / "bioscan-5m/images/cropped_256"
    write(copy / "pretrain/a1/ABCDE123-20.jpg", picture(66))
    records, _ = read(open_two_hundred_m(two_hundred_m, bioscan=copy))
    assert read_location(records["b1"].location) == picture(66)
    assert licence_of(records["b1"].facts) == "CC-BY-3.0"
    assert licence_of(records["g1"].facts) == "CC-BY-NC-4.0"


def test_the_boxes_of_fathomnet_are_cut_out(two_hundred_m: Path) -> None:
    records, _ = read(open_two_hundred_m(two_hundred_m))
    cut = decode(read_location(records["f1"].location))
    assert cut.shape == (6, 8, 3)
    assert cut.min() > 150, "the bright part and no other"
    assert decode(read_location(records["f2"].location)).shape == (12, 12, 3), "a box is cut at the picture's edge"


def test_what_filters_found_can_be_left_out(two_hundred_m: Path) -> None:
    faces = two_hundred_m / "faces"
    faces.mkdir()
    for rank, (key, found) in enumerate((("g1", True), ("g2", False))):
        table = pl.DataFrame({"uuid": [key], "pred_label": [found], "pred_score": [0.5]})
        table.write_parquet(faces / f"predictions_rank{rank}.parquet")
    (two_hundred_m / "labels.csv").write_text("uuid\ng2\n")
    flags = {"face": faces, "museum-label": two_hundred_m / "labels.csv"}
    records, _ = read(open_two_hundred_m(two_hundred_m, flags=flags))
    assert {key: record.facts.get("flags", "") for key, record in records.items() if key[0] == "g"} == {
        "g1": "face", "g2": "museum-label", "g3": ""
    }  # fmt: skip
    without = ("face", "museum-specimen", "camera trap")
    records, rejects = read(open_two_hundred_m(two_hundred_m, flags=flags, without=without))
    assert sorted(records) == ["e1", "e2", "f1", "f2"]
    assert {key: reason for key, reason in rejects.items() if len(key) == 2 and key[0] == "g"} == {
        "g1": "left out: face", "g2": "left out: museum-specimen", "g3": "left out: camera-trap"
    }  # fmt: skip


def test_flags_are_named_in_a_configuration(two_hundred_m: Path) -> None:
    (two_hundred_m / "faces.csv").write_text("uuid,pred_label\ng1,True\ng2,False\n")
    config = write(
        two_hundred_m / "flags.toml",
        b"""
[[sources]]
kind = "treeoflife"
catalog = "dataset/catalog.parquet"
tars = "shards"
flags = { face = "faces.csv" }
without = ["face", "camera-trap"]
""",
    )
    (source,) = read_config(config).sources
    records, rejects = read(source)
    assert sorted(records) == ["g2"]
    assert (rejects["g1"], rejects["g3"]) == ("left out: face", "left out: camera-trap")
    config.write_text(config.read_text().replace("camera-trap", "camera-tarp"))
    with pytest.raises(UsageError, match="did you mean camera-trap"):
        read_config(config)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"without": ("camra-trap",)}, "neither a flag nor an image type; did you mean camera-trap"),
        ({"tars": None, "downloads": None, "boxes": None}, "give tars, downloads, inat21 or bioscan"),
        ({"downloads": None}, "boxes: needs downloads"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(two_hundred_m: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        open_two_hundred_m(two_hundred_m, **more)


def test_kinds_of_pictures_need_their_column(ten_m: Path) -> None:
    with pytest.raises(LinnaeaError, match="no column img_type or basis_of_record"):
        list(open_ten_m(ten_m, without=("camera-trap",)).records())


# FathomNet


def coco() -> dict[str, Any]:
    return {
        "info": {"description": "Generated by FathomNet"},
        "licenses": [{"id": 0, "name": "FathomNet", "url": "http://fathomnet.org/fathomnet/#/license"}],
        "images": [{"id": 1, "width": 32, "height": 32, "file_name": "aa.png", "license": 0,
                    "coco_url": "https://example.org/aa.png", "date_captured": "2015-03-01 10:00:00"}],
        "categories": [{"id": 1, "name": "Nanomia bijuga", "supercategory": ""},
                       {"id": 2, "name": "Sebastes", "supercategory": ""}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2.0, 3.0, 8.0, 6.0], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [-4.0, 20.0, 12.0, 12.0], "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 2, "bbox": [1.0, 1.0, 0.0, 4.0], "iscrowd": 0},
            {"id": 4, "image_id": 7, "category_id": 2, "bbox": [1.0, 1.0, 2.0, 4.0], "iscrowd": 0},
            {"id": 5, "image_id": 1, "category_id": 2, "bbox": [90.0, 1.0, 2.0, 4.0], "iscrowd": 0},
        ],
    }  # fmt: skip


def interface() -> list[dict[str, Any]]:
    boxes = [
        {"uuid": "b1", "concept": "Nanomia bijuga", "altConcept": "colony", "x": 2, "y": 3, "width": 8, "height": 6},
        {"uuid": "b2", "concept": "Sebastes", "x": 1, "y": 1, "width": 4, "height": 4, "rejected": True},
    ]
    rights = {"darwinCore": {"license": "http://creativecommons.org/licenses/by/4.0/", "rightsHolder": "An aquarium"}}
    return [{"uuid": "aa", "url": "https://example.org/frames/frame.png", "width": 32, "height": 32,
             "depthMeters": 512.5, "latitude": 36.7, "longitude": -122.1, "timestamp": "2015-03-01T10:00:00Z",
             "boundingBoxes": boxes, "imageSetUploads": [rights]}]  # fmt: skip


def make_fathomnet(folder: Path, content: Any, **more: Any) -> FathomNetSource:
    write(folder / "images/aa.png", picture(80, 32))
    return FathomNetSource(annotations=write(folder / "dataset.json", json.dumps(content).encode()),
                           images=folder / "images", **more)  # fmt: skip


def test_fathomnets_coco_file(tmp_path: Path) -> None:
    records, rejects = read(make_fathomnet(tmp_path, coco()))
    assert sorted(records) == ["aa.png#1", "aa.png#2", "aa.png#5"]
    assert rejects == {"aa.png#3": "box is not four numbers with a size above zero",
                       "7#4": "box of a picture that is not listed"}  # fmt: skip
    first = records["aa.png#1"]
    assert first.taxon.scientific_name == "Nanomia bijuga"
    assert decode(read_location(first.location)).shape == (6, 8, 3)
    assert decode(read_location(records["aa.png#2"].location)).shape == (12, 8, 3)
    assert {record.group for record in records.values()} == {"aa.png"}, "the boxes of a picture stay in one split"
    assert first.facts["license_link"] == "http://fathomnet.org/fathomnet/#/license"
    with pytest.raises(ImageError, match="box has no pixel of the picture"):
        read_location(records["aa.png#5"].location)


def test_fathomnets_json(tmp_path: Path) -> None:
    for number, content in enumerate((interface(), {"content": interface()})):
        records, rejects = read(make_fathomnet(tmp_path / str(number), content))
        assert rejects == {"b2": "box was rejected by FathomNet's reviewers"}
        facts = records["b1"].facts
        assert licence_of(facts) == "CC-BY-4.0"
        assert (facts["rights_holder"], facts["depth_m"], facts["alt_concept"]) == ("An aquarium", "512.5", "colony")


def test_a_table_gives_the_lineage_of_concepts(tmp_path: Path) -> None:
    table = tmp_path / "taxa.csv"
    table.write_text("concept,kingdom,phylum,class,order,family,genus\n"
                     "Sebastes,Animalia,Chordata,Teleostei,Perciformes,Sebastidae,Sebastes\n")  # fmt: skip
    records, _ = read(make_fathomnet(tmp_path, coco(), taxa=table))
    assert records["aa.png#2"].taxon.lineage[4:] == ("Sebastidae", "Sebastes", "")
    assert records["aa.png#1"].taxon.genus == "Nanomia"


@pytest.mark.parametrize("content", [{"annotations": [{}]}, [[]], {"images": 1}, 3])
def test_another_json_is_one_line(tmp_path: Path, content: Any) -> None:
    with pytest.raises(LinnaeaError, match="not FathomNet's COCO or JSON"):
        list(make_fathomnet(tmp_path, content).records())


def test_boxes_are_built_and_counted(tmp_path: Path) -> None:
    summary = build([make_fathomnet(tmp_path, coco())], tmp_path / "out", BuildConfig(), LocalEngine(1))
    assert (summary.n_in, summary.n_out) == (5, 2)
    assert summary.reasons["box has no pixel of the picture"] == 1
    sizes = pl.read_parquet(tmp_path / "out/index.parquet").select("width", "height").rows()
    assert sorted(sizes) == [(8, 6), (8, 12)]


# The worked examples of the documentation


@pytest.mark.parametrize(
    ("example", "makes"), [("treeoflife", "ten_m"), ("treeoflife-200m", "two_hundred_m"), ("fathomnet", "fathomnet")]
)
def test_the_documented_configuration_reads_the_real_layout(
    example: str, makes: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if makes == "fathomnet":
        make_fathomnet(tmp_path, coco())
    else:
        request.getfixturevalue(makes)
    text = (Path(__file__).parents[2] / f"docs/sources/{example}.toml").read_text()
    config = write(tmp_path / "example.toml", text.partition("[[build.benchmarks]]")[0].encode())
    (source,) = read_config(config).sources
    assert len(read(source)[0]) >= 3
