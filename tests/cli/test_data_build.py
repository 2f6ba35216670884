"""The words of ``linnaea data build`` about names, copies and benchmarks; by default none of it happens."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import simplejpeg
from PIL import Image

from linnaea.cli import DONE, FAILED, SOME_FAILED, main
from linnaea.data.shards import DataSet
from linnaea.data.synthetic import SyntheticConfig, synthesize


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of two species in plain names, six photographs each, one of them twice."""
    drawn = tmp_path_factory.mktemp("drawn") / "photos"
    synthesize(drawn, SyntheticConfig(n_species=8, n_images=6, size=64), n_workers=1)
    root = tmp_path_factory.mktemp("named") / "photos"
    folders = sorted(path for path in drawn.iterdir() if path.is_dir())
    for folder, name in zip(folders[::4], ("Corvus_monedula", "Corvus_corax"), strict=True):
        shutil.copytree(folder, root / name)
    first = min((root / "Corvus_corax").iterdir())
    shutil.copyfile(first, first.with_name("zz_again.jpg"))
    return root


def build(photos: Path, output: Path, *words: str) -> int:
    return main(["data", "build", "--folder", str(photos), "--output", str(output), "--workers", "1", *words])


def test_by_default_names_are_resolved_and_nothing_is_compared_or_drawn(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(photos, tmp_path / "data") == DONE
    dataset = DataSet.open(tmp_path / "data")
    assert len(dataset) == 13
    assert set(dataset.taxa["family"]) == {"Corvidae"}, "no lineage is empty"
    assert "names: " in capsys.readouterr().err
    assert build(photos, tmp_path / "raw", "--no-resolve") == DONE
    assert set(DataSet.open(tmp_path / "raw").taxa["family"]) == {""}
    assert not (tmp_path / "raw" / "names.parquet").exists()


def test_the_report_says_which_names_were_not_found_doubtful_or_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["Pica pica", "Pica_pica", "Pica pica juvenile", "Corvus corax", "Passer domesticus", "ADONIS",
              "Some Thing", "Gadget___healthy", "Gadget___Early_blight"]  # fmt: skip
    for number, label in enumerate(labels):
        (tmp_path / "photos" / label).mkdir(parents=True)
        picture = simplejpeg.encode_jpeg(np.full((24, 30, 3), 9 * number, np.uint8), colorspace="RGB")
        (tmp_path / "photos" / label / "a.jpg").write_bytes(picture)
    assert build(tmp_path / "photos", tmp_path / "data") == DONE
    said = capsys.readouterr().err
    assert "not found: 3 names (Gadget___Early_blight, Gadget___healthy, Some Thing)" in said
    assert "doubtful: 1 name (ADONIS)" in said
    assert "merged: 2 labels are 1 class" in said
    taxa = DataSet.open(tmp_path / "data").taxa
    assert sorted(taxa["common_name"].to_list()) == [
        "", "", "", "ADONIS", "Gadget early blight", "Gadget healthy", "Pica pica juvenile", "Some Thing",
    ]  # fmt: skip
    assert taxa.filter(pl.col("common_name") == "ADONIS")["kingdom"].item() == "", "no butterfly is a plant"
    assert taxa.filter(pl.col("genus") == "Pica")["family"].to_list() == ["Corvidae"] * 2
    page = (tmp_path / "data" / "report.html").read_text()
    why = "Adonis is in Plantae Ranunculaceae; the other names are Animalia Chordata Aves"
    for word in ("Not found", "Doubtful", why, "Pica pica, Pica_pica"):
        assert word in page
    assert build(tmp_path / "photos", tmp_path / "merged", "--merge-by", "taxon") == DONE
    assert "Pica pica juvenile" not in DataSet.open(tmp_path / "merged").taxa["common_name"].to_list()
    counts = json.loads((tmp_path / "merged" / "manifest.json").read_text())["merged"]
    assert counts == {"labels": 5, "classes": 2}


def test_names_go_through_the_checklists_that_are_named(photos: Path, tmp_path: Path) -> None:
    checklist = tmp_path / "birds.csv"
    checklist.write_text(
        "scientific_name,accepted_name,family\nColoeus monedula,,Corvidae\nCorvus monedula,Coloeus monedula,\n"
    )
    assert build(photos, tmp_path / "data", "--checklist", str(checklist)) == DONE
    names = pl.read_parquet(tmp_path / "data" / "names.parquet")
    assert names.select("label", "status", "checklist").rows() == [
        ("Corvus_corax", "unresolved", ""), ("Corvus_monedula", "synonym", "birds")
    ]  # fmt: skip
    taxa = DataSet.open(tmp_path / "data").taxa
    by_label = dict(names.select("label", "taxon_id").iter_rows())
    assert taxa["scientific_name"][by_label["Corvus_monedula"]] == "Coloeus monedula"
    assert taxa["scientific_name"][by_label["Corvus_corax"]] == "Corvus corax", "an unresolved name is not lost"


def test_copies_are_dropped_when_asked(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(photos, tmp_path / "data", "--duplicates", "drop") == SOME_FAILED
    dropped = 13 - len(DataSet.open(tmp_path / "data"))
    assert dropped >= 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"13 records in = {13 - dropped} images out + {dropped} rejected"
    assert "1 rejected: exact copy" in captured.err


def test_benchmarks_are_kept_out_by_picture_and_by_species(photos: Path, tmp_path: Path) -> None:
    exam = tmp_path / "exam"
    (exam / "Corvus_monedula").mkdir(parents=True)
    shutil.copyfile(min((photos / "Corvus_monedula").iterdir()), exam / "Corvus_monedula" / "x.jpg")
    assert build(photos, tmp_path / "data", "--benchmark", str(exam)) == SOME_FAILED
    reasons = json.loads((tmp_path / "data" / "manifest.json").read_text())["reasons"]
    assert set(reasons) == {"occurs in benchmark exam"}
    assert build(photos, tmp_path / "more", "--benchmark", str(exam), "--benchmark-species") == SOME_FAILED
    assert DataSet.open(tmp_path / "more").taxa["scientific_name"].to_list() == ["Corvus corax"]


def test_a_filter_that_matches_nothing_is_said_so(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos / "Corvus_corax", tmp_path / "exam" / "Felis_catus")
    build(photos, tmp_path / "data", "--benchmark", str(tmp_path / "exam"), "--benchmark-species")
    assert "none of its names is a species of the sources (1 name)" in capsys.readouterr().err


def test_a_benchmark_is_drawn_from_a_list_of_names(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Corvus corax\nCorvus monedula\n")
    assert build(photos, tmp_path / "data", "--draw-benchmark", str(tmp_path / "names.txt")) == DONE
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["benchmark drawn"]["species"] == 0, "neither has 30 photographs"
    assert build(photos, tmp_path / "none", "--draw-benchmark", str(tmp_path / "nowhere.txt")) == FAILED


def test_a_flat_folder_fails_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (64, 64)).save(tmp_path / "photos" / name)
    assert main(["data", "build", "--folder", str(tmp_path / "photos"), "--output", str(tmp_path / "data")]) == FAILED
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "2 records in = 0 images out + 2 rejected"
    assert "no record became an image; put the photographs of each taxon into a folder with its name" in captured.err
    rejects = pl.read_csv(tmp_path / "data" / "rejects.csv")
    assert rejects["reason"].to_list() == ["lies outside any class folder"] * 2
