"""The search for near copies: pairs of perceptual hashes (:mod:`linnaea.data.copies.hashes`) at a small distance.

Near copies differ in at most ``THRESHOLD`` of 256 bits. A crop changes a hash a lot (5% of the area: about 40 bits),
so each benchmark picture is hashed with 81 crops; the training side, which is a thousand times larger, keeps one hash
per picture. ``benchmarks/leakage.py`` calibrates the threshold on real photographs.

The search is exact (multi-index hashing; Norouzi, Punjani and Fleet 2012, arXiv 1307.2982, section 3): of 16 words of
16 bits, at least one differs by at most ``threshold // 16`` bits, so 16 x 17 buckets hold every hit at threshold 31,
and 0.4% (random hashes) to 0.5% (photographs) of all pairs are compared: 3e9 pairs per second and core
(``benchmarks/leakage.py --scale``). 10 million training pictures against 12,000 benchmark pictures x 81 crops are
9.7e12 pairs: about an hour on one core, and the training side can be cut into any number of pieces. Memory: the
benchmark's hashes and their 16 tables (100 bytes per hash: 100 MB), and one block of the training side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.hashes import Hashes
from linnaea.data.shards import write_parquet
from linnaea.parquet import read_parquet

THRESHOLD = 31
"""The threshold that PDQ recommends for "the same picture"; ``benchmarks/leakage.py`` calibrates it with crops."""

N_WORDS = 16
BLOCK_PAIRS = 4_000_000
"""Number of pairs per comparison; it bounds the memory of a search to about 300 MB."""

QUERIES_AT_ONCE = 1_000
"""Number of queries whose links to other rows are searched for at once."""

Rows = NDArray[np.int64]
Wanted = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]
"""Tells which pairs of rows (queries and targets) are worth comparing."""
Indices = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Hits:
    """The pairs within the threshold, each once."""

    query: Rows
    target: Rows
    distance: Rows


def iter_near(queries: Hashes, targets: Hashes, threshold: int) -> Iterator[Hits]:
    """Yield every pair of rows at Hamming distance ``threshold`` or less, in blocks of queries.

    Args:
        queries: ``[N, 4]``, the larger side; read block by block.
        targets: ``[M, 4]``, the side that is indexed.

    Raises:
        ValueError: the threshold is outside the range that can be searched (0 to 63).
    """
    if not 0 <= threshold < 64:
        raise ValueError(f"threshold {threshold}: must be between 0 and 63")
    if not len(targets) or not len(queries):
        return
    if len(targets) < 2_000:
        yield from _compare_all(queries, targets, threshold)
        return
    index = SearchIndex(targets)
    flips = _masks(threshold // N_WORDS)
    block = max(1, int(BLOCK_PAIRS / max(N_WORDS * len(flips) / 65_536 * len(targets), 1)))
    for start in range(0, len(queries), block):
        yield index.search(queries[start : start + block], start, threshold)


def _compare_all(queries: Hashes, targets: Hashes, threshold: int) -> Iterator[Hits]:
    block = max(1, BLOCK_PAIRS // len(targets))
    for start in range(0, len(queries), block):
        some = queries[start : start + block]
        distance = np.zeros((len(some), len(targets)), dtype=np.uint16)
        for word in range(4):
            distance += np.bitwise_count(some[:, None, word] ^ targets[None, :, word])
        query, target = np.nonzero(distance <= threshold)
        yield Hits(query + start, target, distance[query, target].astype(np.int64))


class SearchIndex:
    """16 tables, one per word of 16 bits: the rows sorted by that word, and the start of each value."""

    def __init__(self, targets: Hashes) -> None:
        self.targets = targets
        self.rows, self.begins = [], []
        for word in _words(targets).T:
            self.rows.append(np.argsort(word, kind="stable").astype(np.int32))
            counts = np.bincount(word, minlength=65_536)
            self.begins.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def search(self, queries: Hashes, offset: int, threshold: int) -> Hits:
        found = [_EMPTY]
        for query, target in self._iter_pieces(queries, threshold):
            found.append(_near_enough(queries, query, self.targets, target, threshold))
        # A pair that agrees in several words was found several times.
        pairs = np.unique(np.concatenate(found), axis=0)
        return Hits(pairs[:, 0] + offset, pairs[:, 1], pairs[:, 2])

    def iter_later(self, start: int, end: int, threshold: int, wanted: Wanted) -> Iterator[Hits]:
        """Yield the near pairs of the rows ``start`` to ``end`` and later rows that are ``wanted``, piece by piece.

        A pair may come several times.
        """
        for low in range(start, end, QUERIES_AT_ONCE):
            queries = self.targets[low : min(low + QUERIES_AT_ONCE, end)]
            for query, target in self._iter_pieces(queries, threshold):
                chosen = np.flatnonzero(query + low < target)
                chosen = chosen[wanted(query[chosen] + low, target[chosen])]
                pairs = _near_enough(queries, query[chosen], self.targets, target[chosen], threshold)
                yield Hits(pairs[:, 0] + low, pairs[:, 1], pairs[:, 2])

    def _iter_pieces(self, queries: Hashes, threshold: int) -> Iterator[tuple[Indices, Indices]]:
        """Yield candidates for near pairs: those that nearly agree in a word."""
        flips = _masks(threshold // N_WORDS)
        for number, word in enumerate(_words(queries).T):
            keys = (word[:, None] ^ flips[None, :]).ravel()
            begin = self.begins[number][keys]
            n_in = self.begins[number][keys.astype(np.int64) + 1] - begin
            for low, high in _pieces(n_in):
                query = np.repeat(np.arange(low, high) // len(flips), n_in[low:high])
                yield query, self.rows[number][_ranges(begin[low:high], n_in[low:high])]


def _near_enough(queries: Hashes, query: Indices, targets: Hashes, target: Indices, threshold: int) -> Rows:
    """Return ``[n, 3]``: query, target and distance of the candidate pairs within the threshold."""
    # Two words of four decide nearly every pair: unrelated pictures differ in 64 of 128 bits.
    near = np.flatnonzero(_distance(queries, query, targets, target, (0, 1)) <= threshold)
    query, target = query[near], target[near]
    distance = _distance(queries, query, targets, target, (0, 1, 2, 3))
    kept = distance <= threshold
    return np.stack([query[kept], target[kept], distance[kept]], axis=1).astype(np.int64)


def _ranges(begin: Rows, n_in: Rows) -> Rows:
    """Return the indices of all runs in sequence: ``begin[0], begin[0] + 1, ...``."""
    ends = np.cumsum(n_in)
    return np.asarray(np.arange(n_in.sum()) + np.repeat(begin - (ends - n_in), n_in), dtype=np.int64)


_EMPTY = np.empty((0, 3), dtype=np.int64)


def empty_hits() -> Hits:
    """Return no pairs."""
    return Hits(_EMPTY[:, 0], _EMPTY[:, 1], _EMPTY[:, 2])


def _pieces(n_in: Rows) -> Iterator[tuple[int, int]]:
    """Cut buckets into runs of about ``BLOCK_PAIRS`` pairs; flat pictures make some buckets very full."""
    ends = np.cumsum(n_in)
    low = 0
    while low < len(n_in):
        done = int(ends[low - 1]) if low else 0
        high = max(int(np.searchsorted(ends, done + BLOCK_PAIRS)), low + 1)
        yield low, high
        low = high


def _distance(a: Hashes, row_a: Indices, b: Hashes, row_b: Indices, words: tuple[int, ...]) -> Rows:
    total = np.zeros(len(row_a), dtype=np.int64)
    for word in words:
        total += np.bitwise_count(a[row_a, word] ^ b[row_b, word])
    return total


def _words(hashes: Hashes) -> NDArray[np.uint16]:
    return np.ascontiguousarray(hashes).view(np.uint16).reshape(len(hashes), N_WORDS)


def _masks(n_bits: int) -> NDArray[np.uint16]:
    """Return every 16-bit word with at most ``n_bits`` bits set."""
    return np.array(
        [sum(1 << bit for bit in bits) for n in range(n_bits + 1) for bits in combinations(range(16), n)],
        dtype=np.uint16,
    )


# A search in parts.

HIT_SCHEMA: dict[str, Any] = {"query": pl.Int64, "target": pl.Int64, "distance": pl.Int64}

SEARCH_SIZE = 250_000
"""Number of query hashes per task; each task rebuilds the index of the targets (seconds for 10 million)."""


@dataclass(frozen=True, kw_only=True)
class SearchTask:
    """A task to search for one slice of hashes among the targets."""

    queries: Path
    start: int
    length: int
    targets: Path
    n_variants: int
    """Hashes per target picture; the nearest hit of each pair is kept."""
    threshold: int
    part: Path

    @property
    def receipt_path(self) -> Path:
        """The file of the part, which is its own receipt."""
        return self.part


def list_search_tasks(
    queries: Path, targets: Path, threshold: int, folder: Path, *, n_variants: int = 1
) -> list[SearchTask]:
    """Return a task per slice of a file of hashes, which searches for the slice in another file or in the same."""
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
    """Search for one slice and write every pair of a query and a target picture with the nearest variant's row."""
    queries = np.load(task.queries, mmap_mode="r")[task.start : task.start + task.length]
    found = [pl.DataFrame(schema=HIT_SCHEMA)]
    for hits in iter_near(np.ascontiguousarray(queries), np.load(task.targets, mmap_mode="r"), task.threshold):
        block = {"query": hits.query + task.start, "target": hits.target, "distance": hits.distance}
        found.append(_nearest(pl.DataFrame(block, schema=HIT_SCHEMA), task.n_variants))
    write_parquet(pl.concat(found), task.part)
    return task.length


def _nearest(hits: pl.DataFrame, n_variants: int) -> pl.DataFrame:
    pictures = pl.Series("picture", hits["target"].to_numpy() // n_variants)
    ordered = hits.with_columns(pictures).sort("query", "picture", "distance", "target")
    return ordered.unique(["query", "picture"], keep="first", maintain_order=True).select(*HIT_SCHEMA)


def iter_hits(tasks: Sequence[SearchTask]) -> Iterator[pl.DataFrame]:
    """Yield the results of the tasks, part by part: ``query``, ``target`` (rows of the two files) and ``distance``."""
    for task in tasks:
        yield read_parquet(task.part)
