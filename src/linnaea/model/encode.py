"""Encode photographs and captions as unit vectors, in batches, decoding ahead of the model."""

import hashlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea import __version__
from linnaea.data.images import ImageError, Picture, decode, read_image_file
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.encoder import Encoder
from linnaea.model.preprocess import Pixels
from linnaea.model.runtimes import AT_ONCE
from linnaea.model.unfinished import open_unfinished
from linnaea.progress import progress_bar
from linnaea.storage import stamp_file
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType

Key = TypeVar("Key")
Photograph: TypeAlias = Path | bytes | Callable[[int | None], Picture]
"""A file, its bytes, or a function that makes the picture; see :func:`iter_encoded_images`."""

CAPTIONS_AT_ONCE = 5_000
"""Captions that are tokenised together: enough for related taxa, whose captions share beginnings, to meet."""
KEPT_FROM = 2 * CAPTIONS_AT_ONCE
"""The number of captions from which finished vectors are kept while others are encoded."""
KEPT_PHOTOGRAPHS_FROM = 256
"""The number of photographs from which vectors are kept: two minutes of a large model on a CPU."""


def encode_pixels(model: Encoder, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
    """Encode pixels made by :meth:`Preprocess.pixels`, as unit vectors or at the length that the model gives."""
    vectors = model.encode_pixels(pixels_BCHW, unit=unit)
    if vectors.shape[1:] != (model.width,):  # rows of another width would run into one another in a file
        shape = " x ".join(map(str, vectors.shape[1:]))
        raise LinnaeaError(f"{model.name}: gives vectors of {shape} numbers, but says {model.width}; it cannot be used")
    return vectors


def iter_encoded_images(
    model: Encoder,
    items: Iterable[tuple[Key, Photograph]],
    *,
    batch_size: int = 64,
    n_workers: int = 2,
    fast: bool = False,
    unit: bool = True,
    check: Callable[[Any], None] | None = None,
) -> Iterator[tuple[Key, Float32[ndarray, " E"] | ImageError]]:
    """Yield every item's unit vector in order; a picture that cannot be read yields its :class:`ImageError`.

    An item is a file, its bytes, or a function that takes the smallest short side that is enough (``None``: full size)
    and returns the decoded picture. Threads decode ahead of the model (both decoders release the GIL), and at most a
    few batches are in memory. With ``fast``, and by models in 8 bits, JPEGs are decoded no larger than
    :meth:`Encoder.enough_short_side`. Without ``unit``, vectors keep the length that the model gives. ``check`` gets
    the pixels ``[3, S, S]`` of each picture and may raise :class:`ImageError` instead of letting it be encoded.
    """
    enough = model.enough_short_side(fast)

    def load(item: Photograph) -> Any:
        try:
            if callable(item):
                picture = item(enough)
            else:
                data = read_image_file(item) if isinstance(item, Path) else item
                picture = decode(data, min_short_side=enough)
            pixels = model.preprocess.pixels(picture)
            if check is not None:
                check(pixels)
        except ImageError as error:
            return error
        return pixels

    pool, encoders = ThreadPoolExecutor(max(n_workers, 1)), ThreadPoolExecutor(model.n_callers)
    try:
        waiting: list[tuple[Key, Any]] = []
        for key, loaded in _ahead(pool, load, items, limit=2 * batch_size):
            waiting.append((key, loaded))
            if len(waiting) == batch_size:
                yield from _encode_batch(model, waiting, unit, encoders)
                waiting = []
        yield from _encode_batch(model, waiting, unit, encoders)
    finally:  # also if the consumer stops early or Ctrl-C is pressed
        pool.shutdown(cancel_futures=True)
        encoders.shutdown(cancel_futures=True)


def encode_readable(
    model: Encoder,
    items: Sequence[tuple[Key, Photograph]],
    title: str,
    *,
    stamps: Sequence[str] | None = None,
    batch_size: int = 64,
    n_workers: int = 2,
) -> tuple[list[tuple[Key, Float32[ndarray, " E"]]], list[tuple[Key, ImageError]]]:
    """Encode photographs behind a progress bar with this title.

    Return those that can be read with their unit vectors, and the others with their errors, each in order. If all are
    files, or have ``stamps``, an interrupted command goes on (:func:`iter_kept_images`).
    """
    good: list[tuple[Key, Float32[ndarray, " E"]]] = []
    failed: list[tuple[Key, ImageError]] = []
    paths = [item for _, item in items if isinstance(item, Path)]
    if len(paths) == len(items):
        stamps = [f"{path.absolute()} {stamp_file(path)}" for path in paths]
    with progress_bar(title, "images") as on_progress:
        encoded = iter_kept_images(
            model, items, stamps, batch_size=batch_size, n_workers=n_workers, on_progress=on_progress
        )
        for key, vector in encoded:
            if isinstance(vector, ImageError):
                failed.append((key, vector))
            else:
                good.append((key, vector))
    return good, failed


def iter_kept_images(
    model: Encoder,
    items: Sequence[tuple[Key, Photograph]],
    stamps: Sequence[str] | None,
    *,
    batch_size: int = 64,
    n_workers: int = 2,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[tuple[Key, Float32[ndarray, " E"] | ImageError]]:
    """Yield what :func:`iter_encoded_images` does; if there are many, vectors are kept for a later command.

    ``stamps`` tell the photographs and their state. The same photographs, in this order, are not encoded again by the
    same model, whether a command ended before or was interrupted. ``None``: nothing is kept.
    """
    question = None
    if stamps is not None and len(items) >= KEPT_PHOTOGRAPHS_FROM:
        question = _fingerprint(model, [json.dumps(model.preprocess.to_json()), str(batch_size), *stamps])
    with open_unfinished(question, (len(items), model.width), lasting=True) as kept:
        if kept.done:
            on_progress(kept.done, len(items))
        unread = [row for row in range(kept.done) if np.isnan(kept.vectors[row, 0])]
        asked_again = [(row, items[row][1]) for row in unread]
        again = dict(iter_encoded_images(model, asked_again, batch_size=batch_size, n_workers=n_workers))
        for row in range(kept.done):
            yield items[row][0], again[row] if row in again else kept.vectors[row]
        rest = ((row, items[row][1]) for row in range(kept.done, len(items)))
        for row, vector in iter_encoded_images(model, rest, batch_size=batch_size, n_workers=n_workers):
            kept.vectors[row] = np.nan if isinstance(vector, ImageError) else vector
            if (row + 1) % batch_size == 0 or row + 1 == len(items):
                kept.finish(row + 1)
            yield items[row][0], vector
            on_progress(row + 1, len(items))


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


def _encode_batch(
    model: Encoder, batch: list[tuple[Key, Any]], unit: bool, encoders: ThreadPoolExecutor
) -> Iterator[tuple[Key, Any]]:
    """Yield the vectors of a batch; each of the model's callers encodes parts of it."""
    good = [pixels for _, pixels in batch if not isinstance(pixels, ImageError)]
    n_at_once = len(good) if model.n_callers == 1 else min(AT_ONCE, -(-len(good) // model.n_callers))
    parts = [np.stack(good[start : start + n_at_once]) for start in range(0, len(good), max(n_at_once, 1))]
    encode = partial(encode_pixels, model, unit=unit)
    encoded = map(encode, parts) if model.n_callers == 1 else encoders.map(encode, parts)
    vectors = itertools.chain.from_iterable(encoded)
    for key, loaded in batch:
        yield key, loaded if isinstance(loaded, ImageError) else next(vectors)


def check_has_text(model: Encoder, purpose: str) -> None:
    """Raise LinnaeaError if a model has no text tower, and so cannot serve ``purpose``."""
    if not model.has_text:
        raise LinnaeaError(f"{model.name}: knows images alone and cannot {purpose}; use a model with a text tower")


def encode_captions(
    model: Encoder,
    captions: Sequence[str],
    *,
    on_progress: OnProgress = ignore_progress,
) -> Float32[ndarray, "K E"]:
    """Encode captions as unit vectors. Each distinct caption, and each beginning that several share, is encoded once.

    The other captions change a vector only by the rounding of float32 sums (1e-6).

    Raises:
        LinnaeaError: the model knows images alone.
    """
    check_has_text(model, "encode names")
    number_of: dict[str, int] = {}
    numbers = np.array([number_of.setdefault(caption, len(number_of)) for caption in captions], np.int64)
    return model.encode_captions(list(number_of), on_progress)[numbers]


def encode_taxa(
    model: Encoder,
    taxa: Sequence[Taxon],
    text_type: TextType,
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: OnProgress = ignore_progress,
) -> Float32[ndarray, "K E"]:
    """Encode each taxon as one unit vector: the mean over templates of its captions' unit vectors, normalised again."""
    return encode_names(model, [taxon.caption(text_type) for taxon in taxa], templates, on_progress=on_progress)


def encode_names(
    model: Encoder,
    names: Sequence[str],
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: OnProgress = ignore_progress,
) -> Float32[ndarray, "K E"]:
    """Encode names as :func:`encode_taxa` does for taxa (CLIP, arXiv 2103.00020, section 3.1.4).

    Names are encoded in blocks, so that a million names times eighty templates need no more memory than the result.
    Names in the order of the tree share the most work. If there are many, an interrupted command finds the blocks that
    were finished (:mod:`linnaea.model.unfinished`).
    """
    if not templates:
        raise ValueError("give at least one template")
    question = None
    if len(names) * len(templates) >= KEPT_FROM:
        question = _fingerprint(model, [str(CAPTIONS_AT_ONCE), *templates, "", *names])
    with open_unfinished(question, (len(names), model.width)) as kept:
        on_progress(kept.done, len(names))
        per_block = max(CAPTIONS_AT_ONCE // len(templates), 1)
        for start in range(kept.done, len(names), per_block):
            block = names[start : start + per_block]
            captions = [template.replace("{}", name) for name in block for template in templates]

            def report(done: int, total: int | None, start: int = start, n: int = len(block)) -> None:
                on_progress(start + (n * done // total if total else n), len(names))

            vectors = encode_captions(model, captions, on_progress=report).reshape(len(block), len(templates), -1)
            mean = vectors.mean(axis=1)
            kept.vectors[start : start + len(block)] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
            kept.finish(start + len(block))
        return kept.vectors


def _fingerprint(model: Encoder, words: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([__version__, model.fingerprint, model.precision]).encode())
    for word in words:
        digest.update(word.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()[:32]
