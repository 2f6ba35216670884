"""Recipes are values: valid by construction, complete, and the paper's is the paper's."""

from dataclasses import FrozenInstanceError, replace

import pytest

from linnaea.taxonomy.taxon import TRAINING_TEXT_TYPES
from linnaea.train.recipes import NOTES, RECIPES, Descent, Feed, Recipe


def test_the_papers_recipe_is_the_papers() -> None:
    """arXiv 2311.18803, section 4.1 and the released script."""
    recipe = RECIPES["bioclip-vit-b16"]
    assert (recipe.tower.start, recipe.tower.pretrained) == ("ViT-B-16", "openai")
    assert recipe.feed.batch_size == 32_768
    assert not recipe.feed.text_per_batch
    d = recipe.descent
    assert (d.lr, d.weight_decay, d.warmup, d.epochs, d.beta1, d.beta2, d.eps) == (
        1e-4,
        0.2,
        1000,
        100,
        0.9,
        0.98,
        1e-6,
    )
    assert recipe.feed.text_types == TRAINING_TEXT_TYPES
    assert len(recipe.feed.text_types) == 5
    assert recipe.n_steps(10_400_000) == 31_738


def test_every_recipe_has_a_note() -> None:
    assert set(NOTES) == set(RECIPES)
    assert all(len(note) > 20 for note in NOTES.values())


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPES["tiny"].seed = 1  # type: ignore[misc]


def test_steps_or_epochs() -> None:
    recipe = Recipe(feed=Feed(batch_size=10), descent=Descent(epochs=2.5))
    assert recipe.n_steps(100) == 25
    assert recipe.n_steps(1) == 1
    assert replace(recipe, descent=Descent(steps=7)).n_steps(100) == 7


@pytest.mark.parametrize(
    ("feed", "descent", "says"),
    [
        ({"batch_size": 1}, {}, "at least 2 samples"),
        ({}, {"epochs": 0.0}, "steps or epochs"),
        ({"text_types": ()}, {}, "text type"),
        ({"crop_scale": (0.0, 1.0)}, {}, "crop scale"),
        ({"crop_scale": (0.9, 0.5)}, {}, "crop scale"),
        ({"crop_ratio": (2.0, 1.0)}, {}, "crop ratio"),
        ({"batch_size": 4}, {"accumulate": 5}, "accumulate"),
        ({}, {"accumulate": 0}, "accumulate"),
        ({}, {"average": 1.0}, "average"),
    ],
)
def test_what_makes_no_sense_is_refused(feed: dict[str, object], descent: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Recipe(feed=Feed(**feed), descent=Descent(**descent))  # type: ignore[arg-type]
