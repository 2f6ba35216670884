"""What learns is what was asked for; low-rank additions become part of an ordinary model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.train import tuning as adapt
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.fit import set_learning_rate
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start
from linnaea.train.tuning import add_low_rank, compile_towers, freeze, layer_rates, make_optimizer, merge_low_rank

TINY = Recipe(
    tower=Tower(image_size=32, patch_size=16, width=64, image_layers=3, text_layers=2, context_length=48, n_merges=200),
    feed=Feed(batch_size=8),
    descent=Descent(steps=3, lr=1e-2, warmup=1, checkpoint_every=2),
)


def make_run(data: Path, output: Path, recipe: Recipe = TINY) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


@pytest.fixture
def model(dataset_dir: Path) -> TaxonModel:
    return make_start(TINY.tower, open_part(make_run(dataset_dir, Path("unused"))), seed=0, device="cpu")


@pytest.fixture
def clip(model: TaxonModel) -> Any:
    return model.clip.train()


def test_a_frozen_tower_stays_and_the_other_learns(dataset_dir: Path, tmp_path: Path, clip: Any) -> None:
    run = make_run(dataset_dir, tmp_path, replace(TINY, descent=replace(TINY.descent, freeze=("image",))))
    run_training(run)
    before, after = clip.state_dict(), load_model(str(run.model_dir), device="cpu").clip.state_dict()
    for name, value in before.items():
        if name.startswith("visual."):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["text_projection"], after["text_projection"])
    assert float(after["logit_scale"]) != float(before["logit_scale"])


def test_low_rank_training_changes_matrices_of_blocks_alone_and_leaves_an_ordinary_model(
    dataset_dir: Path, tmp_path: Path, clip: Any
) -> None:
    run = make_run(dataset_dir, tmp_path, replace(TINY, descent=replace(TINY.descent, lora_rank=2)))
    run_training(run)
    before, after = clip.state_dict(), load_model(str(run.model_dir), device="cpu").clip.state_dict()
    assert set(before) == set(after)
    for name, value in before.items():
        difference = after[name].float() - value.float()
        if value.ndim == 2 and ".resblocks." in name:
            assert 1 <= int(torch.linalg.matrix_rank(difference, rtol=1e-4)) <= 2, name
        elif name != "logit_scale":
            assert not difference.any() or not torch.isfinite(difference).all(), name


def test_low_rank_additions_start_at_nothing_and_merge_exactly(clip: Any) -> None:
    pixels = torch.randn(2, 3, 32, 32)
    plain, names = clip.encode_image(pixels), list(clip.state_dict())
    add_low_rank(clip, 3)
    assert torch.equal(clip.encode_image(pixels), plain)
    learns = [name for name, p in clip.named_parameters() if p.requires_grad]
    assert all(name == "logit_scale" or name.endswith((".up", ".down")) for name in learns)
    for name, parameter in clip.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter)
    moved = clip.encode_image(pixels)
    assert not torch.allclose(moved, plain)
    merge_low_rank(clip)
    assert torch.allclose(clip.encode_image(pixels), moved, atol=1e-5)
    assert sorted(clip.state_dict()) == sorted(names)


def test_lower_layers_learn_more_slowly(clip: Any) -> None:
    rates = layer_rates(clip, 0.5)
    of = {name: rates[f"visual.transformer.resblocks.{i}.mlp.c_fc.weight"] for i, name in enumerate("abc")}
    assert of == {"a": 0.25, "b": 0.5, "c": 1.0}
    assert rates["visual.conv1.weight"] == 0.125
    assert rates["token_embedding.weight"] == 0.25
    assert rates["logit_scale"] == rates["visual.proj"] == rates["text_projection"] == 1.0
    descent = Descent(lr=1.0, warmup=0, layer_decay=0.5)
    optimizer = make_optimizer(clip, descent)
    set_learning_rate(optimizer, 0, 10, descent)
    given = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert all(given[id(p)] == rates[name] for name, p in clip.named_parameters())


def test_both_towers_can_be_frozen(clip: Any) -> None:
    freeze(clip, ("image", "text"))
    assert [name for name, p in clip.named_parameters() if p.requires_grad] == ["logit_scale"]


def test_without_a_compiler_training_goes_on_and_says_so_once(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*args: Any, **options: Any) -> Any:
        raise RuntimeError("no C++ compiler\nmany more lines")

    monkeypatch.setattr(adapt.torch, "compile", none)
    said: list[str] = []
    run = make_run(dataset_dir, tmp_path, replace(TINY, descent=replace(TINY.descent, compile=True)))
    assert run_training(run, on_notice=said.append).finished
    assert said == ["not compiled, because no compiler works here (no C++ compiler)"]


@pytest.mark.long
def test_compiled_towers_say_the_same(model: TaxonModel) -> None:
    clip: Any = model.clip
    pixels = torch.randn(4, 3, 32, 32)
    plain = clip.encode_image(pixels)
    assert not compile_towers(model)
    assert torch.allclose(clip.encode_image(pixels), plain, atol=1e-5)
