"""What is learned from reviewed photographs helps where it can, harms nothing else, and is measured on others."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from linnaea.cli import main
from linnaea.data.shards import make_taxa_table
from linnaea.model import encode
from linnaea.predict.adapt_reviewed import sign_test
from linnaea.predict.labels import LabelBank
from linnaea.predict.records.decisions import Decision, DecisionLog, Kind
from linnaea.predict.relearn import Task, learn, make_task
from linnaea.storage import read_json
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

N_CLASSES, WIDTH, SCALE = 12, 32, 20.0


def taxa(n: int = N_CLASSES) -> list[Taxon]:
    return [Taxon.of(kingdom="Animalia", family=f"Fam{k // 4}", genus=f"Gen{k // 2}", species=f"spec{k:02d}")
            for k in range(n)]  # fmt: skip


def unit(array: Any) -> Any:
    return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True), np.float32)


@pytest.fixture
def world() -> tuple[LabelBank, Any]:
    """Names that point near their photographs, but the first two are exchanged."""
    rng = np.random.default_rng(0)
    means = unit(rng.normal(size=(N_CLASSES, WIDTH)))
    shared = unit(rng.normal(size=WIDTH))
    names = unit(means + 0.05 * rng.normal(size=means.shape))
    names[[0, 1]] = names[[1, 0]]
    bank = LabelBank(make_taxa_table(taxa()), names, {"model": "none"})

    def photographs(labels: Any) -> Any:
        return unit(means[labels] + 0.08 * rng.normal(size=(len(labels), WIDTH)) + shared)

    return bank, photographs


def task_of(bank: LabelBank, image: Any, labels: Any, events: list[str] | None = None) -> Task:
    rows = np.stack([labels, labels + 1], axis=1).astype(np.int64)
    named = [str(n) for n in range(len(labels))] if events is None else events
    return make_task(image, rows, named, bank, SCALE, np.zeros(len(bank), np.float32))


def right(vectors: Any, image: Any, labels: Any) -> float:
    return float(((image @ vectors.T).argmax(axis=1) == labels).mean())


def moved(bank: LabelBank, task: Task, vectors: Any) -> Any:
    new = np.array(bank.vectors, np.float32)
    new[task.active_A] = vectors
    return new


def test_names_that_mislead_are_mended_and_the_others_stay(world: tuple[LabelBank, Any]) -> None:
    bank, photographs = world
    labels = np.repeat([0, 1, 2, 3], 8)
    task = task_of(bank, photographs(labels), labels)
    learned = learn(task)
    assert learned.right_before_N[:16].mean() < 0.1
    assert learned.right_after_N[:16].mean() > 0.9
    assert learned.nll_after < learned.nll_before
    new = moved(bank, task, learned.vectors_AE)
    others = np.repeat(np.arange(4, N_CLASSES), 20)
    seen = photographs(others)
    assert right(new, seen, others) >= right(np.asarray(bank.vectors), seen, others) - 0.02


def test_names_that_are_right_stay(world: tuple[LabelBank, Any]) -> None:
    bank, photographs = world
    labels = np.repeat(np.arange(4, 10), 5)
    task = task_of(bank, photographs(labels), labels)
    learned = learn(task)
    assert learned.right_after_N.mean() >= learned.right_before_N.mean() - 0.05
    seen = photographs(labels)
    assert right(moved(bank, task, learned.vectors_AE), seen, labels) > 0.9


def test_before_and_after_are_measured_on_other_events(world: tuple[LabelBank, Any]) -> None:
    """Wrong names, each given to the photographs of one event only: nothing of that can be known beforehand."""
    bank, photographs = world
    shown = np.repeat(np.arange(2, 12), 4)
    given = np.repeat(np.random.default_rng(1).permutation(np.arange(2, 12)), 4)
    task = task_of(bank, photographs(shown), given, [f"event {n // 4}" for n in range(len(shown))])
    learned = learn(task)
    assert learned.right_after_N.mean() <= learned.right_before_N.mean() + 0.1
    by_heart = right(moved(bank, task, learned.vectors_AE), task.image_NE, given)
    assert by_heart > learned.right_after_N.mean() + 0.3, "measured on the same events it would look good"


def test_a_genus_asks_for_any_of_its_species(world: tuple[LabelBank, Any]) -> None:
    bank, photographs = world
    labels = np.repeat([4, 5], 10)
    rows = np.tile(np.array([[4, 6]]), (len(labels), 1))
    task = make_task(photographs(labels), rows, [str(n) for n in range(20)], bank, SCALE, np.zeros(12, np.float32))
    assert learn(task).right_after_N.all()


@pytest.mark.parametrize(("better", "worse", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (1, 1, 1.0), (8, 1, 0.0390625)])
def test_the_test_of_signs_is_exact(better: int, worse: int, p: float) -> None:
    assert sign_test(better, worse) == pytest.approx(p)


def decide(folder: Path, photographs: Path, n: int, *, kind: Kind = Kind.CORRECTED) -> Path:
    """Decisions on the first photographs, whose names are those of their folders' table."""
    table = pl.read_csv(photographs / "metadata.csv", infer_schema=False).head(n)
    log = DecisionLog(folder / "decisions.jsonl")
    for row in table.iter_rows(named=True):
        taxon = Taxon.of({rank: row[rank] or "" for rank in RANK_LABELS})
        log.add([Decision(file_name=str(photographs / row["filepath"]), reviewer="Ann", kind=kind,
                          taxon=taxon if kind is Kind.CORRECTED else None)])  # fmt: skip
    return log.path


