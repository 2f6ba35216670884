"""Tasks on the command line, from published files to scores; a naive reference gets the same numbers."""

import csv
import json
import random
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import polars as pl
import pytest
import torch

import linnaea
from linnaea.cli import main
from linnaea.data.shards import DataSet, make_taxa_table
from linnaea.evaluate.evaluation import _find_truth
from linnaea.taxonomy.taxon import Taxon

PUBLISHED_FOLDS = 5


@pytest.fixture(scope="module")
def album(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic photographs in Meta-Album's layout, with labels as untidy as there: underscores, an author."""
    root = tmp_path_factory.mktemp("album") / "fungi"
    (root / "images").mkdir(parents=True)
    rows = []
    table = pl.read_csv(photographs / "metadata.csv", infer_schema=False)
    for number, row in enumerate(table.iter_rows(named=True)):
        label = f"{row['genus']}_{row['species']} (L.) x"
        name = f"{number:04}.jpg"
        (root / "images" / name).write_bytes((photographs / row["filepath"]).read_bytes())
        rows.append((name, label, "x"))
    with (root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("FILE_NAME", "CATEGORY", "SUPER_CATEGORY"), *rows])
    return root


def run_task(trained: Path, root: Path, output: Path, *words: str) -> int:
    base = ["evaluate", str(trained), "--task", "fungi", "--root", str(root), "--output", str(output)]
    return main([*base, "--device", "cpu", "--allow-different", *words])


