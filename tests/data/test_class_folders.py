"""One parser of class folders: the same classes through every door, however the folders are laid out."""

import json
import shutil
from collections.abc import Collection
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from linnaea.cli import main
from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.naming import NamingRule
from linnaea.data.shards import DataSet
from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.class_folders import FolderReading, read_class_folders, split_of
from linnaea.data.sources.folder import FolderSource, find_in_checklist
from linnaea.errors import LinnaeaError, UsageError
from linnaea.evaluate.tasks.layouts import read_class_folders as read_for_evaluation
from linnaea.predict.adapt import _read as read_for_adapt
from linnaea.taxonomy.taxon import Taxon

INAT21 = "00017_Animalia_Arthropoda_Insecta_Lepidoptera_Nymphalidae_Vanessa_cardui"

LAYOUTS: dict[str, dict[str, str]] = {
    "flat": {"Pica pica": "Pica pica", "Northern Cardinal": "Northern Cardinal"},
    "cameras": {"Pica pica/CamA": "Pica pica", "Pica pica/CamB": "Pica pica", "Corvus corax/CamB": "Corvus corax"},
    "cameras called after genera": {"Pica pica/Cyprus": "Pica pica", "Corvus corax/Java": "Corvus corax"},
    "life stages": {"Pica pica/juvenile": "Pica pica", "Corvus corax/juvenile": "Corvus corax"},
    "lineage": {"Aves/Corvidae/Pica pica": "Pica pica", "Aves/Turdidae/Turdus merula": "Turdus merula"},
    "lineage and dates": {"Aves/Corvidae/Pica pica/2020-01-01/CamA": "Pica pica", "Aves/Corvus corax": "Corvus corax"},
    "splits": {"train/Pica pica": "Pica pica", "test/Pica pica": "Pica pica", "valid/Corvus corax": "Corvus corax",
               "test/Corvus corax": "Corvus corax", "train/Corvus corax": "Corvus corax"},
    "splits below classes": {"Pica pica/train": "Pica pica", "Pica pica/test": "Pica pica",
                             "Corvus corax/train": "Corvus corax", "Corvus corax/test": "Corvus corax"},
    "splits in a folder": {"photos/train/Robin/CamA": "Robin", "photos/test/Robin/CamB": "Robin",
                           "photos/train/Blue Jay": "Blue Jay", "photos/test/Blue Jay": "Blue Jay"},
    "numbers": {"1": "1", "2": "2", "10": "10"},
    "numbers and cameras": {"train/1/CamA": "1", "train/2/CamA": "2", "test/1/CamB": "1", "test/2": "2"},
    "sites above species": {"SiteA/Pica pica": "Pica pica", "SiteB/Turdus": "Turdus"},
    "sites called after genera": {"Cyprus/Pica pica": "Pica pica", "Malta/Turdus merula": "Turdus merula"},
    "genera beside species": {"Corvidae/CamA": "Corvidae", "Corvidae/Pica pica/CamA": "Pica pica"},
    "a place below a family": {"Corvidae/Cyprus": "Corvidae", "Paridae/Java": "Paridae"},
    "common names": {"Northern Cardinal/CamA": "Northern Cardinal", "Blue Jay/CamB": "Blue Jay"},
    "iNat21": {f"train_mini/{INAT21}": INAT21, f"public_test/{INAT21}": INAT21,
               "train/Pica pica": "Pica pica", "test/Pica pica": "Pica pica"},
    "subspecies": {"Panthera leo/Panthera leo persica": "Panthera leo persica", "Pica pica/male": "Pica pica"},
    "species that no list has": {"Corvidae/Corvus novus": "Corvus novus", "Corvidae/Pica pica/x": "Pica pica"},
}  # fmt: skip
"""The class of each folder."""

UNDECIDED = {
    "a common name beside a species": ["Aves/Northern Cardinal", "Aves/Pica pica"],
    "a species within another": ["Pica pica/Corvus corax"],
    "a group beside a lineage": ["Mammals/Red Fox", "Aves/Pica pica"],
}


@pytest.fixture(autouse=True)
def look_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each set of names goes to the checklist once: the doors ask for the same."""
    monkeypatch.setattr("linnaea.data.sources.folder.find_in_checklist", find_once)


@cache
def _find_once(names: frozenset[str]) -> dict[str, list[Taxon]]:
    return find_in_checklist(names)


def find_once(names: Collection[str]) -> dict[str, list[Taxon]]:
    return _find_once(frozenset(names))


def lay_out(root: Path, folders: Collection[str]) -> Path:
    """A photograph in every folder, each another one."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        (root / folder / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    return root


