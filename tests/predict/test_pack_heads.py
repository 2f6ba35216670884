"""Labels of a packed model may come from a class head that its image tower was trained with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linnaea.cli import main
from linnaea.data.shards import DataSet
from linnaea.model.folders import LABELS_FOLDER
from linnaea.model.open import load_model
from linnaea.predict.calibration import find_groups
from linnaea.predict.labels import LabelBank, load_class_heads
from linnaea.predict.pack import pack
from linnaea.predict.places import encode_places, list_places, taxa_at
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.train.claim import TrainingRun
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training

HEADS = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=12),
    descent=Descent(steps=2, lr=1e-3, warmup=1, objective="hierarchical"),
)


def unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float32)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def runs(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of class heads, and one that learned names against its frozen image tower."""
    folder = tmp_path_factory.mktemp("runs")
    heads, names = folder / "heads", folder / "names"
    run_training(TrainingRun(recipe_name="test", recipe=HEADS, data_dir=dataset_dir, run_dir=heads, device="cpu"))
    recipe = replace(HEADS, tower=replace(HEADS.tower, start=str(heads)),
                     descent=Descent(steps=2, lr=1e-3, warmup=1, freeze=("image",)))  # fmt: skip
    run_training(TrainingRun(recipe_name="test", recipe=recipe, data_dir=dataset_dir, run_dir=names, device="cpu"))
    return heads, names


def test_species_trained_on_have_the_mean_of_caption_and_head(
    runs: tuple[Path, Path], dataset_dir: Path, tmp_path: Path
) -> None:
    heads, names = runs
    head = load_class_heads(heads)[Rank.SPECIES]
    learned = head.taxa.select(RANK_LABELS).rows()
    table = tmp_path / "names.csv"
    new = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica")
    table.write_text("\n".join(",".join(row) for row in (RANK_LABELS, *learned, new)) + "\n")
    banks = {}
    for name, given in (("captions", None), ("heads", heads)):
        pack(names, tmp_path / name, labels=table, resolve=False, heads=given)
        banks[name] = LabelBank.open(tmp_path / name / LABELS_FOLDER)
    rows = {row: number for number, row in enumerate(banks["heads"].taxa.select(RANK_LABELS).rows())}
    own = [rows[row] for row in learned]
    mean = unit(unit(head.vectors[:]) + unit(banks["captions"].vectors[:])[own])
    np.testing.assert_allclose(unit(banks["heads"].vectors[:])[own], mean, atol=2e-3)
    assert not np.allclose(banks["heads"].vectors[own], banks["captions"].vectors[own], atol=0.05)
    np.testing.assert_array_equal(banks["heads"].vectors[rows[new]], banks["captions"].vectors[rows[new]])
    assert banks["heads"].facts["learned"] == len(learned)


def test_evaluate_answers_with_these_labels(runs: tuple[Path, Path], dataset_dir: Path, tmp_path: Path) -> None:
    heads, names = runs
    small = tmp_path / "small"
    pack(names, small, labels=dataset_dir, species_only=True, heads=heads)
    words = ["evaluate", str(small), "--data", str(dataset_dir), "--split", "test", "--species-only", "--shots", "0"]
    assert main([*words, "--labels", str(small), "--output", str(tmp_path / "scores")]) == 0
    bank, model, data = (
        LabelBank.open(small / LABELS_FOLDER),
        load_model(str(small), device="cpu"),
        DataSet.open(dataset_dir),
    )
    places = list_places([data.split("test")])
    truth = find_groups(taxa_at(places), bank)[:, Rank.SPECIES]
    kept = truth >= 0
    answers = (encode_places(model, places, 1) @ bank.vectors[:].astype(np.float32).T).argmax(axis=1)
    right = float((answers == bank.groups.starts[Rank.SPECIES][truth])[kept].mean())
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert metrics["zero_shot/taxon_com/species"] == pytest.approx(right, abs=1e-9)


def test_a_head_of_another_tower_is_refused(
    runs: tuple[Path, Path], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, why in ((trained, "has no class head for species"), (runs[0], "has another image tower than")):
        assert main(["pack", str(trained), "--output", str(tmp_path / "small"), "--heads", str(given)]) == 1
        assert why in capsys.readouterr().err
        assert not (tmp_path / "small").exists()
