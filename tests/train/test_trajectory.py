"""Two hundred steps of training follow open_clip's own trainer, step by step."""

import logging
import math
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from linnaea.model.text import make_token_table
from linnaea.train.batches import Loader
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.fit import fit
from linnaea.train.objectives import normalise_pixels
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.start import make_start

N_STEPS = 200
RECIPE = Recipe(
    tower=Tower(image_size=32, patch_size=16, width=64, image_layers=2, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=16),
    descent=Descent(steps=N_STEPS, lr=5e-4, warmup=20, clip_norm=1.0, log_every=1, checkpoint_every=0),
)


class OpenClipModel(torch.nn.Module):
    """What open_clip's trainer expects of a model in training: a dict with features and scale."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip, self.logit_scale = clip, clip.logit_scale

    def forward(self, images: Any, texts: Any) -> dict[str, Any]:
        image, text = self.clip.encode_image(images, normalize=True), self.clip.encode_text(texts, normalize=True)
        return {"image_features": image, "text_features": text, "logit_scale": self.logit_scale.exp()}


def test_two_hundred_steps_are_open_clips(dataset_dir: Path, tmp_path: Path) -> None:
    """Same start, batches, AdamW and schedule, float32: every loss within 1e-4."""
    trainer = pytest.importorskip("open_clip_train.train", reason="open_clip's trainer is not installed")
    schedulers = pytest.importorskip("open_clip_train.scheduler")
    torch.set_num_threads(1)
    dataset = open_part(TrainingRun(recipe_name="t", recipe=RECIPE, data_dir=dataset_dir, run_dir=tmp_path))
    ours, theirs = (make_start(RECIPE.tower, dataset, seed=0, device="cpu") for _ in range(2))
    table = make_token_table(ours.tokenizer, dataset.taxa_list, RECIPE.feed.text_types)
    loader = Loader(dataset, RECIPE.feed, 32, 0)
    found: list[float] = []
    fit(ours, loader, table, replace(RECIPE.descent), N_STEPS, tmp_path / "run",
        on_step=lambda step, total, line: found.append(line["loss"]))  # fmt: skip

    def batches() -> Any:
        for batch in loader.iter_batches(0, N_STEPS):
            tokens, own = table.batch(batch.taxon_ids, batch.text_types)
            full = torch.nn.functional.pad(tokens, (0, 48 - tokens.shape[1]))
            yield normalise_pixels(theirs, torch.from_numpy(batch.pixels)), full[own].long()

    class Data(list):  # type: ignore[type-arg]
        num_batches, num_samples = N_STEPS, N_STEPS * 16

        def __iter__(self) -> Any:
            return batches()

    expected: list[float] = []

    def loss(**features: Any) -> dict[str, Any]:
        features.pop("output_dict")
        value = open_clip.ClipLoss()(**features)
        expected.append(float(value.detach()))
        return {"contrastive_loss": value}

    named = list(theirs.clip.named_parameters())
    free = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
    decayed = [p for n, p in named if not (p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n)]
    groups = [{"params": free, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    options = Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=False, grad_clip_norm=1.0,
        horovod=False, rank=0, local_rank=0, world_size=1, batch_size=16, log_every_n_steps=10**9, wandb=False,
    )  # fmt: skip
    shell = Namespace(dataloader=Data(), set_epoch=lambda epoch: None)
    logging.disable(logging.INFO)
    try:
        trainer.train_one_epoch(OpenClipModel(theirs.clip), {"train": shell}, loss, 0, optimizer, None,
                                schedulers.cosine_lr(optimizer, 5e-4, 20, N_STEPS), None, options)  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    assert len(found) == len(expected) == N_STEPS
    assert np.abs(np.array(found) - np.array(expected)).max() <= 1e-4
    assert found[-1] < 0.9 * math.log(16)
