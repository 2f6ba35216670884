"""The published protocols, checked to the last example against naive code written from their description."""

import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.evaluate.probes import score_few_shot, simple_shot
from linnaea.evaluate.zero_shot import classify, lca_heights, merge_captions, score_answers
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.taxon import Taxon, TextType


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def naive_few_shot(features: np.ndarray, labels: np.ndarray, all_shots: tuple[int, ...]) -> dict[int, list[float]]:
    """SimpleShot as the reference describes it: one query at a time, distances to every centroid."""
    images_of: dict[int, list[int]] = {}
    for image, label in enumerate(labels):
        images_of.setdefault(int(label), []).append(image)
    accuracies: dict[int, list[float]] = {}
    for n_shots in all_shots:
        for fold in range(5):
            random.seed(fold)
            support: dict[int, list[int]] = {}
            query: list[tuple[int, int]] = []
            for label, images in images_of.items():  # in the order of their first images
                random.shuffle(images)
                support[label] = images[:n_shots]
                query += [(image, label) for image in images[n_shots:]]
            mean = np.mean([features[i] for images in support.values() for i in images], axis=0)
            centroids = {
                c: np.mean([unit(features[i] - mean) for i in images], axis=0) for c, images in support.items()
            }
            right = 0
            for image, label in query:
                x = unit(features[image] - mean)
                nearest = min(centroids, key=lambda c: (np.linalg.norm(x - centroids[c]), c))
                right += nearest == label
            accuracies.setdefault(n_shots, []).append(right / len(query))
    return accuracies


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 7), st.integers(6, 9), st.integers(0, 1000))
def test_few_shot_is_the_published_protocol(n_classes: int, n_each: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(n_classes), n_each))
    features = unit(rng.normal(size=(n_classes, 16))[labels] + rng.normal(size=(len(labels), 16)))
    scores = score_few_shot(features, labels, (1, 5))
    naive = naive_few_shot(features, labels, (1, 5))
    for score in scores:
        assert score.fold_accuracy == pytest.approx(naive[score.n_shots], abs=1e-12)
        assert score.mean == pytest.approx(np.mean(naive[score.n_shots]))
        assert score.std == pytest.approx(np.std(naive[score.n_shots]))


def test_classes_with_too_few_images_are_counted_not_fatal() -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 8 + [1] * 8 + [2] * 3)
    one, five = score_few_shot(unit(rng.normal(size=(19, 8))), labels, (1, 5))
    assert (one.n_classes, one.n_skipped) == (3, 0)
    assert (five.n_classes, five.n_skipped) == (2, 1)


def test_separate_classes_are_told_apart_from_one_image() -> None:
    corners = np.eye(4)[np.repeat(np.arange(4), 5)] + 0.01
    answers = simple_shot(np.eye(4), np.arange(4), unit(corners), 4)
    assert answers.tolist() == np.repeat(np.arange(4), 5).tolist()


def test_memory_of_few_shot_is_that_of_a_block() -> None:
    """400 classes x 12,000 queries x 512 as one tensor of differences would be 9.8 GB."""
    import tracemalloc

    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(400), 5)
    support = unit(rng.normal(size=(2000, 512))).astype(np.float32)
    query = np.tile(support, (6, 1))
    tracemalloc.start()
    answers = simple_shot(support, label, query, 400)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6
    assert (answers == np.tile(label, 6)).mean() > 0.9


def make_bank(taxa: list[Taxon], seed: int = 0) -> LabelBank:
    table = make_taxa_table(taxa)
    vectors = unit(np.random.default_rng(seed).normal(size=(table.height, 12))).astype(np.float32)
    return LabelBank(table, vectors, {})


BIRDS = [
    Taxon.of(kingdom="Animalia", family="Corvidae", genus="Pica", species="pica", common_name="magpie"),
    Taxon.of(kingdom="Animalia", family="Corvidae", genus="Pica", species="hudsonia", common_name="magpie"),
    Taxon.of(kingdom="Animalia", family="Corvidae", genus="Corvus", species="corax", common_name="raven"),
    Taxon.of(kingdom="Animalia", family="Apidae", genus="Apis", species="mellifera", common_name="honey bee"),
    Taxon.of(kingdom="Plantae", family="Salicaceae", genus="Salix", species="alba", common_name="white willow"),
]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_zero_shot_is_the_nearest_caption(seed: int, n_images: int) -> None:
    """Top-1, top-3, top-5 and the probability, one image at a time."""
    rng = np.random.default_rng(seed)
    bank = make_bank(BIRDS, seed)
    features = unit(rng.normal(size=(n_images, 12))).astype(np.float32)
    truth = rng.integers(0, 5, n_images)
    captions = [taxon.caption(TextType.SCI) for taxon in bank.taxa_list]
    answers = classify(features, truth, bank, captions, 10.0)
    metrics = score_answers(answers)
    for image, x in enumerate(features):
        logits = 10.0 * bank.vectors @ x
        assert answers.best_NK[image].tolist() == np.argsort(-logits, kind="stable").tolist()
        p = np.exp(logits - logits.max())
        assert answers.score_N[image] == pytest.approx(p.max() / p.sum(), rel=1e-4)
    for k in (1, 3, 5):
        hits = [truth[i] in np.argsort(-(bank.vectors @ x))[:k] for i, x in enumerate(features)]
        assert metrics[f"top{k}"] == pytest.approx(np.mean(hits))


