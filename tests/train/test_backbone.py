"""Towers that start from trained weights: these load, what is frozen stays, and low precision keeps its gradient."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from linnaea.errors import LinnaeaError
from linnaea.model.create import at_image_size, see_both_ways
from linnaea.model.encode import encode_captions, encode_pixels
from linnaea.model.load import save_model
from linnaea.model.open import load_model
from linnaea.train import locked
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.fit import FitResult
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start
from linnaea.train.tuning import freeze_blocks, set_training

BACKBONE = "test_efficientnet"
RECIPE = Recipe(
    tower=Tower(image_size=32, backbone=BACKBONE, width=64, text_layers=1, text_width=32, context_length=48,
                n_merges=200),
    feed=Feed(batch_size=8),
    descent=Descent(steps=4, lr=1e-3, warmup=1, checkpoint_every=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the backbone with names of another port and a classifier behind them."""
    torch.manual_seed(5)
    state = timm.create_model(BACKBONE, num_classes=7).state_dict()
    path = tmp_path_factory.mktemp("weights") / "other.pth"
    torch.save({f"port.{i}": value for i, value in enumerate(state.values())}, path)
    return path


def make_run(data: Path, output: Path, recipe: Recipe) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


def with_weights(path: Path) -> Recipe:
    return replace(RECIPE, tower=replace(RECIPE.tower, backbone_weights=str(path)))


def start(dataset_dir: Path, recipe: Recipe) -> Any:
    return make_start(recipe.tower, open_part(make_run(dataset_dir, Path("unused"), recipe)), seed=0, device="cpu")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_weights_of_another_port_load_in_their_order(
    dataset_dir: Path, weights: Path, tmp_path: Path, ending: str
) -> None:
    given = torch.load(weights, weights_only=True)
    path = weights
    if ending == ".safetensors":  # which has no order: the names are timm's
        path = tmp_path / "own.safetensors"
        names = timm.create_model(BACKBONE, num_classes=7).state_dict()
        from safetensors.torch import save_file

        save_file(dict(zip(names, given.values(), strict=True)), path)
    model = start(dataset_dir, with_weights(path))
    trunk = model.clip.visual.trunk.state_dict()
    for mine, wanted in zip(trunk.values(), given.values(), strict=False):
        assert torch.equal(mine, wanted)
    assert model.preprocess.mean == tuple(timm.models.get_pretrained_cfg(BACKBONE).mean)
    assert model.clip.encode_text(torch.zeros(1, 48, dtype=torch.int64)).shape == (1, 64)


