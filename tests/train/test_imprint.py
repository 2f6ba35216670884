"""Class heads that start from the pictures of their classes instead of random numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stopping import losses_of, train_whole_and_in_parts

from linnaea.model.text import make_token_table
from linnaea.taxonomy.ranks import Rank
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.heads import add_class_heads, class_heads, imprint_class_heads
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start

RECIPE = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=12),
    descent=Descent(steps=4, lr=1e-3, warmup=1, checkpoint_every=2, log_every=1, objective="hierarchical",
                    imprint=True),
)  # fmt: skip


def make_run(data: Path, output: Path, recipe: Recipe = RECIPE) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


def test_a_new_class_points_from_the_mean_of_all_to_its_own(dataset_dir: Path) -> None:
    dataset = open_part(make_run(dataset_dir, dataset_dir))
    model = make_start(RECIPE.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    add_class_heads(model, table, (Rank.GENUS, Rank.SPECIES))
    before = {rank: head.weight.detach().clone() for rank, head in class_heads(model).items()}  # type: ignore[operator]
    lineage_NR = table.lineage_of[dataset.index["taxon_id"].to_numpy()]
    image_NE = np.random.default_rng(0).normal(size=(len(lineage_NR), 32)).astype(np.float32)
    genera = np.unique(lineage_NR[:, Rank.GENUS][lineage_NR[:, Rank.GENUS] >= 0])
    imprint_class_heads(model, image_NE, lineage_NR, {Rank.GENUS: genera[:1].astype(np.int64)})
    for rank, head in class_heads(model).items():
        weight_KE = head.weight.detach().numpy()  # type: ignore[operator]
        for number in np.unique(lineage_NR[:, rank][lineage_NR[:, rank] >= 0]):
            if rank == Rank.GENUS and number == genera[0]:
                np.testing.assert_array_equal(weight_KE[number], before[rank][number])
                continue
            mean_E = image_NE[lineage_NR[:, rank] == number].mean(axis=0) - image_NE.mean(axis=0)
            np.testing.assert_allclose(weight_KE[number], mean_E / np.linalg.norm(mean_E), atol=1e-5)


def test_a_run_imprints_and_goes_on_as_if_never_stopped(dataset_dir: Path, tmp_path: Path) -> None:
    names = ("whole", "parts", "random")
    plain = replace(RECIPE, descent=replace(RECIPE.descent, imprint=False))
    whole, parts, random = (make_run(dataset_dir, tmp_path / name, plain if name == "random" else RECIPE)
                            for name in names)  # fmt: skip
    run_training(random)
    losses, again = train_whole_and_in_parts(whole, parts)
    assert losses == again and losses[0] != losses_of(random)[0]


def test_only_classes_are_imprinted() -> None:
    with pytest.raises(ValueError, match="imprint: needs the objective"):
        replace(RECIPE, descent=replace(RECIPE.descent, objective="info_nce"))