def naive_scores(model_dir: Path, root: Path) -> dict[str, float]:
    """From files to numbers after the published description, with open_clip alone, one thing at a time."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{model_dir}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{model_dir}", bpe_path=str(model_dir / "bpe.txt.gz"))
    model.eval()
    from PIL import Image

    listing = pl.read_csv(root / "labels.csv", infer_schema=False)
    labels = listing["CATEGORY"].to_list()
    with torch.no_grad():
        images = torch.cat(
            [model.encode_image(transform(Image.open(root / "images" / f).convert("RGB"))[None])
             for f in listing["FILE_NAME"]]
        )  # fmt: skip
        images = images / images.norm(dim=-1, keepdim=True)
        classes = list(dict.fromkeys(labels))
        columns = []
        for name in classes:
            texts = tokenizer([template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES])
            text = model.encode_text(texts)
            text = (text / text.norm(dim=-1, keepdim=True)).mean(dim=0)
            columns.append(text / text.norm())
        logits = model.logit_scale.exp() * images @ torch.stack(columns).T
    truth = torch.tensor([classes.index(label) for label in labels])
    scores = {}
    for k in (1, 3, 5):
        scores[f"zero_shot/asis/top{k}"] = float((logits.topk(k).indices == truth[:, None]).any(dim=1).double().mean())
    features = images.numpy().astype(np.float64)
    members = {name: [i for i, label in enumerate(labels) if label == name] for name in classes}
    for shots in (1, 5):
        folds = []
        for fold in range(PUBLISHED_FOLDS):
            random.seed(fold)
            for own in members.values():
                random.shuffle(own)
            support = np.array([features[i] for own in members.values() for i in own[:shots]])
            query = [(i, number) for number, own in enumerate(members.values()) for i in own[shots:]]
            mean = support.mean(axis=0)
            support = (support - mean) / np.linalg.norm(support - mean, axis=1, keepdims=True)
            centroids = support.reshape(len(members), shots, -1).mean(axis=1)
            right = 0
            for i, number in query:
                x = features[i] - mean
                right += int(np.argmin(np.linalg.norm(centroids - x / np.linalg.norm(x), axis=1)) == number)
            folds.append(right / len(query))
        scores[f"few_shot/{shots}/mean"] = float(np.mean(folds))
        scores[f"few_shot/{shots}/std"] = float(np.std(folds))
    return scores


def test_a_task_is_scored_as_the_naive_reference_does(trained: Path, album: Path, tmp_path: Path) -> None:
    assert run_task(trained, album, tmp_path, "--text-type", "asis") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for name, value in naive_scores(trained / "model", album).items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name
    assert json.loads((tmp_path / "run.json").read_text())["templates"] == "openai"


def test_so_it_is_on_real_photographs(trained: Path, shared: Path, tmp_path: Path) -> None:
    rows = []
    for folder in sorted(path for path in (shared / "species-images" / "big-cats").iterdir() if path.is_dir()):
        for number, path in enumerate(sorted(path for path in folder.rglob("*.jpg"))[:8]):
            name = f"{folder.name}-{number}.jpg"
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / "images" / name).symlink_to(path)
            rows.append((name, folder.name, "x"))
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("FILE_NAME", "CATEGORY", "SUPER_CATEGORY"), *rows])
    assert run_task(trained, tmp_path, tmp_path / "out", "--text-type", "asis") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_images"] >= 40
    examples = pl.read_parquet(tmp_path / "out" / "examples.parquet")
    right = (examples["few_shot_5_right"].fill_null(0) * examples["few_shot_5_asked"]).sum()
    assert right / examples["few_shot_5_asked"].sum() == pytest.approx(metrics["few_shot/5/mean"])
    for name, value in naive_scores(trained / "model", tmp_path).items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name


def test_raw_and_resolved_labels_come_side_by_side(trained: Path, album: Path, tmp_path: Path) -> None:
    assert run_task(trained, album, tmp_path, "--shots", "0", "--templates", "plain") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"zero_shot/asis/top1", "zero_shot/taxon_com/top1", "n_resolved_classes"} <= set(metrics)
    examples = pl.read_parquet(tmp_path / "examples.parquet")
    assert {"right", "right_taxon_com"} <= set(examples.columns)
    assert examples["key"][0] == "images/0000.jpg"


def test_all_tasks_go_on_past_those_that_are_missing(
    trained: Path, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root" / "plankton").mkdir(parents=True)
    (tmp_path / "root" / "fungi").symlink_to(album)
    words = ["evaluate", str(trained), "--task", "all", "--root", str(tmp_path / "root"), "--shots", "1"]
    assert main([*words, "--output", str(tmp_path / "out"), "--allow-different", "--device", "cpu"]) == 3
    rows = pl.read_csv(tmp_path / "out" / "tasks.csv")
    state = dict(zip(rows["task"], rows["state"], strict=True))
    assert state["fungi"] == "done"
    assert state["plankton"] == state["birds525"] == "missing"
    assert rows["reason"].null_count() == 1, "every missing task has a reason"
    assert (tmp_path / "out" / "fungi" / "metrics.json").exists()
    assert "fungi" in capsys.readouterr().out


def test_any_folder_of_class_folders_is_a_task(trained: Path, album: Path, tmp_path: Path) -> None:
    listing = pl.read_csv(album / "labels.csv", infer_schema=False)
    for file, label in listing.select("FILE_NAME", "CATEGORY").iter_rows():
        (tmp_path / "mine" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / label / file).symlink_to(album / "images" / file)
    words = ["evaluate", str(trained), "--task", "folder", "--root", str(tmp_path / "mine"), "--text-type", "asis"]
    assert main([*words, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert run_task(trained, album, tmp_path / "album", "--text-type", "asis") == 0
    ours, same = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("out", "album"))
    assert ours["zero_shot/asis/top1"] == same["zero_shot/asis/top1"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["what"] == "folder mine"


def make_beyond_species(root: Path, photographs: Path) -> None:
    """Small folders in the layouts of the tasks beyond species, four classes of six photographs."""
    folders = sorted(path for path in photographs.iterdir() if path.is_dir())
    images = [(number, path) for number, folder in enumerate(folders[:4]) for path in sorted(folder.rglob("*.jpg"))[:6]]
    lines: dict[str, list[str]] = {"newt/newt2021_labels.csv": ["id,task,task_cluster,task_subcluster,label,split"]}
    for split in ("train", "test"):
        lines[f"fishnet/{split}.csv"] = [",".join([*"abcdefghijklmn", "FeedingPath", "Tropical", "Temperate",
                                                   "Subtropical", "Boreal", "Polar", "freshwater", "saltwater",
                                                   "brackish"])]  # fmt: skip
    for place, (number, path) in enumerate(images):
        name, split = f"{place}.jpg", "train" if place % 2 else "test"
        for target in (f"plantdoc-transfer/{split}/c{number}", f"herbarium19/small-train/c{number}",
                       f"awa2/JPEGImages/c{number}", "newt/newt2021_images", "fishnet/Image_Library/x"):  # fmt: skip
            (root / target).mkdir(parents=True, exist_ok=True)
            (root / target / name).symlink_to(path)
        lines["newt/newt2021_labels.csv"].append(f"{place},t{number // 2},appearance,,{number % 2},{split}")
        cells = [str(i) for i in range(14)]
        cells[3], cells[12] = name, "x"
        known = ["pelagic" if number % 2 else "benthic", *(["1", "0"] * 4)]
        lines[f"fishnet/{split}.csv"].append(",".join([*cells, *known]))
    lines["herbarium19/old-classes.txt"] = ["c0", "c1"]
    lines |= {"awa2/classes.txt": [f"{i}\tc{i}" for i in range(4)], "awa2/predicates.txt": ["1\ta", "2\tb", "3\tc"],
              "awa2/predicate-matrix-binary.txt": ["0 0 1", "1 0 1", "0 1 1", "1 1 1"],
              "awa2/trainclasses.txt": ["c0", "c1", "c2"], "awa2/testclasses.txt": ["c3"]}  # fmt: skip
    for file, content in lines.items():
        (root / file).write_text("\n".join(content) + "\n")


def test_tasks_beyond_species_run_from_their_folders(
    trained: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from linnaea.evaluate import beyond_species

    monkeypatch.setattr(beyond_species, "score_pairs", partial(beyond_species.score_pairs, n_runs=1, n_draws=2))
    monkeypatch.setattr("linnaea.evaluate.tasks.protocols.score_pairs", beyond_species.score_pairs)
    make_beyond_species(tmp_path, photographs)
    scores = {"plantdoc-transfer": "transfer/mean", "herbarium19": "discovery/all/mean",
              "awa2": "traits/first_two/mean", "newt": "pairs/mean", "fishnet": "traits/at_zero/mean"}  # fmt: skip
    for task, score in scores.items():
        words = ["--task", task, "--root", str(tmp_path / task), "--output", str(tmp_path / "out" / task)]
        assert main(["evaluate", str(trained), *words, "--device", "cpu", "--workers", "1"]) == 0
        metrics = json.loads((tmp_path / "out" / task / "metrics.json").read_text())
        assert 0 <= metrics[score] <= 1, task
        assert all(isinstance(value, int | float) for value in metrics.values())
    assert main(["compare", str(tmp_path / "out"), "--output", str(tmp_path / "compared")]) == 0
    assert "37.4" in (tmp_path / "compared" / "compare.md").read_text(), "DINOv2 on FishNet stands beside it"
    (tmp_path / "herbarium19" / "old-classes.txt").unlink()
    words = ["--task", "herbarium19", "--root", str(tmp_path / "herbarium19"), "--output", str(tmp_path / "out" / "h")]
    assert main(["evaluate", str(trained), *words, "--device", "cpu"]) == 1


@pytest.mark.long
def test_encoding_goes_on_after_kill_9(dataset_dir: Path, trained: Path, tmp_path: Path) -> None:
    from linnaea.data.shards import DataSet
    from linnaea.evaluate import features
    from linnaea.model.open import load_model

    code = f"""
