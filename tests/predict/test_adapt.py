"""A head from one's own photographs is a bank like others."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from scenes import scene

from linnaea.cli import main
from linnaea.predict import adapt
from linnaea.predict.calibration import Calibration, read_calibration, write_calibration
from linnaea.predict.labels import LabelBank


def test_the_command_gives_a_bank_that_predict_takes(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    folders = sorted(path for path in photographs.iterdir() if path.is_dir())[:4]
    for folder in folders:
        shutil.copytree(folder, mine / folder.name)
    (mine / folders[0].name / "bad.jpg").write_text("no picture")
    head = tmp_path / "head"
    model = ["--model", str(trained / "model")]
    assert main(["adapt", str(mine), "--output", str(head), *model]) == 3
    shown = capsys.readouterr()
    assert "32 photographs of 4 classes" in shown.out
    assert "bad.jpg" in shown.err
    metrics = json.loads((head / "metrics.json").read_text())
    assert metrics["blended/nll"] <= metrics["zero-shot/nll"]
    assert "Confusions" in (head / "report.html").read_text()
    out = tmp_path / "p.csv"
    images = [str(path) for path in sorted(mine.rglob("*.jpg")) if path.name != "bad.jpg"]
    assert main(["predict", *images, *model, "--labels", str(head), "--top-k", "1", "--output", str(out)]) == 0
    table = pl.read_csv(out)
    right = [row["genus"] in row["file_name"] for row in table.iter_rows(named=True)]
    assert np.mean(right) > 0.5, "on photographs that were fitted"
    assert main(["adapt", str(tmp_path / "nothing"), "--output", str(head), *model]) == 1
    (tmp_path / "more.txt").write_text("Pica pica\n")
    assert main(["labels", "append", str(head), "--taxa", str(tmp_path / "more.txt"), *model]) == 1
    assert "adapt again" in capsys.readouterr().err


def test_a_models_calibration_is_not_its_heads(photographs: Path, trained: Path, tmp_path: Path) -> None:
    """What the model learnt about its own labels, here that nothing shows any, says nothing about other classes."""
    model, mine, head = tmp_path / "model", tmp_path / "mine", tmp_path / "head"
    shutil.copytree(trained / "model", model)
    write_calibration(model, Calibration(temperature=9.0, evidence=(8.0, 9.0), least_evidence=9.0, n_labels=12))
    for folder in sorted(path for path in photographs.iterdir() if path.is_dir())[:3]:
        shutil.copytree(folder, mine / folder.name)
    assert main(["adapt", str(mine), "--output", str(head), "--model", str(model)]) == 0
    auto = ["predict", str(mine), "--model", str(model), "--rank", "auto", "--confidence", "0.34"]
    assert main([*auto, "--output", str(tmp_path / "own.csv")]) == 0
    assert set(pl.read_csv(tmp_path / "own.csv")["status"]) == {"abstained"}
    assert main([*auto, "--labels", str(head), "--output", str(tmp_path / "head.csv")]) == 0
    assert "ok" in set(pl.read_csv(tmp_path / "head.csv")["status"])
    learnt = read_calibration(LabelBank.open(head).facts)
    assert learnt is not None
    assert (learnt.temperature, learnt.n_images, learnt.n_labels) == (1.0, 24, 3)


def write_frames(root: Path, *, n_frames: int, n_scenes: int = 12, seed: int = 0) -> Path:
    """Scenes under names at random, each as frames that moved a little."""
    names = ["Pica pica", "Corvus corax", "Vulpes vulpes"]
    rng = np.random.default_rng(seed)
    for number in range(n_scenes):
        whole, folder = scene(number, 300, 300), root / names[number % len(names)]
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(n_frames):
            top, left = rng.integers(0, 10, 2)
            Image.fromarray(whole[top : top + 290, left : left + 290]).save(folder / f"{number}-{frame}.jpg")
    return root


def test_frames_of_one_burst_are_no_test_of_one_another(tmp_path: Path, trained: Path) -> None:
    """Names at random cannot be known: five frames of each scene are not more right than one."""
    burst, alone = (adapt.adapt(write_frames(tmp_path / str(n), n_frames=n), model=trained / "model") for n in (5, 1))
    assert burst.metrics["n_groups"] == alone.metrics["n_groups"] == 12
    assert burst.metrics["n_images"] == 60
    assert burst.metrics["blended/top1"] < 0.75
    assert any("60 photographs of 12 moments" in note for note in burst.notes)


def test_train_is_fitted_and_test_is_the_report(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mine"
    write_frames(root / "train", n_frames=1)
    write_frames(root / "test", n_frames=1, n_scenes=6)  # the same scenes, moved a little
    words = ["adapt", str(root), "--output", str(tmp_path / "head"), "--model", str(trained / "model")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "12 photographs of 3 classes" in shown.out
    assert "right on 6 photographs of split test" in shown.err
    assert "6 of 6 photographs of test are of a burst in train" in shown.err
    metrics = json.loads((tmp_path / "head" / "metrics.json").read_text())
    assert metrics["test/n_images"] == 6
    assert 0 <= metrics["test/top1"] <= 1
    assert "right on 6 photographs of test" in (tmp_path / "head" / "report.html").read_text()


def test_nothing_and_anything_else_are_classes(tmp_path: Path, trained: Path) -> None:
    root = write_frames(tmp_path / "mine", n_frames=1)
    (root / "Pica pica").rename(root / "empty")
    (root / "Corvus corax").rename(root / "other")
    head = adapt.adapt(root, model=trained / "model")
    assert {taxon.common_name for taxon in head.bank.taxa_list} == {"empty", "other", ""}
    assert not head.failed
