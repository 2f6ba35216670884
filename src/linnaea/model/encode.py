"""Photographs and captions to unit vectors, in batches, with decoding ahead of the model."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray
from torch.nn.functional import normalize

from linnaea.data.images import ImageError, decode, read_image_file
from linnaea.model.load import TaxonModel
from linnaea.model.text import encode_text
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType

Key = TypeVar("Key")


@torch.inference_mode()
def encode_pixels(model: TaxonModel, pixels_BCHW: UInt8[ndarray, "B 3 S S"]) -> Float32[ndarray, "B E"]:
    """Unit vectors of a batch of pixels that :meth:`Preprocess.pixels` made."""
    model.clip.eval()
    mean = torch.tensor(model.preprocess.mean, device=model.device).view(3, 1, 1)
    std = torch.tensor(model.preprocess.std, device=model.device).view(3, 1, 1)
    images = torch.from_numpy(pixels_BCHW).to(model.device).float().div(255).sub(mean).div(std)
    features = model.clip.encode_image(images)  # type: ignore[operator]
    return np.asarray(normalize(features.float(), dim=-1).cpu().numpy())


def iter_encoded_images(
    model: TaxonModel,
    items: Iterable[tuple[Key, bytes | Path]],
    *,
    batch_size: int = 64,
    n_workers: int = 2,
) -> Iterator[tuple[Key, Float32[ndarray, "E"] | ImageError]]:  # noqa: F821
    """Yield every item's unit vector in order; a picture that cannot be read yields its :class:`ImageError`.

    Threads decode ahead of the model (both decoders release the GIL); at most a few batches are in memory.
    """

    def load(item: bytes | Path) -> UInt8[ndarray, "3 S S"] | ImageError:
        try:
            data = read_image_file(item) if isinstance(item, Path) else item
            return model.preprocess.pixels(decode(data))
        except ImageError as error:
            return error

    waiting: list[tuple[Key, Any]] = []
    with ThreadPoolExecutor(n_workers) as pool:
        for key, loaded in _ahead(pool, load, items, limit=2 * batch_size):
            waiting.append((key, loaded))
            if len(waiting) == batch_size:
                yield from _encode_batch(model, waiting)
                waiting = []
        if waiting:
            yield from _encode_batch(model, waiting)


def _ahead(
    pool: ThreadPoolExecutor, load: Callable[[Any], Any], items: Iterable[tuple[Key, Any]], limit: int
) -> Iterator[tuple[Key, Any]]:
    pending: deque[tuple[Key, Future[Any]]] = deque()
    for key, item in items:
        pending.append((key, pool.submit(load, item)))
        if len(pending) >= limit:
            first, future = pending.popleft()
            yield first, future.result()
    for key, future in pending:
        yield key, future.result()


def _encode_batch(model: TaxonModel, batch: list[tuple[Key, Any]]) -> Iterator[tuple[Key, Any]]:
    good = [pixels for _, pixels in batch if not isinstance(pixels, ImageError)]
    vectors = iter(encode_pixels(model, np.stack(good)) if good else ())
    for key, loaded in batch:
        yield key, loaded if isinstance(loaded, ImageError) else next(vectors)


@torch.inference_mode()
def encode_captions(
    model: TaxonModel,
    captions: Sequence[str],
    *,
    batch_size: int = 256,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Float32[ndarray, "K E"]:
    """Unit vectors of captions. Each distinct one is encoded once, in batches of like length."""
    model.clip.eval()
    distinct = list(dict.fromkeys(captions))
    vectors = np.empty((len(distinct), model.width), np.float32)
    tokens = (
        torch.cat([model.tokenizer(distinct[i : i + 4096]) for i in range(0, len(distinct), 4096)])
        if distinct
        else None
    )
    if tokens is not None:
        lengths = (tokens != 0).sum(dim=1)
        order = torch.argsort(lengths, stable=True)
        for start in range(0, len(distinct), batch_size):
            rows = order[start : start + batch_size]
            batch = tokens[rows, : int(lengths[rows].max())].to(model.device)
            vectors[rows.numpy()] = normalize(encode_text(model.clip, batch).float(), dim=-1).cpu().numpy()
            on_progress(start + len(rows), len(distinct))
    number = {caption: i for i, caption in enumerate(distinct)}
    return vectors[[number[caption] for caption in captions]]


def encode_taxa(
    model: TaxonModel,
    taxa: Sequence[Taxon],
    text_type: TextType,
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Float32[ndarray, "K E"]:
    """A unit vector per taxon: the mean over templates of the captions' unit vectors, normalised again."""
    return encode_names(model, [taxon.caption(text_type) for taxon in taxa], templates, on_progress=on_progress)


def encode_names(
    model: TaxonModel,
    names: Sequence[str],
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Float32[ndarray, "K E"]:
    """As :func:`encode_taxa`, for names that are ready made (CLIP, arXiv 2103.00020, section 3.1.4)."""
    captions = [template.replace("{}", name) for name in names for template in templates]
    vectors = encode_captions(model, captions, on_progress=on_progress).reshape(len(names), len(templates), -1)
    mean = vectors.mean(axis=1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)
