"""A head from one's own photographs: the closed form is right, validation is honest, and it is a bank like others."""

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
from linnaea.predict.adapt import fit_head
from linnaea.predict.calibration import Calibration, read_calibration, write_calibration
from linnaea.predict.labels import LabelBank


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_photographs(n_classes: int, n_each: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = unit(random.normal(size=(n_classes, 24)))
    labels = np.repeat(np.arange(n_classes), n_each)
    return unit(centres[labels] + noise * random.normal(size=(len(labels), 24))), labels


def test_ridge_minimises_what_it_says() -> None:
    """Against gradient descent on the sum over classes of mean squared errors plus the penalty."""
    images, labels = make_photographs(4, 5, 0.2)
    images, labels = images[:-3], labels[:-3]  # classes of unequal size
    weights = adapt._ridge(images, labels, 4, 0.1).astype(np.float64)
    x, counts = images.astype(np.float64), np.bincount(labels)
    w = 1 / counts[labels]
    penalty = 0.1 * np.trace((x * w[:, None]).T @ x) / x.shape[1]
    residual = x @ weights.T - np.eye(4)[labels]
    gradient = (residual * w[:, None]).T @ x + penalty * weights
    assert np.abs(gradient).max() < 1e-6


def test_where_names_say_nothing_the_head_decides() -> None:
    images, labels = make_photographs(6, 10, 0.15)
    text = unit(np.random.default_rng(9).normal(size=(6, 24)))
    fitted = fit_head(images, labels, text, 50.0)
    right = (fitted.best.answers == labels).mean()
    assert right > 0.95
    assert (fitted.zero_shot.answers == labels).mean() < 0.6
    assert fitted.best.choice.mix >= 0.5
    new, new_labels = make_photographs(6, 40, 0.15)
    answers = (50.0 * new @ fitted.weights_KE.T).argmax(axis=1)
    assert (answers == new_labels).mean() > 0.95, "the weights are those of a bank"


def test_a_few_photographs_are_no_reason_for_certainty() -> None:
    """All are answered rightly in validation, at any temperature; the answers are not therefore 100% sure."""
    sure = []
    for n_each in (4, 40):
        images, labels = make_photographs(6, n_each, 0.05)
        text = unit(np.random.default_rng(9).normal(size=(6, 24)))
        fitted = fit_head(images, labels, text, 50.0)
        assert (fitted.best.answers == labels).all()
        new, _ = make_photographs(6, 40, 0.05)
        logits = 50.0 * new @ fitted.weights_KE.T
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        sure.append(float((exponents.max(axis=1) / exponents.sum(axis=1)).mean()))
    assert 0.8 < sure[0] < 0.99
    assert sure[0] < sure[1] < 0.9999


def test_where_photographs_are_noise_names_decide() -> None:
    images, labels = make_photographs(5, 3, 0.02)
    text = np.stack([images[labels == n].mean(axis=0) for n in range(5)])
    wrong = np.random.default_rng(1).permutation(labels)
    fitted = fit_head(images, wrong, unit(text), 30.0)
    honest = fit_head(images, labels, unit(text), 30.0)
    assert honest.best.nll < fitted.best.nll
    assert (honest.zero_shot.answers == labels).all()
    random = np.random.default_rng(0)
    noise = unit(random.normal(size=(60, 24)))
    labels = random.integers(0, 5, 60)
    fitted = fit_head(noise, labels, unit(text), 1.0)
    assert fitted.best.nll <= np.log(5) + 0.05, "no worse than knowing nothing"


def test_blend_is_never_worse_in_validation_than_its_parts() -> None:
    images, labels = make_photographs(6, 4, 0.4)
    text = unit(np.stack([images[labels == n].mean(axis=0) for n in range(6)]) + 0.3)
    fitted = fit_head(images, labels, text, 20.0)
    assert fitted.best.nll <= min(fitted.zero_shot.nll, fitted.head.nll)


def test_a_group_is_never_split_and_single_photographs_are_not_validated() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    groups = ["a", "a", "a", "", "", ""]
    folds = adapt._folds(labels, groups)
    assert len(set(folds[:3].tolist())) == 1
    assert folds[3] != folds[4]
    assert adapt._seen_elsewhere(folds, labels).tolist() == [False, False, False, True, True, False]
    with pytest.raises(ValueError, match="validation needs"):
        fit_head(unit(np.eye(3)), np.arange(3), unit(np.eye(3)), 10.0)


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