def test_adapt_learns_from_decisions_and_predict_takes_the_labels(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, head = decide(tmp_path, photographs, 40), tmp_path / "head"
    extra = Taxon.of(kingdom="Animalia", genus="Novus", species="unus")
    first = next(photographs.rglob("*.jpg"))
    DecisionLog(path).add([Decision(file_name=f"{first}#0", bbox="0 0 0.9 0.9", reviewer="Cleo", kind=Kind.CORRECTED,
                                    taxon=extra)])  # fmt: skip
    model = str(trained / "model")
    assert main(["adapt", "--decisions", str(path), "--model", model, "--output", str(head)]) == 0
    said = capsys.readouterr().err
    assert "held out by event" in said
    assert "right before" in said
    assert "labels are new" in said
    bank = LabelBank.open(head)
    assert "Novus unus" in bank.taxa["scientific_name"].to_list(), "learned from a part of a photograph"
    assert bank.facts["adapted"]["reviewed"] == 41
    assert (head / "report.html").exists()
    words = ["predict", str(first), "--model", model, "--labels", str(head), "--output", str(tmp_path / "o.csv")]
    assert main(words) == 0


def test_what_was_encoded_before_an_interruption_is_not_encoded_again(
    photographs: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "KEPT_PHOTOGRAPHS_FROM", 8)
    path, model = decide(tmp_path, photographs, 40), str(trained / "model")
    words = ["adapt", "--decisions", str(path), "--model", model, "--output"]
    assert main([*words, str(tmp_path / "first")]) == 0
    monkeypatch.setattr(encode, "_encode_batch", lambda model, batch, *more: pytest.fail("encoded") if batch else ())
    assert main([*words, str(tmp_path / "again")]) == 0
    both = [LabelBank.open(tmp_path / name) for name in ("first", "again")]
    assert (np.asarray(both[0].vectors) == np.asarray(both[1].vectors)).all()


def test_too_little_is_said(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = decide(tmp_path, photographs, 7), str(trained / "model")
    assert main(["adapt", "--decisions", str(path), "--model", model, "--output", str(tmp_path / "head")]) == 1
    assert "7 events with names" in capsys.readouterr().err
    assert main(["labels", "calibrate", "--decisions", str(path), "--model", model]) == 1
    assert "needs 68; review more" in capsys.readouterr().err
    assert main(["adapt", "--output", str(tmp_path / "head")]) == 2
    assert main(["labels", "calibrate", "--model", model]) == 2


def test_calibrate_says_before_and_after_and_writes_only_what_is_better(
    photographs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    path = decide(tmp_path, photographs, 96)
    assert main(["labels", "calibrate", "--decisions", str(path), "--model", str(model)]) == 0
    output = capsys.readouterr()
    assert "held out by event, before" in output.err
    assert "held out by event, after" in output.err
    assert "96 reviewed photographs of 96 events" in output.out
    assert read_json(model / "linnaea.json", kind="facts")["calibration"]["temperature"] > 0