def test_candidates_that_no_text_tells_apart_are_one_class() -> None:
    """As the reference does: two species with one English name cannot both be answers to it."""
    bank = make_bank(BIRDS)
    captions = [taxon.caption(TextType.COM) for taxon in bank.taxa_list]
    merged = merge_captions(captions)
    assert len(set(merged.tolist())) == 4
    magpies = [i for i, caption in enumerate(captions) if caption == "magpie"]
    features = np.asarray(bank.vectors)[[min(magpies)] * 2]
    answers = classify(features, np.array(magpies), bank, captions, 100.0)
    assert len(answers.candidates) == 4
    assert score_answers(answers)["top1"] == 1.0


def test_ranks_are_right_by_lineage_and_baselines_by_counting() -> None:
    bank = make_bank(BIRDS)
    names = [taxon.scientific_name for taxon in bank.taxa_list]
    truth = np.array([names.index(n) for n in ("Pica pica", "Pica pica", "Corvus corax", "Salix alba")])
    shown = [names.index(n) for n in ("Pica hudsonia", "Pica pica", "Apis mellifera", "Salix alba")]
    answers = classify(np.asarray(bank.vectors)[shown], truth, bank, names, 100.0)
    metrics = score_answers(answers)
    assert metrics["species"] == metrics["top1"] == 0.5
    assert metrics["genus"] == 0.75
    assert metrics["family"] == 0.75
    assert metrics["kingdom"] == 1.0
    assert "class" not in metrics, "nobody named the class"
    assert metrics["chance/top1"] == 0.2
    assert metrics["chance/genus"] == pytest.approx((0.4 + 0.4 + 0.2 + 0.2) / 4)
    assert metrics["majority/genus"] == 0.5
    assert lca_heights(answers).tolist() == [1, 0, 6, 0]
    assert metrics["lca_height_of_errors"] == 3.5


def test_evaluation_leaves_what_it_promises(dataset_dir: Path, trained: Path, tmp_path: Path) -> None:
    from linnaea.cli import main

    words = ["evaluate", str(trained), "--data", str(dataset_dir), "--split", "test", "--output", str(tmp_path)]
    assert main([*words, "--text-type", "taxon_com", "sci", "--device", "cpu"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert {
        "n_images",
        "n_classes",
        "zero_shot/taxon_com/top1",
        "zero_shot/sci/top5",
        "zero_shot/sci/chance/genus",
    } <= set(metrics)
    examples = pl.read_parquet(tmp_path / "examples.parquet")
    assert examples.height == metrics["n_images"]
    assert examples["right"].mean() == pytest.approx(metrics["zero_shot/taxon_com/top1"])
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") >= 5
    assert "http" not in page.split("<body")[1].split("data:image")[0]


def test_a_rerun_does_not_encode_again(
    dataset_dir: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from linnaea.cli import main
    from linnaea.evaluate import features

    words = [
        "evaluate",
        str(trained),
        "--data",
        str(dataset_dir),
        "--split",
        "unseen",
        "--output",
        str(tmp_path),
        "--shots",
        "0",
    ]
    assert main(words) == 0
    first = json.loads((tmp_path / "metrics.json").read_text())

    def never(model: object, items: object, **options: object) -> list[object]:
        assert not list(items), "encoded again"  # type: ignore[call-overload]
        return []

    monkeypatch.setattr(features, "iter_encoded_images", never)
    assert main(words) == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == first


def test_wrong_questions_are_one_line(
    dataset_dir: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from linnaea.cli import main

    words = ["evaluate", str(trained), "--data", str(dataset_dir), "--output", str(tmp_path)]
    assert main([*words, "--split", "tets"]) == 1
    assert "there are test, train, unseen, val" in capsys.readouterr().err
    (tmp_path / "labels.txt").write_text("Pica pica\n")
    assert main([*words, "--labels", str(tmp_path / "labels.txt")]) == 1
    assert "lacks the taxa of" in capsys.readouterr().err
    assert main(["evaluate", "ViT-B-99", *words[2:]]) == 1
    assert "ViT-B-" in capsys.readouterr().err