import time
from pathlib import Path
from typing import Any
from linnaea.data.shards import DataSet
from linnaea.evaluate import features
from linnaea.model.open import load_model
features.SAVE_EVERY = 8
encode = features.iter_encoded_images
def slowly(*args, **options):
    for item in encode(*args, **options):
        time.sleep(0.02)
        yield item
features.iter_encoded_images = slowly
data = DataSet.open(Path({str(dataset_dir)!r})).split("train")
features.encode_dataset(load_model({str(trained)!r}, device="cpu"), data, Path({str(tmp_path / "cache")!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    state = tmp_path / "cache" / "features.json"
    deadline = time.monotonic() + 90
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    model, data = load_model(str(trained), device="cpu"), DataSet.open(dataset_dir).split("train")
    done = json.loads(state.read_text())["done"]
    assert 0 < done < len(data)
    seen: list[tuple[int, int | None]] = []
    again = features.encode_dataset(model, data, tmp_path / "cache", on_progress=lambda *a: seen.append(a))
    assert seen[0][0] == done + 1, "what was done is not done again"
    assert np.allclose(again, features.encode_dataset(model, data, tmp_path / "fresh"), atol=1e-6)


def test_wrong_words_are_usage_errors(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["evaluate", str(trained), "--output", str(tmp_path)]
    assert main(base) == 2
    assert main([*base, "--task", "fungi"]) == 2
    assert main([*base, "--task", "fungus", "--root", str(tmp_path)]) == 2
    assert "no such task" in capsys.readouterr().err
    assert main([*base, "--task", "fungi", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_templates_may_come_from_a_file(trained: Path, album: Path, tmp_path: Path) -> None:
    from linnaea.errors import LinnaeaError
    from linnaea.evaluate.evaluation import read_templates

    (tmp_path / "t.txt").write_text("a {} in the wild\n\na drawing of {}\n")
    assert read_templates(str(tmp_path / "t.txt")) == ("a {} in the wild", "a drawing of {}")
    assert len(read_templates("openai")) == 80
    (tmp_path / "wrong.txt").write_text("a photo\n")
    with pytest.raises(LinnaeaError, match=r"has no \{\}"):
        read_templates(str(tmp_path / "wrong.txt"))
    with pytest.raises(LinnaeaError, match="photo, plain, openai"):
        read_templates("opnai")


def test_seen_and_unseen_species_are_scored_apart(dataset_dir: Path, trained: Path, tmp_path: Path) -> None:
    from linnaea.data.shards import DataSet

    data = DataSet.open(dataset_dir)
    seen = tmp_path / "seen.txt"
    names = [data.taxon(i).scientific_name for i in data.split("train").index["taxon_id"].unique()]
    seen.write_text("\n".join(names))
    words = ["evaluate", str(trained), "--data", str(dataset_dir), "--shots", "0", "--seen", str(seen)]
    for split, part in (("test", "seen"), ("unseen", "unseen")):
        assert main([*words, "--split", split, "--output", str(tmp_path / split)]) == 0
        metrics = json.loads((tmp_path / split / "metrics.json").read_text())
        assert metrics[f"zero_shot/taxon_com/{part}/n_images"] == metrics["n_images"]
        assert metrics[f"zero_shot/taxon_com/{part}/top1"] == metrics["zero_shot/taxon_com/top1"]
        assert f"zero_shot/taxon_com/{part}/genus" in metrics


def test_a_data_sets_own_unseen_species_are_not_seen(dataset_dir: Path, trained: Path) -> None:
    found = linnaea.evaluate(trained, data=dataset_dir, split="unseen", shots=(0,), seen=dataset_dir, device="cpu")
    metrics = found.metrics
    assert metrics["zero_shot/taxon_com/seen/n_images"] == 0
    assert metrics["zero_shot/taxon_com/unseen/n_images"] == metrics["n_images"] > 0
    known = linnaea.evaluate(trained, data=dataset_dir, split="test", shots=(0,), seen=dataset_dir, device="cpu")
    assert known.metrics["zero_shot/taxon_com/seen/n_images"] == known.metrics["n_images"]


def test_features_of_another_run_are_never_mixed_in(
    dataset_dir: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that dies at any moment leaves a state that vouches for nothing it has not written."""
    from linnaea.data.shards import DataSet
    from linnaea.evaluate import features
    from linnaea.model.open import load_model

    model = load_model(str(trained), device="cpu")
    data = DataSet.open(dataset_dir).split("test")
    whole = features.encode_dataset(model, data, tmp_path / "whole").copy()
    folder = tmp_path / "cache"
    features.encode_dataset(model, data, folder)

    class Killed(BaseException):
        pass

    def dies(*args: object, **options: object) -> object:
        raise Killed
        yield

    with monkeypatch.context() as patch:  # other vectors (not normalised) begin to overwrite, and the writer dies
        patch.setattr(features, "iter_encoded_images", dies)
        with pytest.raises(Killed):
            features.encode_dataset(model, data, folder, unit=False)
    assert np.array_equal(features.encode_dataset(model, data, folder), whole)
    (folder / "features.npy").write_bytes((folder / "features.npy").read_bytes()[:200])
    assert np.array_equal(features.encode_dataset(model, data, folder), whole)
    assert not np.allclose(np.linalg.norm(features.encode_dataset(model, data, folder, unit=False), axis=1), 1)


def test_a_model_of_images_alone_is_scored_without_text(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm

    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1), tmp_path / "m",
                            model_args={"img_size": 32, "depth": 1})  # fmt: skip
    words = ["evaluate", f"timm:{tmp_path / 'm'}", "--data", str(dataset_dir), "--output", str(tmp_path / "out")]
    words += ["--split", "train"]
    assert main([*words, "--probe", "knn", "ridge", "--shots", "0", "1"]) == 0
    assert "zero-shot is left out" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not any(name.startswith("zero_shot") for name in metrics)
    assert {"few_shot/1/mean", "probe/knn/mean", "probe/ridge/std"} <= set(metrics)
    assert main(["evaluate", "timm:no_such_thing", *words[2:]]) == 1
    assert "timm has no" in capsys.readouterr().err


FOLDERS = ("ADONIS", "Pica pica", "Felis catus", "Danaus plexippus", "Danaus plexippus larva", "my plant")
"""A word that is a genus of plants too, species, two classes of one lineage, and words without a lineage."""


def test_a_folder_is_read_as_adapt_reads_it_and_its_head_answers(
    trained: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, head, model = tmp_path / "mine", tmp_path / "head", str(trained / "model")
    classes = sorted(path for path in photographs.iterdir() if path.is_dir())
    for name, folder in zip(FOLDERS, classes, strict=False):
        shutil.copytree(folder, mine / name)
    assert main(["adapt", str(mine), "--output", str(head), "--model", model]) == 0
    words = ["evaluate", model, "--task", "folder", "--root", str(mine), "--templates", "photo", "--shots", "0"]
    assert main([*words, "--output", str(tmp_path / "names")]) == 0
    capsys.readouterr()
    assert main([*words, "--labels", str(head), "--output", str(tmp_path / "learned")]) == 0
    assert "no test on photographs that it learned from" in " ".join(capsys.readouterr().err.split())
    fitted, names, learned = (json.loads((tmp_path / f"{one}/metrics.json").read_text())
                              for one in ("head", "names", "learned"))  # fmt: skip
    assert names["zero_shot/taxon_com/top1"] == pytest.approx(fitted["zero-shot/top1"])
    out = tmp_path / "answers.csv"
    ask = ["predict", str(mine), "--model", model, "--labels", str(head), "--top-k", "1", "--output", str(out)]
    assert main(ask) == 0
    rows = pl.read_csv(out).rows(named=True)
    right = [_is_right(Path(row["file_name"]).parent.name, row) for row in rows]
    assert learned["zero_shot/taxon_com/top1"] == pytest.approx(sum(right) / len(right))
    assert learned["zero_shot/taxon_com/top1"] > names["zero_shot/taxon_com/top1"]
    assert not any(key.startswith("zero_shot/asis") for key in learned)


def _is_right(folder: str, row: dict[str, Any]) -> bool:
    if folder == "Danaus plexippus":
        return row["species"] == folder and "larva" not in str(row["common_name"])
    return folder in (row["species"], row["common_name"])


def test_a_head_of_another_model_is_refused(
    trained: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, head = tmp_path / "mine", tmp_path / "head"
    for folder in sorted(path for path in photographs.iterdir() if path.is_dir())[:2]:
        shutil.copytree(folder, mine / folder.name)
    assert main(["adapt", str(mine), "--output", str(head), "--model", str(trained / "model")]) == 0
    facts = json.loads((head / "bank.json").read_text())
    (head / "bank.json").write_text(json.dumps({**facts, "model": "another"}))
    words = ["evaluate", str(trained / "model"), "--task", "folder", "--root", str(mine), "--labels", str(head)]
    assert main([*words, "--output", str(tmp_path / "scores")]) == 1
    assert "made with another model" in capsys.readouterr().err


def test_a_species_beside_its_classes_is_not_taken_for_one_of_them() -> None:
    lineage = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus", "plexippus")
    table = make_taxa_table([Taxon(lineage, f"Danaus plexippus{stage}") for stage in (" adult", " larva", "")])
    truth = make_taxa_table([Taxon(lineage, name) for name in ("", "Danaus plexippus larva", "Monarch")])
    for candidates in (table, table.reverse()):
        asked = DataSet(Path("asked"), pl.DataFrame({"taxon_id": [0, 1, 2]}), truth)
        found, _ = _find_truth(asked, candidates)
        names = candidates["common_name"].gather(found).to_list()
        wanted = {name: name.replace("Monarch", "") or "Danaus plexippus" for name in truth["common_name"]}
        assert dict(zip(truth["common_name"], names, strict=True)) == wanted
