"""Hashes of many pictures, in parts: pure functions of a slice of a table, run by an engine, each part done once.

A part is one file, written in one step: where it exists, its pictures are not decoded again. A training picture has one
perceptual hash, a benchmark's picture one per crop. On disk a picture takes 32 bytes per hash and 64 for its two
checksums; in memory a search needs the hashes alone: 320 MB for 10 million pictures, mapped from a file, so that the
workers of one machine share them. Reading a photograph for its hashes is most of the work (5 to 8 ms for 1000 x 800
with scaled JPEG decode, its 81 crops 1 ms more); a build that asks for no duplicates and no benchmarks does none of it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow
from numpy.typing import NDArray

from linnaea.data.copies.hashes import MIN_QUALITY, SIDE, Hashes, pixel_sha256, variant_hashes
from linnaea.data.copies.search import Encoder, encode_pictures, iter_near
from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.read import count_rows
from linnaea.data.shards import write_parquet
from linnaea.data.sources import read_location
from linnaea.storage import atomic_path

HASH_BYTES = 32

PART_SCHEMA: dict[str, Any] = {"sha256": pl.Binary, "pixels": pl.Binary, "hashes": pl.Binary}
"""A row per picture: checksums of its bytes and of its pixels (as decoded here: scaled, upright), and its perceptual
hashes one after another. All null for what is no picture; ``hashes`` null where there is too little contrast."""

HIT_SCHEMA: dict[str, Any] = {"query": pl.Int64, "target": pl.Int64, "distance": pl.Int64}

SEARCH_SIZE = 250_000
"""Hashes searched for by one task: it builds the index of the other side anew, seconds for 10 million."""


@dataclass(frozen=True, kw_only=True)
class HashTask:
    """A slice of a table of pictures (column ``location``) to be hashed."""

    pictures: Path
    start: int
    length: int
    steps: tuple[float, ...]
    """Shares to cut off each side in turn (see :func:`linnaea.data.copies.hashes.variants`); ``(0.0,)``: nothing."""
    part: Path

    @property
    def receipt_path(self) -> Path:
        """The part itself."""
        return self.part


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """A slice of hashes to be searched for among others."""

    queries: Path
    start: int
    length: int
    targets: Path
    n_variants: int
    """Hashes per target; of a pair's hits the nearest is kept."""
    threshold: int
    part: Path

    @property
    def receipt_path(self) -> Path:
        """The part itself."""
        return self.part


def hash_pictures(task: HashTask) -> int:
    """Hash one slice; returns how many pictures it has."""
    import cv2

    cv2.setNumThreads(1)  # the engine's workers are the parallelism
    table = pl.scan_parquet(task.pictures).select("location").slice(task.start, task.length).collect()
    rows = [_hash_one(location, task.steps) for location in table["location"]]
    write_parquet(pl.DataFrame(rows, schema=PART_SCHEMA, orient="row"), task.part)
    return task.length


def _hash_one(location: str, steps: tuple[float, ...]) -> tuple[bytes | None, bytes | None, bytes | None]:
    try:
        data = read_location(location)
        picture = decode(data, min_short_side=SIDE)
    except ImageError:  # the stage that makes shards rejects it, and says why
        return None, None, None
    hashes, quality = variant_hashes(picture, steps)
    perceptual = hashes.tobytes() if quality >= MIN_QUALITY else None
    return hashlib.sha256(data).digest(), bytes.fromhex(pixel_sha256(picture)), perceptual


