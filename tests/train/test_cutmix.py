"""CutMix: the share of the loss is that of the box's area, and both are functions of seed and step alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.model.text import make_token_table
from linnaea.train.batches import Batch, Loader
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.cutmix import draw_box, mix_batch
from linnaea.train.heads import prepare
from linnaea.train.objectives import compute_loss
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start

RECIPE = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=32, image_layers=1, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=12, crop_scale=(0.8, 1.0)),
    descent=Descent(steps=6, lr=2e-3, warmup=1, log_every=1, objective="hierarchical", label_smoothing=0.1, cutmix=0.7),
)


def make_run(data: Path, output: Path, **options: Any) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=RECIPE, data_dir=data, run_dir=output, device="cpu", **options)


def make_batch(n: int, side: int, step: int) -> Batch:
    """Each picture is one number everywhere: its own."""
    pixels = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 3, side, side)).copy()
    numbers = np.arange(n, dtype=np.int64)
    return Batch(step, pixels, numbers, np.zeros(n, np.int64), tuple(map(str, range(n))), ())


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(8, 40), st.integers(0, 10_000), st.integers(0, 3))
def test_what_is_another_pictures_counts_for_the_other(n: int, side: int, step: int, seed: int) -> None:
    batch = make_batch(n, side, step)
    mixed = mix_batch(batch, 1.0, seed)
    assert mixed.partner_ids is not None
    for number, (picture, partner) in enumerate(zip(mixed.pixels, mixed.partner_ids.tolist(), strict=True)):
        assert set(np.unique(picture).tolist()) <= {number, partner}
        if partner != number:
            assert (picture == number).mean() == pytest.approx(mixed.own_share)
    assert (mixed.partner_ids[mixed.partner_ids] == batch.taxon_ids).all()
    assert (mixed.partner_ids == batch.taxon_ids).sum() == n % 2
    again = mix_batch(make_batch(n, side, step), 1.0, seed)
    assert np.array_equal(again.pixels, mixed.pixels)
    assert np.array_equal(batch.pixels, make_batch(n, side, step).pixels)  # as it was


def test_as_many_steps_mix_as_were_asked_for() -> None:
    boxes = [draw_box(0.3, 1, step, 64) for step in range(4000)]
    found = [box for box in boxes if box]
    assert len(found) / 4000 == pytest.approx(0.3, abs=0.03)
    assert len(set(found)) > 1000
    # Uniform in 0 to 1 but for what lies outside of the picture: 1/2 less.
    assert 0.2 < np.mean([box.area / 64**2 for box in found]) < 0.4
    assert all(0 <= box.top <= box.bottom <= 64 and 0 <= box.left <= box.right <= 64 for box in found)
    assert mix_batch(batch := make_batch(4, 8, 0), 0.0, 0) is batch


def test_two_processes_mix_as_one_does() -> None:
    whole = make_batch(8, 16, 3)
    mixed = mix_batch(whole, 1.0, 0)
    for part in (slice(0, 4), slice(4, 8)):
        own = Batch(
            3, whole.pixels[part], whole.taxon_ids[part], whole.text_types[part], whole.keys[part], whole.unreadable
        )
        own = mix_batch(own, 1.0, 0)
        assert np.array_equal(own.pixels, mixed.pixels[part])
        assert np.array_equal(own.partner_ids, mixed.partner_ids[part])  # type: ignore[arg-type,index]
        assert own.own_share == mixed.own_share


def test_the_loss_is_the_mean_over_what_is_in_the_picture(dataset_dir: Path) -> None:
    dataset = open_part(make_run(dataset_dir, Path("unused")))
    model = make_start(RECIPE.tower, dataset, seed=0, device="cpu")
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    model = prepare(model, table, RECIPE.descent, with_replay=False, seed=0)
    batch = mix_batch(next(Loader(dataset, RECIPE.feed, 32, 0).iter_batches(0, 1)), 1.0, 0)
    assert 0 < batch.own_share < 1
    assert batch.partner_ids is not None
    plain = replace(batch, partner_ids=None, own_share=1.0)
    own = compute_loss(model, plain, table, RECIPE.descent)
    other = compute_loss(model, replace(plain, taxon_ids=batch.partner_ids), table, RECIPE.descent)
    ours = compute_loss(model, batch, table, RECIPE.descent)
    assert torch.allclose(ours, batch.own_share * own + (1 - batch.own_share) * other, rtol=1e-6)


def test_a_run_that_died_goes_on_bit_for_bit(dataset_dir: Path, tmp_path: Path) -> None:
    def stop(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    whole, parted = (make_run(dataset_dir, tmp_path / name) for name in ("whole", "parted"))
    run_training(whole)
    often = replace(RECIPE, descent=replace(RECIPE.descent, checkpoint_every=1))
    with pytest.raises(KeyboardInterrupt):
        run_training(replace(parted, recipe=often, n_workers=1), stop)
    run_training(replace(parted, n_workers=3))
    ours, theirs = ((run.model_dir / "open_clip_model.safetensors").read_bytes() for run in (whole, parted))
    assert ours == theirs
