"""Samples per second of training: ours against open_clip's step, same model, batch, shards and precision, one run.

    python benchmarks/train_speed.py [--model w192|b32] [--batch 64] [--rounds 3] [--precision float32] [--ways trimmed]

open_clip's side is ``open_clip_train``'s: its transform and the webdataset reader feed ``encode_image``,
``encode_text`` in full context, ``ClipLoss`` and AdamW. Ours is what ``linnaea train`` does ("trimmed and shared").
Between them each saving alone: captions trimmed, captions shared, plain attention (in bf16); then all, and compiled.
The order alternates; the median round counts.
``b32`` is ViT-B/32 (towers of width 768 and 512): 2.4 GB and seconds a step for each way, so choose few of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import torch
import webdataset
from open_clip.model import CLIP

from linnaea.data.shards import DataSet
from linnaea.model.load import TaxonModel
from linnaea.model.preprocess import Preprocess
from linnaea.model.text import TokenTable, make_token_table
from linnaea.train.batches import Loader
from linnaea.train.objectives import compute_loss
from linnaea.train.recipe import Descent, Feed
from linnaea.train.tuning import compile_towers, make_optimizer
from loader_speed import make_data

MODELS: dict[str, dict[str, Any]] = {
    "w192": {
        "embed_dim": 192,
        "vision_cfg": {"image_size": 112, "layers": 6, "width": 192, "patch_size": 16, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 192, "heads": 6, "layers": 4},
    },
    "b32": open_clip.get_model_config("ViT-B-32"),
}

NOTHING = {"trims": False, "shares": False, "compiled": False, "fused": True}
OURS = {
    "ours, no saving": NOTHING,
    "trimmed": NOTHING | {"trims": True},
    "shared": NOTHING | {"shares": True},
    "plain attention": NOTHING | {"fused": False},
    "trimmed and shared": {"trims": True, "shares": True, "compiled": False, "fused": False},
    "and compiled": {"trims": True, "shares": True, "compiled": True, "fused": False},
}
ATTENTION = "linnaea.train.objectives._choose_attention"
WAYS = [*OURS]
"""Beside open_clip's, which always runs."""


@dataclass(frozen=True)
class PartTable(TokenTable):
    """A table that leaves out a saving."""

    trims: bool = True
    shares: bool = True

    def batch(self, taxon_ids: Any, text_types: Any) -> Any:
        tokens, own = super().batch(taxon_ids, text_types)
        if not self.trims:
            tokens = torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1]))
        return (tokens, own) if self.shares else (tokens[own], torch.arange(len(own)))


def make_model(name: str) -> TaxonModel:
    torch.manual_seed(0)
    config = MODELS[name]
    clip = CLIP(**{key: dict(part) if isinstance(part, dict) else part for key, part in config.items()}).train()
    size = config["vision_cfg"]["image_size"]
    return TaxonModel(
        name=name, clip=clip, tokenizer=open_clip.get_tokenizer("ViT-B-32"), device=torch.device("cpu"),
        preprocess=Preprocess(image_size=size), model_cfg=config,
    )  # fmt: skip


def ours(
    name: str, dataset: DataSet, descent: Descent, batch: int, *, trims: bool, shares: bool, compiled: bool, fused: bool
) -> Callable[[], None]:
    model = make_model(name)
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    part = PartTable(**vars(table), trims=trims, shares=shares)
    batches = Loader(dataset, Feed(batch_size=batch), model.preprocess.image_size, 0).iter_batches(0, 10**9)
    optimizer = make_optimizer(model.clip, descent)
    if compiled and (why_not := compile_towers(model)):
        print(why_not)

    def step() -> None:
        optimizer.zero_grad()
        with mock.patch(ATTENTION, lambda *_: nullcontext()) if fused else nullcontext():
            loss = compute_loss(model, next(batches), part, descent)
        loss.backward()
        optimizer.step()

    return step


def peers(name: str, dataset: DataSet, descent: Descent, batch: int) -> Callable[[], None]:
    model = make_model(name)
    groups = [{key: group[key] for key in ("params", "weight_decay")}
              for group in make_optimizer(model.clip, descent).param_groups]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=descent.lr, betas=(descent.beta1, descent.beta2), eps=descent.eps)
    loss = open_clip.ClipLoss()
    names = {row: dataset.taxon(taxon) for row, taxon in enumerate(dataset.index["taxon_id"])}
    captions = {
        key: names[row].caption(make_token_table(model.tokenizer, [names[row]]).text_types[-1], "a photo of {}.")
        for row, key in enumerate(dataset.index["key"])
    }
    transform = open_clip.image_transform(model.preprocess.image_size, is_train=True)
    shards = sorted(str(dataset.directory / shard) for shard in dataset.index["shard"].unique())

    def read() -> Iterator[Any]:
        pipeline = webdataset.DataPipeline(
            webdataset.ResampledShards(shards),
            webdataset.tarfile_to_samples(),
            webdataset.decode("pilrgb"),
            webdataset.rename(image="jpg", key="__key__"),
            webdataset.map(lambda s: (transform(s["image"]), model.tokenizer([captions[Path(s["key"]).name]])[0])),
            webdataset.batched(batch, partial=False),
        )
        yield from torch.utils.data.DataLoader(pipeline, batch_size=None, num_workers=2)

    batches = read()

    def step() -> None:
        images, texts = next(batches)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=descent.precision == "bf16"):
            image, text, scale = model.clip(images, texts)
            value = loss(image, text, scale)
        value.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[*MODELS], default="w192")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--data", type=Path, help="a data set; else one is drawn at 256 pixels")
    parser.add_argument("--precision", nargs="+", default=["float32", "bf16"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        dataset = DataSet.open(options.data or make_data(Path(scratch))).split("train")
        for precision in options.precision:
            descent = Descent(precision=precision)
            common = (options.model, dataset, descent, options.batch)
            savings = {way: ours(*common, **OURS[way]) for way in options.ways if way in OURS}
            ways = {"open_clip": peers(*common), **savings}
            found: dict[str, list[float]] = {way: [] for way in ways}
            for step in ways.values():  # warm up, compile
                for _ in range(options.warm_up):
                    step()
            for way, _ in zip(cycle(ways), range(options.rounds * len(ways)), strict=False):
                began = time.perf_counter()
                for _ in range(options.steps):
                    ways[way]()
                found[way].append(options.steps * options.batch / (time.perf_counter() - began))
            base = statistics.median(found["open_clip"])
            for way, rates in found.items():
                middle = statistics.median(rates)
                print(f"{options.model} {precision:<8} {way:<20} {middle:7.1f} samples/s  {middle / base:5.2f} x")


if __name__ == "__main__":
    main()
