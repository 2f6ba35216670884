"""A build accounts for every record, gives the same bytes however often it was interrupted, and explains itself."""

import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import simplejpeg
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linnaea.cli import DONE, main
from linnaea.data import build as build_module
from linnaea.data.build import BuildConfig, BuildSummary, build, make_shard
from linnaea.data.engine import LocalEngine
from linnaea.data.repair import iter_problems
from linnaea.data.shards import DataSet
from linnaea.data.sources import Source
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.table import TableSource
from linnaea.data.splits import SplitRule
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

SPECIES = ("Pica pica", "Corvus corax", "Apis mellifera", "Salix alba")


def write_photographs(root: Path, n_each: int = 6, side: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for species in SPECIES:
        for number in range(n_each):
            path = root / species / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            path.write_bytes(simplejpeg.encode_jpeg(pixels, quality=85, colorspace="RGB"))
    return root


def build_folder(root: Path, output: Path, n_workers: int = 1, **options: object) -> BuildSummary:
    config = BuildConfig(**{"shard_size": 5, **options})  # type: ignore[arg-type]
    return build([FolderSource(root=root)], output, config, LocalEngine(n_workers))


def fingerprint(output: Path) -> dict[str, str]:
    """Every file of a data set with its checksum; the manifest without the input's place."""
    files = {}
    for path in sorted(output.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "manifest.json":
                content = json.dumps(json.loads(content)["shards"]).encode()
            files[str(path.relative_to(output))] = hashlib.sha256(content).hexdigest()
    return files


def test_a_plain_folder_needs_no_configuration(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos")
    summary = build_folder(root, tmp_path / "data")
    assert (summary.n_in, summary.n_out, summary.n_rejected) == (24, 24, 0)
    dataset = DataSet.open(tmp_path / "data")
    assert len(dataset) == 24
    assert {dataset.taxon(i).scientific_name for i in dataset.index["taxon_id"]} == set(SPECIES)
    assert not (tmp_path / "data" / ".build").exists()
    assert not list(iter_problems(dataset, decode=True))


def test_every_sample_is_where_the_index_says(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    for row in range(len(dataset)):
        facts = dataset.index.row(row, named=True)
        assert hashlib.sha256(dataset.read(row)).hexdigest() == facts["sha256"]
        with tarfile.open(dataset_dir / facts["shard"]) as tar:
            member = tar.getmember(f"{facts['key']}.jpg")
            assert (member.offset_data, member.size) == (facts["offset"], facts["size"])


def test_taxa_are_in_depth_first_order(dataset_dir: Path) -> None:
    taxa = DataSet.open(dataset_dir).taxa
    lineages = taxa.select(RANK_LABELS).rows()
    assert lineages == sorted(lineages)
    assert taxa["taxon_id"].to_list() == list(range(taxa.height))


def test_the_same_input_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos")
    (root / "Pica pica" / "broken.jpg").write_bytes(b"no picture")
    outputs = []
    for name, n_workers in (("one", 1), ("again", 1), ("two", 2)):
        build_folder(root, tmp_path / name, n_workers, captions=True)
        outputs.append(fingerprint(tmp_path / name))
    assert outputs[0] == outputs[1] == outputs[2]


CORRUPTIONS = ("none", "empty", "cut", "text", "twice-in-table", "no-name", "missing")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CORRUPTIONS), min_size=1, max_size=10), st.integers(1, 7))
def test_records_in_are_images_out_plus_rejects(tmp_path: Path, fates: list[str], shard_size: int) -> None:
    """Whatever is broken, and in whatever mixture."""
    root = tmp_path / "corrupt"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    good = simplejpeg.encode_jpeg(np.full((30, 30, 3), 90, np.uint8), colorspace="RGB")
    rows = []
    for number, fate in enumerate(fates):
        path, name = f"{number}.jpg", "Pica pica"
        content = {"empty": b"", "cut": good[:200], "text": b"hello"}.get(fate, good)
        if fate != "missing":
            (root / path).write_bytes(content)
        rows.append({"filepath": path, "scientific_name": "" if fate == "no-name" else name})
        if fate == "twice-in-table":
            rows.append(dict(rows[-1]))
    pl.DataFrame(rows).write_csv(root / "table.csv")
    source = TableSource(table=root / "table.csv", root=root, path_column="filepath")
    summary = build([source], root / "data", BuildConfig(shard_size=shard_size), LocalEngine(1))
    n_good = sum(fate in ("none", "twice-in-table") for fate in fates)
    assert summary.n_in == len(rows) == summary.n_out + summary.n_rejected
    assert summary.n_out == n_good == len(DataSet.open(root / "data"))
    rejects = pl.read_parquet(root / "data" / "rejects.parquet")
    assert rejects.height == summary.n_rejected
    assert (rejects["reason"].str.len_chars() > 0).all()


@pytest.mark.parametrize("fail_at", [1, 3, 5])
def test_an_interrupted_build_goes_on_to_the_same_bytes(
    tmp_path: Path, fail_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_photographs(tmp_path / "photos")
    build_folder(root, tmp_path / "whole")
    made = []

    def interrupted(task: build_module.ShardTask) -> int:
        made.append(task.name)
        if len(made) == fail_at:
            raise KeyboardInterrupt
        return make_shard(task)

    with monkeypatch.context() as patch:
        patch.setattr(build_module, "make_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_folder(root, tmp_path / "resumed")
    with pytest.raises(LinnaeaError, match="not finished"):
        DataSet.open(tmp_path / "resumed")
    finished = set(made[:-1])
    made.clear()
    monkeypatch.setattr(build_module, "make_shard", lambda task: (made.append(task.name), make_shard(task))[1])
    build_folder(root, tmp_path / "resumed")
    assert not finished & set(made), "a finished shard was made again"
    assert fingerprint(tmp_path / "resumed") == fingerprint(tmp_path / "whole")


def run_build(root: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "linnaea", "data", "build", "--folder", str(root), "--output", str(output),
            "--shard-size", "20", "--workers", "2"]  # fmt: skip


def wait_for_a_shard(output: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None and not list(output.glob("*/shard-*.tar")):
        time.sleep(0.005)


def test_ctrl_c_stops_quickly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", n_each=100, side=400)
    data, whole = tmp_path / "interrupted" / "data", tmp_path / "whole" / "data"
    process = subprocess.Popen(run_build(root, data), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_for_a_shard(data, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (130, 0), err
    if process.returncode == 130:
        assert b"interrupted; run the same command again" in err
        assert b"Traceback" not in err
    for output in (data, whole):
        assert main(run_build(root, output)[3:]) == DONE
    assert fingerprint(data) == fingerprint(whole)


@pytest.mark.long
def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path, shared: Path) -> None:
    """On real photographs: twenty builds, each killed once or more, all end with the same bytes."""
    root = tmp_path / "photos"
    for folder in sorted((shared / "species-images" / "beetles").iterdir()):
        shutil.copytree(folder, root / folder.name)
    subprocess.run(run_build(root, tmp_path / "whole" / "data"), check=True, capture_output=True)
    whole, rng = fingerprint(tmp_path / "whole" / "data"), random.Random(0)
    for round_ in range(20):
        output = tmp_path / str(round_) / "data"
        for _ in range(3):
            process = subprocess.Popen(run_build(root, output), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       start_new_session=True)  # fmt: skip
            time.sleep(rng.uniform(0.3, 3.0))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run(run_build(root, output), check=True, capture_output=True)
        assert fingerprint(output) == whole


def test_a_finished_build_is_left_alone(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos")
    first = build_folder(root, tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    again = build_folder(root, tmp_path / "data")
    assert again.already_built
    assert (again.n_in, again.n_out) == (first.n_in, first.n_out)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}


def test_other_input_never_goes_into_the_same_folder(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos")
    build_folder(root, tmp_path / "data")
    with pytest.raises(LinnaeaError, match="other inputs or options"):
        build_folder(root, tmp_path / "data", short_side=32)
    (root / "Pica pica" / "new.jpg").write_bytes((root / "Pica pica" / "0.jpg").read_bytes())
    with pytest.raises(LinnaeaError, match="other inputs or options"):
        build_folder(root, tmp_path / "data")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(LinnaeaError, match="not empty"):
        build_folder(root, tmp_path / "mine")


def test_a_full_disk_is_one_line_and_the_build_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_photographs(tmp_path / "photos")
    build_folder(root, tmp_path / "whole")

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", full)
        with pytest.raises(LinnaeaError, match=r"shard-000000\.tar.*the disk is full; free some space"):
            build_folder(root, tmp_path / "data")
    build_folder(root, tmp_path / "data")
    assert fingerprint(tmp_path / "data") == fingerprint(tmp_path / "whole")


def test_shards_are_read_by_webdataset(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos")
    build_folder(root, tmp_path / "data", captions=True)
    shards = [str(path) for path in sorted((tmp_path / "data").glob("train/*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    index = DataSet.open(tmp_path / "data").split("train").index
    assert [sample["__key__"] for sample in samples] == index["key"].to_list()
    for sample in samples:
        facts = json.loads(sample["json"])
        assert facts["source"] == "photos"
        species = facts["record_id"].split("/")[0]
        assert sample["sci.txt"].decode() == f"a photo of {species}."
        assert sample["txt"] == sample["taxon_com.txt"]
        assert {f"{kind}.txt" for kind in ("sci", "com", "taxon", "sci_com", "taxon_com")} < set(sample)


def test_every_sample_has_the_same_keys(tmp_path: Path) -> None:
    """Hugging Face's ``datasets`` takes the columns from the first samples and drops what only later ones have."""
    root = write_photographs(tmp_path / "photos")
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    lines = [f"{path},{path.split('/')[0]},{'CC0' if n == len(paths) - 1 else ''},{n if n % 2 else ''}"
             for n, path in enumerate(paths)]  # fmt: skip
    (root / "table.csv").write_text("\n".join(["filepath,label,license,latitude", *lines]))
    source = TableSource(table=root / "table.csv", root=root, path_column="filepath", label_column="label")
    build([source], tmp_path / "data", BuildConfig(captions=True), LocalEngine(1))
    shards = [str(path) for path in sorted((tmp_path / "data").glob("*/*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    facts = [json.loads(sample["json"]) for sample in samples]
    assert len({tuple(sorted(one)) for one in facts}) == 1
    assert len({tuple(sorted(name for name in sample if not name.startswith("__"))) for sample in samples}) == 1
    assert {type(value) for one in facts for value in one.values()} == {str}
    assert sorted(one["license"] for one in facts) == [""] * (len(paths) - 1) + ["CC0"]


def test_shards_with_captions_feed_open_clips_own_trainer(tmp_path: Path) -> None:
    open_clip_data = pytest.importorskip("open_clip_train.data", reason="open_clip's trainer is not installed")
    root = write_photographs(tmp_path / "photos")
    build_folder(root, tmp_path / "data", captions=True)
    n_samples = len(DataSet.open(tmp_path / "data").split("train"))
    shards = str(tmp_path / "data" / "train" / "shard-{000000..000003}.tar")
    args = SimpleNamespace(train_data=shards, val_data=None, train_num_samples=n_samples, val_num_samples=0,
                           train_data_upsampling_factors=None, dataset_resampled=False, batch_size=4, workers=1,
                           seed=0, world_size=1)  # fmt: skip
    assert len(list((tmp_path / "data" / "train").glob("*.tar"))) >= 4

    def preprocess(image: object) -> np.ndarray:
        return np.asarray(image, np.float32)[:8, :8]

    def tokenizer(text: str) -> list[str]:
        return [text]

    info = open_clip_data.get_wds_dataset(args, preprocess, is_train=True, tokenizer=tokenizer)
    images, texts = next(iter(info.dataloader))
    assert len(images) == 4
    assert all(text.startswith("a photo of ") for text in texts)


def test_a_group_never_straddles_a_split(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", n_each=20)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    table = pl.DataFrame({"filepath": files, "scientific_name": [f.split("/")[0] for f in files],
                          "individual": [str(i % 13) for i in range(len(files))]})  # fmt: skip
    table.write_csv(tmp_path / "table.csv")
    source = TableSource(table=tmp_path / "table.csv", root=root, path_column="filepath", group_column="individual")
    rule = SplitRule(val=0.3, test=0.3)
    summary = build([source], tmp_path / "data", BuildConfig(splits=rule), LocalEngine(1))
    index = DataSet.open(tmp_path / "data").index
    assert summary.n_rejected == 0
    assert index["split"].n_unique() == 3
    assert index.group_by("source", "group").agg(pl.col("split").n_unique())["split"].max() == 1


@pytest.mark.parametrize("rank", [Rank.SPECIES, Rank.GENUS])
def test_held_out_taxa_have_no_picture_elsewhere(tmp_path: Path, photographs: Path, rank: Rank) -> None:
    source = TableSource(table=photographs / "metadata.csv", root=photographs, path_column="filepath")
    rule = SplitRule(val=0.2, test=0.2, unseen=0.4, unseen_rank=rank)
    build([source], tmp_path / "data", BuildConfig(splits=rule), LocalEngine(1))
    dataset = DataSet.open(tmp_path / "data")
    names = RANK_LABELS[: rank + 1]
    lineage = dataset.index.join(dataset.taxa, on="taxon_id").select("split", *names)
    unseen = set(lineage.filter(pl.col("split") == "unseen").select(names).rows())
    seen = set(lineage.filter(pl.col("split") != "unseen").select(names).rows())
    assert unseen
    assert seen
    assert not unseen & seen


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.text(min_size=1, max_size=8))
def test_splits_are_near_their_shares_and_stable(seed: int, source: str) -> None:
    rule = SplitRule(val=0.1, test=0.2, seed=seed)
    splits = [rule.split_of(source, str(number)) for number in range(400)]
    assert splits == [rule.split_of(source, str(number)) for number in range(400)]
    assert abs(splits.count("test") / 400 - 0.2) < 0.1
    assert abs(splits.count("val") / 400 - 0.1) < 0.08


def test_a_split_is_the_same_on_every_machine() -> None:
    """A change of this table means that everybody's splits change."""
    rule = SplitRule(val=0.3, test=0.3, unseen=0.5)
    splits = [rule.split_of("inat", name) for name in "abcdefgh"]
    assert splits == ["test", "val", "test", "val", "train", "train", "train", "test"]
    names = ("Pica pica", "Pica hudsonia", "Pica nuttalli", "Pica serica")
    assert [rule.holds_out(name) for name in names] == [True, True, False, True]


TABLE = "filepath,label,split\na.jpg,Pica pica,train\n"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"path_column": "path"}, "no column 'path'; it has filepath, label, split"),
        ({"label_column": "species_name"}, "no column 'species_name'"),
        ({"split_column": "fold", "label_column": "label"}, "no column 'fold'"),
        ({}, "give --label-column"),
    ],
)
def test_a_wrong_column_is_named_with_those_there_are(tmp_path: Path, columns: dict[str, str], says: str) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    source = TableSource(**{"table": tmp_path / "table.csv", "root": tmp_path, "path_column": "filepath", **columns})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=says):
        list(source.records())


def reject_reasons(source: Source) -> list[str]:
    return [item.reason for item in source.records() if hasattr(item, "reason")]


def test_a_split_table_must_know_every_picture(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE + "b.jpg,Pica pica,train\n")
    (tmp_path / "splits.csv").write_text("filepath,fold\na.jpg,test\n")
    source = TableSource(table=tmp_path / "table.csv", root=tmp_path, path_column="filepath", label_column="label",
                         split_table=tmp_path / "splits.csv")  # fmt: skip
    assert reject_reasons(source) == ["is not in the split table"]


def test_class_folders_of_inat21_give_the_whole_lineage(photographs: Path) -> None:
    records = list(FolderSource(root=photographs).records())
    assert len(records) == 12 * 8
    assert all(all(record.taxon.lineage) for record in records)  # type: ignore[union-attr]


def test_genera_of_one_name_in_two_kingdoms_stay_two(tmp_path: Path) -> None:
    gannets = "Animalia_Chordata_Aves_Suliformes_Sulidae_Morus_bassanus"
    mulberries = "Plantae_Tracheophyta_Magnoliopsida_Rosales_Moraceae_Morus_alba"
    for number, name in enumerate((gannets, mulberries)):
        folder = tmp_path / f"{number:05}_{name}"
        folder.mkdir()
        (folder / "1.jpg").write_bytes(simplejpeg.encode_jpeg(np.full((40, 40, 3), 90, np.uint8)))
    genera = {record.taxon.at(Rank.GENUS) for record in FolderSource(root=tmp_path).records()}  # type: ignore[union-attr]
    assert [genus.genus for genus in genera] == ["Morus", "Morus"]


def test_files_beside_the_class_folders_are_accounted_for(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", n_each=1)
    shutil.copyfile(root / "Pica pica" / "0.jpg", root / "stray.jpg")
    (root / "Pica pica" / "notes.txt").write_text("not a picture")
    assert reject_reasons(FolderSource(root=root)) == ["lies outside any class folder"]


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "truncated"),
        (lambda path: path.write_bytes(b"\0" * 2000), "bytes have changed"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_a_broken_shard_is_found_and_named(tmp_path: Path, harm: object, says: str) -> None:
    build_folder(write_photographs(tmp_path / "photos"), tmp_path / "data")
    shard = sorted((tmp_path / "data").glob("train/*.tar"))[0]
    harm(shard)  # type: ignore[operator]
    problems = list(iter_problems(DataSet.open(tmp_path / "data")))
    assert problems
    assert any(shard.name in problem and says in problem for problem in problems)


def test_a_picture_changed_inside_a_shard_is_found(tmp_path: Path) -> None:
    build_folder(write_photographs(tmp_path / "photos"), tmp_path / "data")
    dataset = DataSet.open(tmp_path / "data")
    row = dataset.index.row(0, named=True)
    shard = tmp_path / "data" / row["shard"]
    content = bytearray(shard.read_bytes())
    content[row["offset"] : row["offset"] + 20] = bytes(20)
    shard.write_bytes(content)
    assert any("checksum" in problem for problem in iter_problems(dataset))
    assert any(row["key"] in problem for problem in iter_problems(dataset, decode=True))


def test_reading_past_a_cut_shard_is_explained(tmp_path: Path) -> None:
    build_folder(write_photographs(tmp_path / "photos"), tmp_path / "data")
    dataset = DataSet.open(tmp_path / "data")
    shard = tmp_path / "data" / dataset.index["shard"][0]
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(LinnaeaError, match="ends before sample"):
        dataset.read(len(dataset.index.filter(pl.col("shard") == dataset.index["shard"][0])) - 1)


def test_unknown_splits_and_sources_are_answered_with_those_there_are(dataset_dir: Path, tmp_path: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    with pytest.raises(LinnaeaError, match="no split 'tets'; there are test, train, unseen, val"):
        dataset.split("tets")
    with pytest.raises(LinnaeaError, match="no source inat; there are metadata"):
        dataset.sources(("inat",))
    with pytest.raises(LinnaeaError, match="not a data set"):
        DataSet.open(tmp_path)


def test_facts_about_rights_are_kept(tmp_path: Path) -> None:
    root = write_photographs(tmp_path / "photos", n_each=1)
    (tmp_path / "t.csv").write_text(
        "filepath,scientific_name,licence,owner\nPica pica/0.jpg,Pica pica,CC-BY,A. Naturalist\n"
    )
    source = TableSource(table=tmp_path / "t.csv", root=root, path_column="filepath")
    build([source], tmp_path / "data", BuildConfig(), LocalEngine(1))
    licences = pl.read_parquet(tmp_path / "data" / "licences.parquet")
    assert licences.select("source", "licence", "owner").rows() == [("t", "CC-BY", "A. Naturalist")]


def test_real_photographs_are_all_accounted_for(tmp_path: Path, shared: Path) -> None:
    """A part of the real table: broad labels, odd names, groups, a fixed split."""
    folder = shared / "species-images"
    table = pl.read_csv(folder / "metadata.csv", infer_schema=False)
    part = table.filter(pl.col("source").is_in(["fungi", "big-cats"]))
    part.write_csv(tmp_path / "part.csv")
    source = TableSource(table=tmp_path / "part.csv", root=folder, path_column="filepath", label_column="raw_label",
                         split_table=folder / "eval-split.csv", group_column="group")  # fmt: skip
    summary = build([source], tmp_path / "data", BuildConfig(), LocalEngine(2))
    assert summary.n_in == part.height == summary.n_out + summary.n_rejected
    index = DataSet.open(tmp_path / "data").index
    wanted = dict(pl.read_csv(folder / "eval-split.csv").rows())
    assert set(index["source"]) == {"fungi", "big-cats"}
    assert index["split"].value_counts().sort("split").rows() == (
        part.select(pl.col("filepath").replace_strict(wanted).alias("split"))["split"]
        .value_counts()
        .sort("split")
        .rows()
    )


def test_tar_bytes_do_not_depend_on_the_clock(tmp_path: Path) -> None:
    from linnaea.data.shards import ShardWriter

    def write() -> bytes:
        stream = io.BytesIO()
        writer = ShardWriter(stream)
        writer.add("k", b"jpeg", {"a": 1}, {"txt": "words"})
        writer.close()
        return stream.getvalue()

    first = write()
    time.sleep(1.1)
    assert write() == first