@pytest.mark.parametrize("content", ["missing", "broken", "another"])
def test_unusable_weights_are_one_clear_line(dataset_dir: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "weights.pth"
    if content == "broken":
        path.write_bytes(b"no weights at all")
    if content == "another":
        torch.save(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(LinnaeaError, match="weights") as raised:
        start(dataset_dir, with_weights(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_frozen_blocks_stay_with_their_statistics_and_the_rest_learns(
    dataset_dir: Path, weights: Path, tmp_path: Path
) -> None:
    recipe = with_weights(weights)
    recipe = replace(recipe, descent=replace(recipe.descent, freeze_blocks=2, average=0.5, evaluate_every=1))
    run_training(make_run(dataset_dir, tmp_path, recipe), evaluate=lambda model: {})
    before = start(dataset_dir, recipe).clip.visual.state_dict()
    after = load_model(str(tmp_path), device="cpu").clip.visual.state_dict()
    frozen = ("trunk.conv_stem", "trunk.bn1", "trunk.blocks.0.", "trunk.blocks.1.")
    learnt = 0
    for name, value in before.items():
        same = torch.equal(value, after[name])
        if name.startswith(frozen):
            assert same, name
        elif value.is_floating_point():
            learnt += not same
    assert learnt > 20


def test_too_many_blocks_to_freeze_is_an_error(dataset_dir: Path) -> None:
    clip = start(dataset_dir, RECIPE).clip
    with pytest.raises(LinnaeaError, match="blocks"):
        freeze_blocks(clip, 99)


def test_a_frozen_tower_keeps_its_running_statistics(dataset_dir: Path) -> None:
    clip = start(dataset_dir, RECIPE).clip
    for parameter in clip.visual.parameters():
        parameter.requires_grad_(False)
    set_training(clip)
    before = {name: value.clone() for name, value in clip.visual.state_dict().items()}
    clip.encode_image(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in clip.visual.state_dict().items())


def test_vectors_of_a_frozen_tower_are_those_of_its_pictures(dataset_dir: Path, tmp_path: Path) -> None:
    cached = replace(
        RECIPE,
        feed=replace(RECIPE.feed, cached_views=1),
        descent=replace(RECIPE.descent, freeze=("image",), log_every=1, steps=3),
    )
    each_step = replace(cached, feed=replace(RECIPE.feed, cached_views=0))
    n_samples = len(open_part(make_run(dataset_dir, tmp_path, RECIPE)))
    assert 3 * RECIPE.feed.batch_size <= n_samples  # within one epoch a view's augmentation differs from a step's
    losses = {}
    for name, recipe in (("cached", cached), ("read", each_step)):
        plain = replace(recipe, feed=replace(recipe.feed, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)))
        lines: list[float] = []
        run_training(
            make_run(dataset_dir, tmp_path / name, plain),
            lambda step, total, line, lines=lines: lines.append(line["loss"]),  # type: ignore[misc]
        )
        losses[name] = lines
    assert np.allclose(losses["cached"], losses["read"], atol=1e-4)


def test_pictures_are_encoded_few_at_a_time(dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a view is 2,048 pictures: all at once they took 55 GB of a GPU at 256 pixels."""
    recipe = replace(RECIPE, feed=replace(RECIPE.feed, cached_views=1),
                     descent=replace(RECIPE.descent, freeze=("image",), steps=1))  # fmt: skip
    sizes: list[int] = []

    def encode(model: Any, pixels: Any) -> Any:
        sizes.append(len(pixels))
        return encode_pixels(model, pixels)

    monkeypatch.setattr(locked, "encode_pixels", encode)
    n_samples = len(open_part(make_run(dataset_dir, tmp_path, recipe)))
    assert 5 < n_samples <= locked._AT_ONCE
    vectors = []
    for at_once in (locked._AT_ONCE, 5):
        monkeypatch.setattr(locked, "_AT_ONCE", at_once)
        run_training(make_run(dataset_dir, tmp_path / str(at_once), recipe))
        vectors.append(np.load(next((tmp_path / str(at_once) / "vectors").iterdir())))
    whole, parts = vectors
    assert sizes == [n_samples, *np.diff([*range(0, n_samples, 5), n_samples])]
    assert np.array_equal(whole["taken"], parts["taken"])
    assert np.allclose(whole["vectors"], parts["vectors"], atol=1e-5)


def test_a_locked_run_that_stops_goes_on_bit_for_bit(dataset_dir: Path, tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        feed=replace(RECIPE.feed, cached_views=2, flip=True),
        descent=replace(RECIPE.descent, freeze=("image",), steps=6),
    )
    run_training(make_run(dataset_dir, tmp_path / "whole", recipe))
    stop_while_encoding, stop_at_step_3 = make_run(dataset_dir, tmp_path / "parts", recipe), 3

    class StopNowError(Exception):
        pass

    n_samples = len(open_part(stop_while_encoding))
    reported = []

    def stop(done: int, total: int) -> None:
        reported.append((done, total))
        if done > n_samples:
            raise StopNowError

    with pytest.raises(StopNowError):
        run_training(stop_while_encoding, on_view=stop)
    assert reported == [(n_samples, 2 * n_samples), (2 * n_samples, 2 * n_samples)]
    assert len(list((tmp_path / "parts" / "vectors").iterdir())) == 1  # the first view is kept

    def at_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == stop_at_step_3:
            raise StopNowError

    with pytest.raises(StopNowError):
        run_training(stop_while_encoding, at_step)
    result: FitResult = run_training(stop_while_encoding)
    assert result.finished
    whole, parts = (load_model(str(tmp_path / name), device="cpu").fingerprint for name in ("whole", "parts"))
    assert whole == parts


def test_a_convolutional_tower_takes_pictures_of_another_size(dataset_dir: Path, tmp_path: Path) -> None:
    run_training(make_run(dataset_dir, tmp_path / "small", RECIPE))
    larger = replace(RECIPE, tower=Tower(start=str(tmp_path / "small"), resize_to=64))
    run_training(make_run(dataset_dir, tmp_path / "large", larger))
    model = load_model(str(tmp_path / "large"), device="cpu")
    assert model.preprocess.image_size == 64
    assert model.model_cfg["vision_cfg"]["image_size"] == 64


def test_a_transformer_keeps_its_size(dataset_dir: Path) -> None:
    model = start(dataset_dir, replace(RECIPE, tower=replace(RECIPE.tower, backbone="", patch_size=16)))
    with pytest.raises(LinnaeaError, match="one input size"):
        at_image_size(model, 64)


def test_cached_views_want_a_frozen_tower() -> None:
    with pytest.raises(ValueError, match="frozen"):
        replace(RECIPE, feed=replace(RECIPE.feed, cached_views=1))


def test_a_text_tower_sees_both_ways(dataset_dir: Path, trained: Path, tmp_path: Path) -> None:
    """A new one and that of a start; a saved model keeps it, and it needs a mask to take away."""
    new = start(dataset_dir, replace(RECIPE, tower=replace(RECIPE.tower, bidirectional=True)))
    tower = Tower(start=str(trained), bidirectional=True)
    old = start(dataset_dir, replace(RECIPE, tower=tower))
    plain = load_model(trained, device="cpu")
    for model in (new, old):
        assert model.model_cfg["text_cfg"]["no_causal_mask"] is True
        assert model.clip.attn_mask is None
    captions = ["a photo of Pica.", "a photo of Pica hudsonia with a common name."]
    vectors = encode_captions(old, captions)
    assert not np.allclose(vectors, encode_captions(plain, captions), atol=1e-3), "it computes something else"
    for name, value in plain.clip.state_dict().items():
        assert torch.equal(value, old.clip.state_dict()[name]), "the weights are those of the start"
    save_model(old, tmp_path / "model")
    again = load_model(tmp_path / "model", device="cpu")
    assert np.allclose(encode_captions(again, captions), vectors, atol=1e-6)
    with pytest.raises(LinnaeaError, match="no causal mask to take away"):
        see_both_ways(again)


def test_the_bundled_model_is_a_start_although_a_recipe_has_its_name(dataset_dir: Path) -> None:
    model = make_start(Tower(start="nano"), open_part(make_run(dataset_dir, Path("unused"), RECIPE)), seed=0,
                       device="cpu")  # fmt: skip
    assert model.width == 256