def list_hash_tasks(
    pictures: Path, n_pictures: int, steps: tuple[float, ...], folder: Path, part_size: int
) -> list[HashTask]:
    """The slices of a table of pictures; parts go into ``folder``."""
    return [
        HashTask(pictures=pictures, start=start, length=min(part_size, n_pictures - start), steps=steps,
                 part=folder / f"{number:06d}.parquet")
        for number, start in enumerate(range(0, n_pictures, part_size))
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HashTable:
    """The hashes of a table of pictures, parts put together."""

    parts: tuple[Path, ...]
    rows: NDArray[np.int64]
    """``[N]``: the pictures with perceptual hashes, in order."""
    path: Path
    """A file of ``uint64 [N * n_variants, 4]``: their hashes."""
    n_variants: int

    def load(self) -> Hashes:
        """All hashes, mapped from the file."""
        hashes: Hashes = np.load(self.path, mmap_mode="r")
        return hashes

    def digests(self, kind: str) -> pl.Series:
        """[n_pictures] ``sha256`` or ``pixels`` of every picture: 480 MB for 10 million."""
        empty = pl.Series(kind, [], dtype=pl.Binary)
        return pl.concat([empty, *(pl.read_parquet(part, columns=[kind])[kind] for part in self.parts)])

    def hex(self, n_pictures: int) -> pl.Series:
        """[n_pictures] each picture's (first) hash as 64 hex digits, null where it has none."""
        bits = self.load()[:: self.n_variants].astype(">u8")
        flat = pyarrow.Array.from_buffers(pyarrow.binary(HASH_BYTES), len(bits), [None, pyarrow.py_buffer(bits)])
        hexes = pl.Series(flat, dtype=pl.Binary).bin.encode("hex")
        places = pl.DataFrame({"row": self.rows, "pdq": hexes}, schema={"row": pl.Int64, "pdq": pl.String})
        every = pl.DataFrame({"row": np.arange(n_pictures)}, schema={"row": pl.Int64})
        return every.join(places, on="row", how="left", maintain_order="left")["pdq"]


def gather_hashes(tasks: Sequence[HashTask], path: Path) -> HashTable:
    """Put the parts of one table together and write the hashes to ``path``."""
    n_variants = len(tasks[0].steps) ** 4 if tasks else 1
    rows, hashes = [], []
    for task in tasks:
        made = pl.read_parquet(task.part, columns=["hashes"])["hashes"]
        rows.append(task.start + np.flatnonzero(made.is_not_null().to_numpy()))
        joined = b"".join(made.drop_nulls())
        hashes.append(np.frombuffer(joined, dtype=np.uint64).reshape(-1, 4))
    _save(np.concatenate([np.empty((0, 4), dtype=np.uint64), *hashes]), path)
    return HashTable(
        parts=tuple(task.part for task in tasks),
        rows=np.concatenate([np.empty(0, dtype=np.int64), *rows]).astype(np.int64),
        path=path,
        n_variants=n_variants,
    )


@dataclass(frozen=True, kw_only=True)
class DistinctHashes:
    """The different hashes among those of a table: a picture that occurs ten thousand times is searched for once."""

    table: HashTable
    path: Path
    """A file of ``uint64 [D, 4]``."""
    number: NDArray[np.int64]
    """``[N]``: which of them each of the ``rows`` of the table has."""


def gather_distinct(table: HashTable, path: Path) -> DistinctHashes:
    """Write the different hashes of a table of pictures to ``path``; sorting 10 million takes about 1.5 GB."""
    distinct, number = np.unique(table.load(), axis=0, return_inverse=True)
    _save(distinct, path)
    return DistinctHashes(table=table, path=path, number=number.reshape(-1).astype(np.int64))


def _save(array: NDArray[Any], path: Path) -> None:
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.save(stream, array)


def list_search_tasks(
    queries: Path, targets: Path, threshold: int, folder: Path, *, n_variants: int = 1
) -> list[SearchTask]:
    """The slices of a file of hashes, each to be searched for among all of another file, or of the same."""
    n_queries = len(np.load(queries, mmap_mode="r"))
    return [
        SearchTask(
            queries=queries,
            start=start,
            length=min(SEARCH_SIZE, n_queries - start),
            targets=targets,
            n_variants=n_variants,
            threshold=threshold,
            part=folder / f"{number:06d}.parquet",
        )
        for number, start in enumerate(range(0, n_queries, SEARCH_SIZE))
    ]


def search(task: SearchTask) -> int:
    """Search for one slice; writes every pair of a query and a target picture with the nearest variant's row."""
    queries = np.load(task.queries, mmap_mode="r")[task.start : task.start + task.length]
    found = [pl.DataFrame(schema=HIT_SCHEMA)]
    for hits in iter_near(np.ascontiguousarray(queries), np.load(task.targets, mmap_mode="r"), task.threshold):
        query = hits.query + task.start
        # Among themselves every pair is found twice, and every picture finds itself.
        once = query < hits.target if task.queries == task.targets else np.ones(len(query), dtype=bool)
        block = {"query": query[once], "target": hits.target[once], "distance": hits.distance[once]}
        found.append(_nearest(pl.DataFrame(block, schema=HIT_SCHEMA), task.n_variants))
    write_parquet(pl.concat(found), task.part)
    return task.length


def _nearest(hits: pl.DataFrame, n_variants: int) -> pl.DataFrame:
    pictures = pl.Series("picture", hits["target"].to_numpy() // n_variants)
    ordered = hits.with_columns(pictures).sort("query", "picture", "distance", "target")
    return ordered.unique(["query", "picture"], keep="first", maintain_order=True).select(*HIT_SCHEMA)


def iter_hits(tasks: Sequence[SearchTask]) -> Iterator[pl.DataFrame]:
    """What the tasks found, part by part: ``query``, ``target`` (rows of the two files) and ``distance``."""
    for task in tasks:
        yield pl.read_parquet(task.part)


def embed_pictures(pictures: Path, encode: Encoder, folder: Path, part_size: int) -> NDArray[np.float32]:
    """Vectors ``[N, E]`` of length one of a table of pictures, zeros for what is no picture; in parts, each done once.

    The encoder runs in this process: it holds a model, and whatever that runs on.
    """
    tasks = list_hash_tasks(pictures, count_rows(pictures), (), folder, part_size)
    parts = [_embed_part(task, encode) for task in tasks]
    width = max((part.shape[1] for part in parts), default=0)
    return np.concatenate([np.empty((0, width), dtype=np.float32), *(_widen(part, width) for part in parts)])


def _embed_part(task: HashTask, encode: Encoder) -> NDArray[np.float32]:
    path = task.part.with_suffix(".npy")
    if not path.exists():
        locations = pl.scan_parquet(task.pictures).select("location").slice(task.start, task.length).collect()
        decoded = [_decode_small(location) for location in locations["location"]]
        there = [row for row, picture in enumerate(decoded) if picture is not None]
        vectors = encode_pictures((picture for picture in decoded if picture is not None), encode)
        part = np.zeros((task.length, vectors.shape[1] if there else 0), dtype=np.float32)
        part[there] = vectors[: len(there)]
        _save(part, path)
    loaded: NDArray[np.float32] = np.load(path)
    return loaded


def _decode_small(location: str) -> Picture | None:
    try:
        return decode(read_location(location), min_short_side=SIDE)
    except ImageError:
        return None


def _widen(part: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    return np.pad(part, ((0, 0), (0, width - part.shape[1])))