def build_classes(source: FolderSource, output: Path) -> set[str]:
    build([source], output, BuildConfig(), LocalEngine(1))
    return {facts["label"] for _, facts in DataSet.open(output).iter_facts()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_door_finds_the_same_classes(layout: str, tmp_path: Path) -> None:
    folders = LAYOUTS[layout]
    root, classes = lay_out(tmp_path / "photos", folders), set(folders.values())
    found = {record.record_id.rpartition("/")[0]: record.facts["label"]
             for record in FolderSource(root=root).records() if isinstance(record, Record)}  # fmt: skip
    assert found == folders
    assert build_classes(FolderSource(root=root), tmp_path / "data") == classes
    assert {record.facts["label"] for record in read_for_adapt(FolderSource(root=root))[0]} == classes
    table, taxon_of, lines = read_for_evaluation(FolderSource(root=root), "test", NamingRule())
    assert set(table["label"]) == classes <= set(taxon_of)
    assert not any("left out" in line for line in lines)


@pytest.mark.parametrize("layout", UNDECIDED)
def test_what_cannot_be_told_is_an_error_that_names_the_option(layout: str, tmp_path: Path) -> None:
    root = lay_out(tmp_path / "photos", UNDECIDED[layout])
    with pytest.raises(LinnaeaError, match=r"--class-level N \(1: .*2: ") as told:
        read_for_adapt(FolderSource(root=root))
    assert UNDECIDED[layout][0] in str(told.value)
    second = {folder.split("/")[1] for folder in UNDECIDED[layout]}
    assert build_classes(FolderSource(root=root, class_level=2), tmp_path / "data") == second
    assert {record.facts["label"] for record in read_for_adapt(FolderSource(root=root, class_level=2))[0]} == second
    assert set(read_for_evaluation(FolderSource(root=root, class_level=2), "test", NamingRule())[0]["label"]) == second


def test_the_level_goes_with_folders_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "build", "--table", "x.csv", "--output", str(tmp_path / "data")]
    assert main([*words, "--class-level", "2"]) == 2
    assert "--class-level" in capsys.readouterr().err


def test_the_report_says_how_each_level_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = lay_out(tmp_path / "photos", ["train/Pica pica/CamA", "test/Pica pica/CamB", "train/Corvus corax/CamB"])
    words = ["data", "build", "--folder", str(root), "--output", str(tmp_path / "data"), "--workers", "1"]
    assert main([*words, "--class-level", "2"]) == 0
    said = capsys.readouterr().err
    assert "level 1: split (test, train)" in said
    assert "level 2: class (Pica pica, Corvus corax)" in said
    assert "level 3: other (CamB, CamA)" in said
    inputs = json.loads((tmp_path / "data" / "manifest.json").read_text())["inputs"]
    assert "level 3: other (CamB, CamA)" in inputs[0]["levels"]


def test_splits_are_those_of_the_folders(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "photos", LAYOUTS["splits"])
    splits = {item.record_id.split("/")[0]: item.split for item in FolderSource(root=root).records()
              if isinstance(item, Record)}  # fmt: skip
    assert splits == {"train": "train", "test": "test", "valid": "val"}
    assert {record.split for record in read_for_adapt(FolderSource(root=root))[0]} == {"train"}
    with pytest.raises(LinnaeaError, match="no split 'dev'"):
        read_for_evaluation(FolderSource(root=root), "dev", NamingRule())
    shutil.rmtree(root / "train")
    with pytest.raises(LinnaeaError, match="give the folder that holds train"):
        read_for_adapt(FolderSource(root=root))


def test_taxa_above_a_class_are_its_lineage(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "photos", ["Aves/Corvidae/Pica pica", "Aves/Corvidae/CamA"])
    taxa = {item.facts["label"]: item.taxon for item in FolderSource(root=root).records() if isinstance(item, Record)}
    assert taxa["Pica pica"] == Taxon.of({"class": "Aves", "family": "Corvidae", "genus": "Pica", "species": "pica"})
    assert taxa["Corvidae"] == Taxon.of({"class": "Aves"}, common_name="Corvidae")


def test_photographs_in_a_split_alone_have_no_class(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "photos", ["train", "train/Robin"])
    reasons = [item.reason for item in FolderSource(root=root).records() if isinstance(item, Rejected)]
    assert reasons == ["lies outside any class folder"]


def test_numbers_are_no_classes_beside_names(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "photos", ["1", "Pica pica"])
    items = list(FolderSource(root=root).records())
    assert [item.reason for item in items if isinstance(item, Rejected)] == [
        "label '1': a placeholder for an unknown name"
    ]


# The pure function.


def ask_nobody(names: Collection[str]) -> dict[str, list[Taxon]]:
    raise AssertionError(f"flat folders ask no checklist, but were asked for {names}")


