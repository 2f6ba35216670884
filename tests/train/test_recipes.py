"""Recipes are values: valid by construction, complete, and the paper's is the paper's."""

import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from linnaea.cli import main
from linnaea.errors import UsageError
from linnaea.taxonomy.taxon import TRAINING_TEXT_TYPES, Taxon, TextType
from linnaea.train.recipe import Descent, Feed, Recipe, list_changes, vary
from linnaea.train.recipes import NOTES, RECIPES, choose_recipe


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


def test_the_ablations_differ_in_their_captions_alone() -> None:
    """The paper's ablation: five text types alone, and their mixture."""
    names = ("mixture", *TRAINING_TEXT_TYPES)
    ablations = {name: RECIPES[f"ablation-text-{name}"] for name in names}
    assert {recipe.feed.text_types for recipe in ablations.values()} == {
        TRAINING_TEXT_TYPES,
        *((text_type,) for text_type in TRAINING_TEXT_TYPES),
    }
    plain = {
        replace(recipe, feed=replace(recipe.feed, text_types=TRAINING_TEXT_TYPES)) for recipe in ablations.values()
    }
    assert len(plain) == 1


def test_the_two_other_studies_differ_in_one_value_alone() -> None:
    mixture = RECIPES["ablation-text-mixture"]
    both_ways = RECIPES["ablation-text-bidirectional"]
    assert replace(both_ways, tower=replace(both_ways.tower, bidirectional=False)) == mixture
    shuffled = RECIPES["ablation-ranks-shuffled"]
    assert replace(shuffled, feed=replace(shuffled.feed, text_types=TRAINING_TEXT_TYPES)) == mixture
    taxon = Taxon(("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "hudsonia"), "magpie")
    for own, plain in zip(shuffled.feed.text_types, TRAINING_TEXT_TYPES, strict=True):
        assert sorted(taxon.caption(own).split()) == sorted(taxon.caption(plain).split()), "the same words"
    assert taxon.caption(TextType.TAXON_COM_SHUFFLED) == (
        "Passeriformes hudsonia Chordata Pica Animalia Corvidae Aves with common name magpie"
    )


def test_bioclip_2_is_bioclip_2() -> None:
    """arXiv 2505.23883 and its released script: 32 GPUs with 2,816 organisms and 320 general captions each."""
    recipe = RECIPES["bioclip2-vit-l14"]
    assert (recipe.tower.start, recipe.tower.pretrained) == ("ViT-L-14", "laion2b_s32b_b82k")
    assert (recipe.feed.batch_size, recipe.feed.replay_batch_size) == (32 * 2816, 32 * 320)
    assert (recipe.descent.epochs, recipe.descent.lr, recipe.descent.warmup) == (30, 1e-4, 1875)


def test_the_baselines_differ_in_their_objective_alone() -> None:
    objectives = {"baseline-cross-entropy": "cross_entropy", "baseline-hierarchical": "hierarchical"}
    mixture = RECIPES["ablation-text-mixture"]
    for name, objective in objectives.items():
        assert RECIPES[name].descent.objective == objective
        assert replace(RECIPES[name], descent=mixture.descent) == mixture


DRY_RUN = ("fine-tune", "baseline-hierarchical")
"""Those that are tried every time; the others among the long tests."""


@pytest.mark.parametrize(
    "name",
    [
        *DRY_RUN,
        *(pytest.param(name, marks=pytest.mark.long) for name in RECIPES if name not in DRY_RUN),
    ],
)
def test_a_dry_run_needs_no_weights(
    name: str, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor the general captions of a replay; the tests run without a network."""
    words = ["train", name, "--data", str(dataset_dir), "--output", str(tmp_path / "run"), "--dry-run"]
    assert main([*words, "--batch-size", "16", "--lr", "0.002", "--crop-scale", "0.5", "1"]) == 0
    out = capsys.readouterr().out
    assert "parameters" in out
    assert "of 16 samples" in out
    assert not (tmp_path / "run").exists()


def test_list_shows_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "recipes"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in RECIPES)


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
        ({}, {"rank_weights": (0.0,) * 7}, "rank weights"),
        ({}, {"rank_weights": (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)}, "rank weights"),
        ({}, {"label_smoothing": 0.1}, "label smoothing"),
        ({}, {"label_smoothing": 1.0, "objective": "hierarchical"}, "label smoothing"),
        ({}, {"cutmix": 0.5}, "cutmix"),
        ({}, {"cutmix": 1.5, "objective": "cross_entropy"}, "cutmix"),
        ({"cached_views": 1}, {"cutmix": 0.5, "objective": "cross_entropy", "freeze": ("image",)}, "cutmix"),
        ({"replay": "somewhere"}, {}, "replay"),
        ({"replay_batch_size": 4}, {}, "replay"),
    ],
)
def test_what_makes_no_sense_is_refused(feed: dict[str, object], descent: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Recipe(feed=Feed(**feed), descent=Descent(**descent))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tiny", "--pretrained", "typo"], "pretrained: selects the weights of the model to start from"),
        (["tiny", "--resize-to", "96"], "they need --start"),
        (["tiny", "--backbone-weights", "w.pth"], "need --backbone"),
        (["tiny", "--start", "nano", "--backbone", "resnet18"], "--backbone is not used: the model that --start names"),
        (["small", "--start", "nano", "--width", "64"], "--width is not used: the model that --start names"),
        (
            ["tiny", "--start", "nano", "--text-layers", "3"],
            "--text-layers is not used: the model of --start keeps its text tower",
        ),
        (["tiny", "--backbone", "resnet18", "--patch-size", "4"], "--patch-size is not used: the backbone resnet18"),
        (["tiny", "--epochs", "3"], "--epochs is not used: the run ends after 160 steps; give --steps 0"),
        (["tiny", "--epochs", "1"], "--epochs is not used: the run ends after 160 steps; give --steps 0"),
        (["tiny", "--epochs=1.0"], "--epochs is not used: the run ends after 160 steps; give --steps 0"),
        (["tiny", "--start", "nano", "--width", "128"], "--width is not used: the model that --start names"),
        (["tiny", "--class-weights", *"1234567"], "--class-weights is not used: the objective info_nce"),
        (["tiny", "--rank-weights", *"1234567"], "--rank-weights is not used: the objective info_nce"),
        (["tiny", "--objective", "hierarchical", "--bidirectional"], "--bidirectional is not used: the objective hier"),
        (["tiny", "--evaluate-every", "5"], "--evaluate-every is not used: no split is evaluated"),
        (["tiny", "--throughput", "100"], "--throughput is not used: it needs --dry-run"),
    ],
)
def test_an_option_that_is_not_used_is_an_error_before_anything_is_written(
    words: list[str], says: str, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--data", str(dataset_dir), "--output", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_option_with_what_makes_it_used_is_none() -> None:
    named = RECIPES["tiny"]
    tower = replace(named.tower, start="nano", new_text=True, width=64, n_merges=300)
    descent = replace(named.descent, steps=0, epochs=3.0, objective="hierarchical", class_weights=(1.0,) * 7)
    wanted = replace(named, tower=tower, descent=descent, seed=3)
    assert vary(named, list_changes(named, wanted), evaluates=False) == wanted
    assert vary(named, {"evaluate_every": 5}, evaluates=True).descent.evaluate_every == 5
    assert list_changes(named, named) == {}
    assert vary(named, {}, evaluates=False) == named


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"epoch": 3}, "a recipe has no value 'epoch'; did you mean epochs"),
        ({"objective": "typo"}, "objective: 'typo' is not one of info_nce, "),
        ({"batch_size": 1}, "at least 2 samples"),
        ({"pretrained": "typo"}, "it needs --start"),
        ({"image_layers": 4, "start": "nano"}, "--image-layers is not used"),
    ],
)
def test_overrides_by_name_are_checked_as_options_are(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        vary(RECIPES["tiny"], overrides, evaluates=False)


def test_overrides_take_what_python_has_at_hand() -> None:
    varied = vary(RECIPES["tiny"], {"text_types": ["sci", "com"], "crop_scale": [0.5, 1.0], "start": Path("a/run")},
                  evaluates=False)  # fmt: skip
    assert varied.feed.text_types == (TextType.SCI, TextType.COM)
    assert varied.feed.crop_scale == (0.5, 1.0)
    assert varied.tower.start == str(Path("a/run"))


@pytest.mark.parametrize(
    ("overrides", "pretrained"),
    [
        ({}, "openai"),
        ({"start": "nano"}, ""),
        ({"start": "bioclip"}, ""),
        ({"start": "hf-hub:org/name"}, ""),
        ({"start": "ViT-B-32"}, "openai"),
        ({"start": "ViT-B-32", "pretrained": "laion2b_e16"}, "laion2b_e16"),
        ({"start": "nano", "pretrained": "weights.safetensors"}, "weights.safetensors"),
    ],
)
def test_a_recipes_tag_goes_with_its_own_start(overrides: dict[str, str], pretrained: str) -> None:
    _, recipe = choose_recipe("bioclip-vit-b16", overrides, evaluates=False)
    assert recipe.tower.pretrained == pretrained
