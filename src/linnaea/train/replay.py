"""Experience replay: add a fixed number of general pictures with captions to every step.

BioCLIP 2 (arXiv 2505.23883) preserves CLIP's knowledge this way, with 320 pictures of LAION-2B for 2,816 of organisms
on every device. The folder holds WebDataset tars as written by img2dataset: ``<key>.jpg`` next to ``<key>.txt``.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64
from numpy import ndarray

from linnaea.data.shards import DataSet, iter_members
from linnaea.errors import LinnaeaError
from linnaea.model.tokenizer import tokenize_ragged
from linnaea.train.batches import Batch, BatchSource, Loader, Replayed

_SEED = 7919
"""Added to the seed, so that replay draws from separate streams."""


@dataclass(frozen=True, kw_only=True)
class MixedLoader:
    """Adds general pictures to batches of taxa; the result is a pure function of the step, as both parts are."""

    taxa: BatchSource
    general: Loader
    tokenizer: Any

    def iter_batches(self, first_step: int, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps ``first_step`` to ``n_steps``."""
        others = self.general.iter_batches(first_step, n_steps)
        for batch, other in zip(self.taxa.iter_batches(first_step, n_steps), others, strict=True):
            replayed = Replayed(other.pixels, self._read_captions(other.keys))
            yield replace(batch, unreadable=batch.unreadable + other.unreadable, replayed=replayed)

    def _read_captions(self, keys: tuple[str, ...]) -> Int64[ndarray, "R T"]:
        tokens = tokenize_ragged(self.tokenizer, [self._read_caption(key) for key in keys]).padded()
        return np.pad(tokens, ((0, 0), (0, self.tokenizer.context_length - tokens.shape[1])))

    def _read_caption(self, key: str) -> str:
        """Read the caption of a key (:func:`open_captioned` stores the caption's place in the key)."""
        shard, offset, size, _ = key.split("|", 3)
        with (self.general.dataset.directory / shard).open("rb") as stream:
            data = os.pread(stream.fileno(), int(size), int(offset))
        return " ".join(data.decode("utf-8", "replace").split())


def open_captioned(folder: Path) -> DataSet:
    """Open the captioned pictures in a folder of tars as a data set of one taxon; keys hold the captions' places.

    Raises:
        LinnaeaError: The folder has no picture with a caption.
    """
    rows = []
    for path in sorted(folder.glob("**/*.tar")):
        shard = str(path.relative_to(folder))
        pictures, captions = {}, {}
        for name, offset, size in iter_members(path):
            key, _, ending = name.rpartition(".")
            if ending in ("jpg", "jpeg", "png", "webp"):
                pictures[key] = offset, size
            elif ending == "txt":
                captions[key] = offset, size
        for key in pictures.keys() & captions.keys():
            place = "|".join((shard, *map(str, captions[key]), key))
            rows.append((place, shard, *pictures[key]))
    if not rows:
        raise LinnaeaError(f"{folder}: no captioned pictures to replay; give a folder of tars with .jpg and .txt")
    columns = dict.fromkeys(("key", "shard"), pl.String) | dict.fromkeys(("offset", "size"), pl.Int64)
    index = pl.DataFrame(rows, schema=columns, orient="row").sort("shard", "offset")
    index = index.with_columns(taxon_id=pl.lit(0, pl.Int32), source=pl.lit("replay"), split=pl.lit("train"))
    return DataSet(folder, index, pl.DataFrame())


def make_replay_loader(loader: Loader) -> Loader:
    """Make a loader of the captioned pictures for the same process, with the augmentation of the taxa.

    Raises:
        LinnaeaError: The recipe's folder holds no captioned pictures.
    """
    feed = loader.feed
    plain = replace(
        feed, batch_size=feed.replay_batch_size, taxon_balance=0.0, source_balance=0.0, replay="", replay_batch_size=0
    )
    return replace(loader, dataset=open_captioned(Path(feed.replay)), feed=plain, seed=loader.seed + _SEED)
