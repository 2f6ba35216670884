"""What is settled before any shard is made: benchmarks stay out, copies together, rare species apart."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linnaea.data.build import BuildConfig, BuildSummary, build
from linnaea.data.copies.leakage import Benchmark
from linnaea.data.copies.rules import DuplicateRule
from linnaea.data.engine import LocalEngine
from linnaea.data.images import Picture
from linnaea.data.naming import NamingRule
from linnaea.data.report import write_report
from linnaea.data.shards import DataSet
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.table import TableSource
from linnaea.data.splits import BenchmarkDraw, SplitRule
from linnaea.errors import LinnaeaError

SPECIES = ("Pica pica", "Corvus corax", "Apis mellifera", "Salix alba")


def scene(seed: int, height: int = 150, width: int = 200) -> Picture:
    """A picture with structure at every scale, as photographs have."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for size in (3, 6, 12, 25):
        coarse = random.normal(0, 1 / np.sqrt(size), (size, size + 1, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    total -= total.min()
    return (total * (255 / total.max())).astype(np.uint8)


def write(path: Path, picture: Picture, quality: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path


def crop(picture: Picture) -> Picture:
    """4% off the top, 3% off the right, three quarters of the size."""
    height, width = picture.shape[:2]
    return cv2.resize(picture[round(0.04 * height) :, : round(0.97 * width)], None, fx=0.75, fy=0.75)


def write_photographs(root: Path, n_each: int = 5) -> Path:
    for number, species in enumerate(SPECIES):
        for k in range(n_each):
            write(root / species / f"{k}.jpg", scene(100 * number + k))
    return root


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 species, 5 photographs each; one occurs three times (as bytes, saved again) under two names."""
    root = write_photographs(tmp_path_factory.mktemp("settle") / "photos")
    shutil.copyfile(root / "Pica pica" / "0.jpg", root / "Pica pica" / "same.jpg")
    write(root / "Corvus corax" / "again.jpg", scene(0), quality=60)
    return root


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The originals of two photographs that :func:`leaky` plants, and one picture of its own."""
    root = tmp_path_factory.mktemp("settle") / "exam"
    write(root / "Apis mellifera" / "known.jpg", scene(1000))
    write(root / "Apis mellifera" / "bee.jpg", scene(1001))
    write(root / "Vulpes vulpes" / "fox.jpg", scene(1002))
    return root


@pytest.fixture(scope="session")
def leaky(tmp_path_factory: pytest.TempPathFactory, benchmark: Path) -> Path:
    """Photographs among which two of the benchmark hide: one cropped, one byte for byte."""
    root = write_photographs(tmp_path_factory.mktemp("settle") / "leaky", n_each=3)
    write(root / "Salix alba" / "cropped.jpg", crop(scene(1000)), quality=80)
    shutil.copyfile(benchmark / "Vulpes vulpes" / "fox.jpg", root / "Salix alba" / "fox.jpg")
    return root


def run(root: Path, output: Path, n_workers: int = 1, **options: Any) -> BuildSummary:
    return build([FolderSource(root=root)], output, BuildConfig(shard_size=5, **options), LocalEngine(n_workers))


def rejects(output: Path) -> dict[str, str]:
    return dict(pl.read_parquet(output / "rejects.parquet").select("record_id", "reason").iter_rows())


def fingerprint(output: Path) -> dict[str, str]:
    """Every file of a data set with its checksum."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != "report.html"
    }


def index_of(output: Path) -> pl.DataFrame:
    """The index with each picture's record id and name."""
    dataset = DataSet.open(output)
    records = pl.read_parquet(output / "records.parquet").select("key", "record_id")
    return dataset.index.join(records, on="key").join(dataset.taxa, on="taxon_id")


def test_a_build_that_asks_for_nothing_looks_at_no_picture_before_the_shards(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linnaea.data.settle.compare", pytest.fail)
    run(photos, tmp_path / "data")
    index = DataSet.open(tmp_path / "data").index
    assert index["pdq"].null_count() == len(index) == 22
    assert not (tmp_path / "data" / "names.parquet").exists()


def test_a_data_set_from_before_hashes_opens(tmp_path: Path, photos: Path) -> None:
    run(photos, tmp_path / "data")
    path = tmp_path / "data" / "index.parquet"
    pl.read_parquet(path).drop("pdq").write_parquet(path)
    assert DataSet.open(tmp_path / "data").index["pdq"].null_count() == 22


def test_of_copies_the_first_by_key_stays(tmp_path: Path, photos: Path) -> None:
    summary = run(photos, tmp_path / "data", duplicates=DuplicateRule(exact="drop", near="drop"))
    assert (summary.n_in, summary.n_out, summary.n_rejected) == (22, 21, 1)
    copies = {"Pica pica/0.jpg", "Pica pica/same.jpg"}
    gone = rejects(tmp_path / "data")
    (kept,) = copies - set(gone)
    keys = {one: hashlib.blake2b(f"photos\0{one}".encode(), digest_size=12).hexdigest() for one in copies}
    assert keys[kept] == min(keys.values())
    assert all(f" -- of photos {kept}" in reason for reason in gone.values())
    assert sum(summary.reasons.values()) == 1
    assert set(summary.reasons) <= {"exact copy", "near copy"}, "reasons are counted without their details"
    assert DataSet.open(tmp_path / "data").index["pdq"].str.len_chars().to_list() == [64] * 21


def test_a_near_copy_under_another_name_is_kept_grouped_counted_and_shown(tmp_path: Path, photos: Path) -> None:
    run(photos, tmp_path / "data", duplicates=DuplicateRule(near="drop"))
    index = index_of(tmp_path / "data").filter(pl.col("group") != "")
    assert set(index["genus"]) == {"Pica", "Corvus"}
    assert index["group"].n_unique() == index["split"].n_unique() == 1
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["copies"]["near copies under different names"] == 3
    write_report(DataSet.open(tmp_path / "data"), {})
    assert "3 near copies have different names" in (tmp_path / "data" / "report.html").read_text()


def test_a_species_that_is_only_seen_by_a_fixed_camera_stays(tmp_path: Path) -> None:
    """The animal covers 2% of the picture, so each frame is a near copy of the empty one."""
    rng, root = np.random.default_rng(0), tmp_path / "camera"
    for number in range(12):
        frame = scene(5).astype(float) + rng.normal(0, 3, scene(5).shape)
        if number:
            top, left = rng.integers(0, frame.shape[0] - 40), rng.integers(0, frame.shape[1] - 40)
            frame[top : top + 40, left : left + 40] = rng.integers(0, 255, 3)
        name = "Vulpes vulpes" if number else "Blank ground"
        write(root / name / f"{number}.jpg", frame.clip(0, 255).astype("uint8"))
    config = BuildConfig(duplicates=DuplicateRule(exact="drop", near="drop"))
    build([FolderSource(root=root)], tmp_path / "data", config, LocalEngine(1))
    assert {"Vulpes", "Blank"} <= set(index_of(tmp_path / "data")["genus"])


def test_copies_by_bytes_alone(tmp_path: Path, photos: Path) -> None:
    run(photos, tmp_path / "data", duplicates=DuplicateRule(exact="drop"))
    gone = rejects(tmp_path / "data")
    assert len(gone) == 1
    assert next(iter(gone)) in ("Pica pica/0.jpg", "Pica pica/same.jpg")


@pytest.mark.parametrize("seed", range(4))
def test_copies_and_their_individuals_never_straddle_a_split(tmp_path: Path, seed: int) -> None:
    """Two sources: picture 0 of each is the same, and in each an individual joins pictures 0 to 2."""
    sources = []
    for name in ("east", "west"):
        root = tmp_path / name
        rows = []
        for number in range(12):
            same = number == 0
            write(root / f"{number}.jpg", scene(7 if same else 50 + number + 100 * (name == "west")),
                  quality=70 if name == "west" else 90)  # fmt: skip
            rows.append({"filepath": f"{number}.jpg", "scientific_name": "Pica pica", "who": "a" if number < 3 else ""})
        pl.DataFrame(rows).write_csv(root / f"{name}.csv")
        sources.append(TableSource(table=root / f"{name}.csv", root=root, path_column="filepath", group_column="who"))
    config = BuildConfig(splits=SplitRule(val=0.3, test=0.3, seed=seed), duplicates=DuplicateRule(near="group"))
    outputs = []
    for name, some in (("one", sources), ("other", sources[::-1])):
        summary = build(some, tmp_path / name, config, LocalEngine(1))
        assert summary.n_out == 24
        index = index_of(tmp_path / name)
        together = index.filter(pl.col("record_id").is_in(["0.jpg", "1.jpg", "2.jpg"]))
        assert together["split"].n_unique() == 1
        assert together["group"].n_unique() == 1
        assert (index.filter(~pl.col("record_id").is_in(["0.jpg", "1.jpg", "2.jpg"]))["group"] == "").all()
        outputs.append(
            {path: content for path, content in fingerprint(tmp_path / name).items() if path != "manifest.json"}
        )
    assert outputs[0] == outputs[1], "the order of the sources does not matter"


def test_where_sources_put_copies_in_two_splits_the_one_kept_back_stands(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / f"{name}.jpg", scene(seed), quality=90 if name == "a" else 70)
    table = "filepath,scientific_name,split\na.jpg,Pica pica,train\nb.jpg,Pica pica,test\nc.jpg,Pica pica,train\n"
    (tmp_path / "t.csv").write_text(table)
    source = TableSource(table=tmp_path / "t.csv", root=tmp_path, path_column="filepath", split_column="split")
    build([source], tmp_path / "data", BuildConfig(duplicates=DuplicateRule(near="group")), LocalEngine(1))
    assert rejects(tmp_path / "data") == {"a.jpg": "copy is in another split"}
    assert dict(index_of(tmp_path / "data").select("record_id", "split").iter_rows()) == {
        "b.jpg": "test",
        "c.jpg": "train",
    }


def make_benchmark(kind: str, folder: Path, tmp_path: Path) -> Path:
    """The same pictures as a folder, a table, or a data set."""
    if kind == "folder":
        return folder
    if kind == "data set":
        run(folder, tmp_path / "exam")
        return tmp_path / "exam"
    paths = sorted(folder.rglob("*.jpg"))
    rows = [{"filepath": str(path), "scientific_name": path.parent.name} for path in paths]
    pl.DataFrame(rows).write_csv(tmp_path / "exam.csv")
    return tmp_path / "exam.csv"


@pytest.mark.parametrize("kind", ["folder", "table", "data set"])
def test_pictures_of_a_benchmark_are_removed_with_their_reason(
    tmp_path: Path, leaky: Path, benchmark: Path, kind: str
) -> None:
    exam = Benchmark(name="exam", path=make_benchmark(kind, benchmark, tmp_path))
    summary = run(leaky, tmp_path / "data", benchmarks=(exam,))
    assert (summary.n_in, summary.n_out, summary.reasons) == (14, 12, {"occurs in benchmark exam": 2})
    gone = rejects(tmp_path / "data")
    assert set(gone) == {"Salix alba/cropped.jpg", "Salix alba/fox.jpg"}
    assert ", cut 5/0/0/2.5%, distance " in gone["Salix alba/cropped.jpg"]
    # A data set's picture is named by its key; where it was stored as it was, its bytes are the same.
    assert gone["Salix alba/fox.jpg"].endswith("same bytes")
    if kind != "data set":
        assert "known.jpg" in gone["Salix alba/cropped.jpg"]
    counts = json.loads((tmp_path / "data" / "manifest.json").read_text())["benchmarks"]
    assert counts == {"exam": {"pictures": 3, "unreadable": 0, "removed by image": 2}}


def test_species_of_a_benchmark_are_removed_also_at_their_synonyms(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "scientific_name,accepted_name,kingdom,family\nColoeus monedula,,Animalia,Corvidae\n"
        "Corvus monedula,Coloeus monedula,,\nCorvus corax,,Animalia,Corvidae\n"
    )
    for number, species in enumerate(("Corvus_monedula", "Coloeus_monedula", "Corvus_corax")):
        write(tmp_path / "photos" / species / "0.jpg", scene(number))
    write(tmp_path / "exam" / "00001_Animalia_Chordata_Aves_Passeriformes_Corvidae_Corvus_monedula" / "x.jpg", scene(9))
    write(tmp_path / "exam" / "Felis_silvestris" / "y.jpg", scene(10))
    exam = (Benchmark(name="exam", path=tmp_path / "exam", by_image=False, by_taxon=True),)
    run(tmp_path / "photos", tmp_path / "plain", benchmarks=exam)
    assert set(rejects(tmp_path / "plain")) == {"Corvus_monedula/0.jpg"}
    run(
        tmp_path / "photos",
        tmp_path / "data",
        benchmarks=exam,
        names=NamingRule(checklists=(str(tmp_path / "list.csv"),)),
    )
    assert rejects(tmp_path / "data") == {
        f"{species}/0.jpg": "species of benchmark exam -- Coloeus monedula"
        for species in ("Corvus_monedula", "Coloeus_monedula")
    }
    counts = json.loads((tmp_path / "data" / "manifest.json").read_text())["benchmarks"]["exam"]
    assert counts["removed by species"] == 2
    assert counts["not in the sources"] == ["Felis_silvestris"], "what matched nothing is named"
    assert DataSet.open(tmp_path / "data").taxa["scientific_name"].to_list() == ["Corvus corax"]


def test_similar_pictures_are_removed_with_an_encoder_that_is_handed_in(
    tmp_path: Path, leaky: Path, benchmark: Path
) -> None:
    def encode(pictures: list[Picture]) -> np.ndarray:
        small = [cv2.resize(one, (8, 8), interpolation=cv2.INTER_AREA).ravel().astype(np.float32) for one in pictures]
        return np.stack([one - one.mean() for one in small])

    (leaky.parent / "with broken").mkdir(exist_ok=True)
    root = shutil.copytree(leaky, tmp_path / "leaky")
    (root / "Salix alba" / "broken.jpg").write_bytes(b"no picture")
    exam = (Benchmark(name="exam", path=benchmark, by_image=False, min_cosine=0.9),)
    with pytest.raises(LinnaeaError, match="min_cosine needs an encoder"):
        run(root, tmp_path / "none", benchmarks=exam)
    config = BuildConfig(benchmarks=exam, shard_size=5)
    build([FolderSource(root=root)], tmp_path / "data", config, LocalEngine(1), encode=encode)
    gone = rejects(tmp_path / "data")
    assert set(gone) == {"Salix alba/cropped.jpg", "Salix alba/fox.jpg", "Salix alba/broken.jpg"}
    assert gone["Salix alba/fox.jpg"] == "similar to benchmark exam -- Vulpes vulpes/fox.jpg, cosine 1.000"


def test_a_picture_that_cannot_be_read_gets_its_usual_reason(tmp_path: Path, benchmark: Path) -> None:
    root = write_photographs(tmp_path / "photos", n_each=1)
    (root / "Pica pica" / "text.jpg").write_bytes(b"hello")
    (root / "Pica pica" / "empty.jpg").touch()
    (root / "Pica pica" / "twin.jpg").write_bytes(b"hello")
    exam = Benchmark(name="exam", path=benchmark)
    run(root, tmp_path / "plain")
    run(root, tmp_path / "data", benchmarks=(exam,), duplicates=DuplicateRule(exact="drop", near="drop"))
    assert rejects(tmp_path / "data") == rejects(tmp_path / "plain")
    assert len(rejects(tmp_path / "data")) == 3


def test_a_benchmark_that_holds_nothing_is_an_error_and_one_that_holds_everything_is_not(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", n_each=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LinnaeaError, match="would remove nothing"):
        run(root, tmp_path / "data", benchmarks=(Benchmark(name="x", path=tmp_path / "empty"),))
    (tmp_path / "unfinished" / ".build").mkdir(parents=True)
    with pytest.raises(LinnaeaError, match="was not finished"):
        run(root, tmp_path / "another", benchmarks=(Benchmark(name="x", path=tmp_path / "unfinished"),))
    with pytest.raises(LinnaeaError, match="no such benchmark"):
        run(root, tmp_path / "other", benchmarks=(Benchmark(name="x", path=tmp_path / "nowhere"),))
    summary = run(root, tmp_path / "all", benchmarks=(Benchmark(name="x", path=root),))
    assert (summary.n_in, summary.n_out, summary.n_rejected) == (4, 0, 4)


def test_another_benchmark_is_another_build(tmp_path: Path, leaky: Path, benchmark: Path) -> None:
    exam = shutil.copytree(benchmark, tmp_path / "exam")
    run(leaky, tmp_path / "data", benchmarks=(Benchmark(name="exam", path=exam),))
    write(exam / "Vulpes vulpes" / "more.jpg", scene(5))
    with pytest.raises(LinnaeaError, match="other inputs or options"):
        run(leaky, tmp_path / "data", benchmarks=(Benchmark(name="exam", path=exam),))


def write_rare(root: Path) -> Path:
    """Two sources: species A and B in the first alone, C in both, D too rare, E not on the list."""
    rows: dict[str, list[dict[str, str]]] = {"museum": [], "web": []}
    counts = {
        "museum": {"Aus rarus": 9, "Bus rarus": 6, "Cus rarus": 8, "Dus rarus": 3, "Eus communis": 9},
        "web": {"Cus rarus": 1},
    }
    seed = 0
    for source, species in counts.items():
        for name, n in species.items():
            for number in range(n):
                write(root / source / name / f"{number}.jpg", scene(seed := seed + 1, 60, 80))
                group = f"pair {number // 2}" if name == "Aus rarus" else ""
                rows[source].append({"filepath": f"{name}/{number}.jpg", "scientific_name": name, "group": group})
        pl.DataFrame(rows[source]).write_csv(root / f"{source}.csv")
    (root / "red-list.txt").write_text("Aus rarus\nBus rarus\nCus rarus\nDus rarus\nFus absens\n")
    return root


@pytest.mark.parametrize("seed", range(3))
def test_a_benchmark_of_rare_species_is_drawn_and_training_never_sees_them(tmp_path: Path, seed: int) -> None:
    root = write_rare(tmp_path / "rare")
    sources = [
        TableSource(table=root / f"{name}.csv", root=root / name, path_column="filepath", group_column="group")
        for name in ("museum", "web")
    ]
    draw = BenchmarkDraw(names=root / "red-list.txt", source="museum", min_images=5, n_images=5)
    config = BuildConfig(splits=SplitRule(val=0.2, test=0.2, seed=seed, benchmark=draw))
    outputs = []
    for name, some in (("one", sources), ("other", sources[::-1])):
        summary = build(some, tmp_path / name, config, LocalEngine(1))
        assert summary.n_in == 36 == summary.n_out + summary.n_rejected
        index = index_of(tmp_path / name)
        drawn = index.filter(pl.col("split") == "benchmark").group_by("scientific_name").len().sort("scientific_name")
        assert drawn.rows() == [("Aus rarus", 5), ("Bus rarus", 5)]
        rare = index.filter(pl.col("scientific_name").is_in(["Aus rarus", "Bus rarus"]))
        assert set(rare["split"]) == {"benchmark", "held-back"}
        assert set(index.filter(pl.col("split").is_in(["benchmark", "held-back"]))["scientific_name"]) == set(
            rare["scientific_name"]
        )
        grouped = index.filter(pl.col("group") != "")
        assert grouped.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1, "a pair is torn"
        assert set(rejects(tmp_path / name).values()) <= {"group holds a picture of the benchmark"}
        counts = json.loads((tmp_path / name / "manifest.json").read_text())["benchmark drawn"]
        assert counts == {"names": 5, "not in the sources": ["Fus absens"], "species": 2, "images": 10}
        outputs.append(
            {path: content for path, content in fingerprint(tmp_path / name).items() if path != "manifest.json"}
        )
    assert outputs[0] == outputs[1]


def test_a_drawn_benchmark_serves_another_build(tmp_path: Path) -> None:
    root = write_rare(tmp_path / "rare")
    draw = BenchmarkDraw(names=root / "red-list.txt", min_images=5, n_images=5)
    run(root / "museum", tmp_path / "exam", splits=SplitRule(benchmark=draw))
    exam = Benchmark(name="exam", path=tmp_path / "exam", by_taxon=True)
    summary = run(root / "museum", tmp_path / "data", benchmarks=(exam,))
    drawn = DataSet.open(tmp_path / "exam").split("benchmark")
    assert summary.reasons == {
        "occurs in benchmark exam": len(drawn),
        "species of benchmark exam": len(DataSet.open(tmp_path / "exam").split("held-back")),
    }
    assert set(index_of(tmp_path / "data")["scientific_name"]) == {"Dus rarus", "Eus communis"}


def test_train_small_is_a_tenth_of_train_and_no_bytes(tmp_path: Path) -> None:
    keys = [hashlib.blake2b(str(number).encode(), digest_size=12).hexdigest() for number in range(20_000)]
    index = pl.DataFrame({"key": keys, "split": ["train"] * 10_000 + ["val"] * 10_000})
    dataset = DataSet(tmp_path, index, pl.DataFrame())
    small = dataset.split("train-small").index
    assert abs(small.height - 1000) < 120
    assert set(small["split"]) == {"train"}
    assert small["key"].to_list()[:3] == [key for key in keys if int(key[-8:], 16) < int(0.1 * 2**32)][:3]
    with pytest.raises(LinnaeaError, match="no split 'train-small'; there are val"):
        DataSet(tmp_path, index.filter(pl.col("split") == "val"), pl.DataFrame()).split("train-small")


CORRUPTIONS = ("none", "copy", "again", "leak", "cut", "text", "missing", "no-name", "unknown-name", "twice-in-table")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CORRUPTIONS), min_size=1, max_size=12),
       st.sampled_from(("keep", "drop", "group")), st.sampled_from(("keep", "drop", "group")),
       st.sampled_from(("keep", "reject")))  # fmt: skip
def test_records_in_are_images_out_plus_rejects_with_everything_on(
    tmp_path: Path, benchmark: Path, fates: list[str], exact: Any, near: Any, unsure: Any
) -> None:
    root = tmp_path / "corrupt"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / "list.csv").write_text("scientific_name,kingdom,family\nPica pica,Animalia,Corvidae\n")
    rows = []
    for number, fate in enumerate(fates):
        same, leak, other = scene(1, 60, 80), crop(scene(1000)), scene(100 + number, 60, 80)
        picture = {"copy": same, "again": same, "leak": leak}.get(fate, other)
        path = write(root / f"{number}.jpg", picture, quality=60 if fate == "again" else 90)
        if fate == "cut":
            path.write_bytes(path.read_bytes()[:300])
        elif fate == "text":
            path.write_bytes(b"hello")
        elif fate == "missing":
            path.unlink()
        name = {"no-name": "", "unknown-name": "Zzyzxa qwerty"}.get(fate, "Pica pica")
        rows += [{"filepath": path.name, "scientific_name": name, "group": "g" if number % 3 else ""}] * (
            1 + (fate == "twice-in-table")
        )
    pl.DataFrame(rows).write_csv(root / "table.csv")
    source = TableSource(table=root / "table.csv", root=root, path_column="filepath", group_column="group")
    config = BuildConfig(
        shard_size=3,
        duplicates=DuplicateRule(exact=exact, near=near),
        benchmarks=(Benchmark(name="exam", path=benchmark),),
        names=NamingRule(checklists=(str(root / "list.csv"),), unsure=unsure),
        splits=SplitRule(val=0.2, test=0.2, unseen=0.3),
    )
    summary = build([source], root / "data", config, LocalEngine(1))
    assert summary.n_in == len(rows) == summary.n_out + summary.n_rejected
    table = pl.read_parquet(root / "data" / "rejects.parquet")
    assert table.height == summary.n_rejected == sum(summary.reasons.values())
    assert (table["reason"].str.len_chars() > 0).all()
    stored = set(index_of(root / "data")["record_id"])
    assert stored | set(table["record_id"]) >= {row["filepath"] for row in rows}
    leaks = {f"{number}.jpg" for number, fate in enumerate(fates) if fate == "leak"}
    assert not leaks & stored
    if unsure == "reject":
        assert not {f"{number}.jpg" for number, fate in enumerate(fates) if fate == "unknown-name"} & stored


DRIVER = """
import os, sys
from pathlib import Path
from linnaea.data.build import BuildConfig, build
from linnaea.data.copies.rules import DuplicateRule
from linnaea.data.engine import LocalEngine
from linnaea.data.copies.leakage import Benchmark
from linnaea.data.sources.folder import FolderSource

class Logging:
    def __init__(self, n_workers, log):
        self.engine, self.log = LocalEngine(n_workers), log

    def map(self, function, tasks):
        def noted():
            for task in tasks:
                receipt = task.receipt_path if hasattr(task, "receipt_path") else task.part
                self.log.write(f"{receipt}\\n"); self.log.flush()
                yield task
        yield from self.engine.map(function, noted())

if __name__ == "__main__":
    root, benchmark, output, log, workers = sys.argv[1:]
    config = BuildConfig(shard_size=8, duplicates=DuplicateRule(exact="drop", near="group"),
                         benchmarks=(Benchmark(name="exam", path=Path(benchmark)),))
    with open(log, "w") as stream:
        build([FolderSource(root=Path(root))], Path(output), config, Logging(int(workers), stream))
"""


def receipts(output: Path) -> set[str]:
    """The files that say that a part or a shard is finished."""
    walk = os.walk(output / ".build")  # which passes over a folder that the build removes meanwhile
    paths = (Path(folder, name) for folder, _, names in walk for name in names)
    found = {str(path) for path in paths if path.suffix == ".json" and "parts" in path.parts}
    return found | {str(path) for path in (output / ".build" / "pictures").glob("*/??????.parquet")}


def kill_and_resume(folder: Path, root: Path, benchmark: Path, moments: Sequence[int], n_workers: int) -> list[int]:
    """Build, killing it when so many receipts are there as ``moments`` say, one after another.

    Every run notes the tasks it hands out: none may be one whose receipt was there when the run began. Returns how
    many receipts were there at each kill that came in mid-build.
    """
    folder.mkdir(parents=True)
    (folder / "driver.py").write_text(DRIVER)
    output, log = folder / "data", folder / "log"
    command = [sys.executable, str(folder / "driver.py"), str(root), str(benchmark), str(output), str(log)]
    killed = []
    for moment in [*moments, None]:
        before = receipts(output)
        log.unlink(missing_ok=True)
        process = subprocess.Popen([*command, str(n_workers)], stderr=subprocess.PIPE, start_new_session=True)
        if moment is not None:
            wait_for(moment, process, output, log)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed.append(len(receipts(output)))
        _, errors = process.communicate(timeout=600)
        assert moment is not None or process.returncode == 0, errors
        handed_out = log.read_text().splitlines() if log.exists() else []
        assert not before & set(handed_out), "what was finished was done again"
        assert len(handed_out) == len(set(handed_out))
    return killed


def wait_for(moment: int, process: "subprocess.Popen[bytes]", output: Path, log: Path) -> None:
    while process.poll() is None and not log.exists():
        time.sleep(0.002)
    while process.poll() is None and len(receipts(output)) < moment:
        time.sleep(0.001)


def test_a_killed_build_goes_on_to_the_same_bytes_and_decodes_nothing_twice(
    tmp_path: Path, photos: Path, benchmark: Path
) -> None:
    config = BuildConfig(
        shard_size=8,
        duplicates=DuplicateRule(exact="drop", near="group"),
        benchmarks=(Benchmark(name="exam", path=benchmark),),
    )
    build([FolderSource(root=photos)], tmp_path / "whole" / "data", config, LocalEngine(1))
    killed = kill_and_resume(tmp_path / "killed", photos, benchmark, [1, 3, 5], 1)  # hashing, searching, shards
    assert any(killed), "no kill came when something was finished"
    assert fingerprint(tmp_path / "killed" / "data") == fingerprint(tmp_path / "whole" / "data")


@pytest.mark.long
def test_kill_9_with_copies_and_a_benchmark_on_real_photographs(tmp_path: Path, shared: Path) -> None:
    """Twenty kills at random moments of builds of about 500 photographs, in all stages."""
    random = np.random.default_rng(0)
    files = [
        path
        for folder in sorted((shared / "species-images" / "beetles").iterdir())
        for path in sorted(folder.iterdir())
    ]
    for number, path in enumerate(files[:540]):
        place = tmp_path / ("exam" if number % 27 == 0 else "photos") / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        if number % 27 == 0:
            picture = cv2.imread(str(path))
            write(tmp_path / "photos" / path.parent.name / f"leak{number}.jpg", crop(picture))
        elif number % 10 == 0:
            shutil.copyfile(path, tmp_path / "photos" / path.parent.name / f"copy{number}.jpg")
    kill_and_resume(tmp_path / "whole", tmp_path / "photos", tmp_path / "exam", [], 2)
    whole, killed, rounds = fingerprint(tmp_path / "whole" / "data"), list[int](), 0
    while len(killed) < 20 and rounds < 20:
        folder = tmp_path / f"round{rounds}"
        moments = sorted(random.integers(0, 130, 4).tolist())
        killed += kill_and_resume(folder, tmp_path / "photos", tmp_path / "exam", moments, 2)
        assert fingerprint(folder / "data") == whole
        shutil.rmtree(folder)
        rounds += 1
    assert len(killed) >= 20
    assert len(set(killed)) > 10, "the kills came at different stages"