PIECE = st.sampled_from(["Pica pica", "Corvus corax", "Corvidae", "Aves", "Robin", "CamA", "juvenile", "train", "test",
                         "2020-01-01", "1", "Cyprus", "x", INAT21])  # fmt: skip
FOLDERS = st.lists(st.lists(PIECE, max_size=4).map(tuple), max_size=8)

CROWS = {"kingdom": "Animalia", "class": "Aves", "family": "Corvidae"}
KNOWN = {
    "Aves": [Taxon.of({"kingdom": "Animalia", "class": "Aves"})],
    "Corvidae": [Taxon.of(CROWS)],
    "Pica": [Taxon.of(CROWS, genus="Pica")],
    "Pica pica": [Taxon.of(CROWS, genus="Pica", species="pica")],
    "Corvus corax": [Taxon.of(CROWS, genus="Corvus", species="corax")],
    "Cyprus": [Taxon.of({"kingdom": "Animalia", "class": "Insecta"}, genus="Cyprus")],
}


def look_up(names: Collection[str]) -> dict[str, list[Taxon]]:
    return {name: KNOWN[name] for name in names if name in KNOWN}


@given(st.lists(st.text(min_size=1).filter(lambda name: "/" not in name), min_size=1, max_size=20))
def test_flat_folders_are_their_names_whatever_they_are_and_nobody_is_asked(names: list[str]) -> None:
    classes = [name for name in names if not split_of(name)]
    tree = read_class_folders([(name,) for name in classes], ask_nobody)
    assert all(reading.label == folder[0] for folder, reading in tree.readings.items())
    below = read_class_folders([("test", name) for name in classes], ask_nobody)
    assert all((reading.label, reading.split) == (folder[1], "test") for folder, reading in below.readings.items())


@given(FOLDERS, st.integers(0, 4))
def test_any_folders_are_read_whole_or_refused(folders: list[tuple[str, ...]], class_level: int) -> None:
    try:
        tree = read_class_folders(folders, look_up, class_level=class_level)
    except LinnaeaError as error:
        assert class_level == 0
        assert "--class-level" in str(error)
        return
    assert set(tree.readings) == set(folders)
    assert len(tree.levels) == max(map(len, folders), default=0)
    for folder, reading in tree.readings.items():
        check_reading(folder, reading, class_level)
    again = read_class_folders(reversed(folders), look_up, class_level=class_level)
    assert again == tree


def check_reading(folder: tuple[str, ...], reading: FolderReading, class_level: int) -> None:
    if reading.level:
        assert folder[reading.level - 1] == reading.label
        assert all(level < reading.level for level in reading.lineage_levels)
        assert set(reading.rest) <= set(folder[reading.level :])
    else:
        assert not reading.label
    if class_level:
        assert reading.level == (class_level if len(folder) >= class_level else 0)
        return
    assert bool(reading.label) == any(name not in ("train", "test") for name in folder)
    assert reading.label not in ("train", "test")
    if {"Pica pica", "Corvus corax"} & set(folder) and INAT21 not in folder:
        assert reading.label in ("Pica pica", "Corvus corax"), "a species is deeper than all else that is a taxon"


@given(FOLDERS)
def test_what_lies_deeper_than_a_species_changes_nothing(folders: list[tuple[str, ...]]) -> None:
    """A folder of cameras below each species leaves the classes as they are."""
    species = [(*folder, "Pica pica") for folder in folders if not {"Corvus corax", INAT21} & set(folder)]
    deeper = [(*folder, "CamB") for folder in species]
    plain = read_class_folders(species, look_up).readings
    for folder, reading in read_class_folders(deeper, look_up).readings.items():
        assert (reading.label, reading.lineage) == (plain[folder[:-1]].label, plain[folder[:-1]].lineage)


def test_a_negative_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises((ValueError, UsageError), match="class level"):
        FolderSource(root=tmp_path, class_level=-1)


def test_a_folder_of_a_life_stage_is_no_label_of_its_own(tmp_path: Path) -> None:
    for folder in ("Danaus plexippus/larva", "Danaus plexippus/adult", "Vanessa atalanta/larva"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").touch()
    species = [item.taxon for item in FolderSource(root=tmp_path).records() if isinstance(item, Record)]
    assert {(taxon.scientific_name, taxon.common_name) for taxon in species} == {
        ("Danaus plexippus", ""), ("Vanessa atalanta", ""),
    }  # fmt: skip
    stages = [item for item in FolderSource(root=tmp_path, class_level=2).records() if isinstance(item, Record)]
    assert [(item.taxon.common_name, item.facts["label"]) for item in stages] == [
        ("Danaus plexippus adult", "Danaus plexippus adult"), ("Danaus plexippus larva", "Danaus plexippus larva"),
        ("Vanessa atalanta larva", "Vanessa atalanta larva"),
    ]  # fmt: skip
