"""Vectors of pictures by an encoder that is handed in: they find crops and edits that no hash does."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.hashes import SIDE, HashTask, list_hash_tasks, save_array
from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.read import count_rows
from linnaea.data.sources import read_location

EncodePictures = Callable[[Sequence[Picture]], NDArray[np.float32]]
"""Returns the vectors ``[B, E]`` of pictures; whoever has a model hands it in."""


def encode_pictures(pictures: Iterable[Picture], encode: EncodePictures, batch: int = 64) -> NDArray[np.float32]:
    """Vectors ``[N, E]`` of length one, ``batch`` pictures at a time."""
    made: list[NDArray[np.float32]] = []
    waiting: list[Picture] = []
    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == batch:
            made.append(encode(waiting))
            waiting = []
    if waiting:
        made.append(encode(waiting))
    vectors = np.concatenate(made).astype(np.float32) if made else np.empty((0, 1), dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def find_leaks_by_embedding(
    train: NDArray[np.float32], benchmark: NDArray[np.float32], min_cosine: float
) -> pl.DataFrame:
    """Pairs of vectors (rows of length one, :func:`encode_pictures`) at least this similar.

    Finds crops and edits that no hash does, but also different photographs of one individual; the threshold depends
    on the encoder and needs a look at the hits.

    Returns:
        Columns ``train_row, benchmark_row, cosine``, sorted by the first two.
    """
    found = [pl.DataFrame(schema={"train_row": pl.Int64, "benchmark_row": pl.Int64, "cosine": pl.Float32})]
    block = max(1, 20_000_000 // max(len(benchmark), 1))
    for start in range(0, len(train), block):
        cosine = train[start : start + block] @ benchmark.T
        rows, columns = np.nonzero(cosine >= min_cosine)
        found.append(
            pl.DataFrame({"train_row": rows + start, "benchmark_row": columns, "cosine": cosine[rows, columns]})
        )
    return pl.concat(found)


def embed_pictures(pictures: Path, encode: EncodePictures, folder: Path, part_size: int) -> NDArray[np.float32]:
    """Vectors ``[N, E]`` of length one of a table of pictures, zeros for what is no picture; in parts, each done once.

    The encoder runs in this process: it holds a model, and whatever that runs on.
    """
    tasks = list_hash_tasks(pictures, count_rows(pictures), (), folder, part_size)
    parts = [_embed_part(task, encode) for task in tasks]
    width = max((part.shape[1] for part in parts), default=0)
    return np.concatenate([np.empty((0, width), dtype=np.float32), *(_widen(part, width) for part in parts)])


def _embed_part(task: HashTask, encode: EncodePictures) -> NDArray[np.float32]:
    path = task.part.with_suffix(".npy")
    if not path.exists():
        locations = pl.scan_parquet(task.pictures).select("location").slice(task.start, task.length).collect()
        decoded = [_decode_small(location) for location in locations["location"]]
        there = [row for row, picture in enumerate(decoded) if picture is not None]
        vectors = encode_pictures((picture for picture in decoded if picture is not None), encode)
        part = np.zeros((task.length, vectors.shape[1] if there else 0), dtype=np.float32)
        part[there] = vectors[: len(there)]
        save_array(part, path)
    loaded: NDArray[np.float32] = np.load(path)
    return loaded


def _decode_small(location: str) -> Picture | None:
    try:
        return decode(read_location(location), min_short_side=SIDE)
    except ImageError:
        return None


def _widen(part: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    return np.pad(part, ((0, 0), (0, width - part.shape[1])))
