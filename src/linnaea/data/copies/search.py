"""Pictures that occur twice: exact copies, near copies, and training pictures that occur in a benchmark.

Near copies are found by PDQ (:mod:`linnaea.data.copies.hashes`) at a Hamming distance of at most ``THRESHOLD`` of 256
bits. A crop moves a hash far (5% of the area: about 40 bits), so each benchmark picture is hashed with 81 crops; the
training side, which is a thousand times larger, keeps one hash per picture. ``benchmarks/leakage.py`` calibrates the
threshold on real photographs.

The search is exact (multi-index hashing; Norouzi, Punjani and Fleet 2012, arXiv 1307.2982, section 3): of 16 words of
16 bits, at least one differs by at most ``threshold // 16`` bits, so 16 x 17 buckets hold every hit at threshold 31,
and 0.4% (random hashes) to 0.5% (photographs) of all pairs are compared: 3e9 pairs per second and core
(``benchmarks/leakage.py --scale``). 10 million training pictures against 12,000 benchmark pictures x 81 crops are
9.7e12 pairs: about an hour on one core, and the training side can be cut into any number of pieces. Memory: the
benchmark's hashes and their 16 tables (100 bytes per hash: 100 MB), and one block of the training side.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.clusters import connect
from linnaea.data.copies.hashes import CROP_STEPS, MIN_QUALITY, Hashes, perceptual_hash, variant_hashes
from linnaea.data.images import Picture

THRESHOLD = 31
"""PDQ's own threshold for "the same picture"; calibrated with crop variants by ``benchmarks/leakage.py``."""

N_WORDS = 16
BLOCK_PAIRS = 4_000_000
"""Pairs compared at once: bounds the memory of a search to about 300 MB."""

Rows = NDArray[np.int64]
Indices = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, kw_only=True)
class TrainHashes:
    """One hash per picture ``[N, 4]``, and its quality ``[N]``; a picture of low quality has no near copies."""

    bits: Hashes
    quality: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bits)


@dataclass(frozen=True, kw_only=True)
class BenchmarkHashes:
    """Hashes of all variants of all pictures of a benchmark."""

    bits: Hashes
    """``[V, 4]``."""
    row: Rows
    """``[V]``: which picture."""
    variant: NDArray[np.int64]
    """``[V]``: which of :func:`linnaea.data.copies.hashes.variants`."""


def hash_training(pictures: Iterable[Picture]) -> TrainHashes:
    """Hash pictures, one each."""
    made = [perceptual_hash(picture) for picture in pictures]
    return TrainHashes(
        bits=np.array([one.bits for one in made], dtype=np.uint64).reshape(-1, 4),
        quality=np.array([one.quality for one in made], dtype=np.int64),
    )


def hash_benchmark(
    pictures: Iterable[Picture], steps: tuple[float, ...] = CROP_STEPS, *, symmetries: bool = False
) -> BenchmarkHashes:
    """Hash every variant of every picture; ``symmetries`` adds mirrorings and turnings (8 times as many)."""
    bits: list[Hashes] = []
    rows: list[int] = []
    for row, picture in enumerate(pictures):
        hashes, quality = variant_hashes(picture, steps, symmetries=symmetries)
        if quality >= MIN_QUALITY:
            bits.append(hashes)
            rows.append(row)
    n_variants = len(bits[0]) if bits else 1
    return BenchmarkHashes(
        bits=np.concatenate(bits) if bits else np.empty((0, 4), dtype=np.uint64),
        row=np.repeat(np.array(rows, dtype=np.int64), n_variants),
        variant=np.tile(np.arange(n_variants, dtype=np.int64), len(rows)),
    )


def find_leaks(train: TrainHashes, benchmark: BenchmarkHashes, threshold: int = THRESHOLD) -> pl.DataFrame:
    """Training pictures that are near copies of benchmark pictures.

    Returns:
        Columns ``train_row, benchmark_row, distance, variant`` (the nearest one), sorted by the first two.
    """
    usable = np.flatnonzero(train.quality >= MIN_QUALITY)
    pairs = pl.concat(
        [_NO_PAIRS]
        + [
            pl.DataFrame(
                {
                    "train_row": usable[hits.query],
                    "benchmark_row": benchmark.row[hits.target],
                    "distance": hits.distance,
                    "variant": benchmark.variant[hits.target],
                }
            )
            for hits in iter_near(train.bits[usable], benchmark.bits, threshold)
        ]
    )
    return (
        pairs.sort("train_row", "benchmark_row", "distance", "variant")
        .group_by("train_row", "benchmark_row", maintain_order=True)
        .first()
    )


_NO_PAIRS = pl.DataFrame(
    schema={"train_row": pl.Int64, "benchmark_row": pl.Int64, "distance": pl.Int64, "variant": pl.Int64}
)


def near_duplicate_groups(hashes: TrainHashes, threshold: int = THRESHOLD) -> Rows:
    """A group for every picture: the lowest row among those it is linked to by near copies, directly or not.

    A picture without near copies is its own group. Low-quality pictures are linked to nothing.
    """
    usable = np.flatnonzero(hashes.quality >= MIN_QUALITY)
    bits = hashes.bits[usable]
    links = ((usable[hits.query], usable[hits.target]) for hits in iter_near(bits, bits, threshold))
    return connect(len(hashes), links)


def exact_groups(digests: Sequence[str]) -> Rows:
    """The same for exact copies: rows with equal digests (of bytes, or of pixels) share the lowest of their rows."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(digest, row) for row, digest in enumerate(digests)], dtype=np.int64)


def find_exact(train: Sequence[str] | pl.Series, benchmark: Sequence[str] | pl.Series) -> pl.DataFrame:
    """Training rows whose digest (of bytes, or of pixels) occurs in a benchmark: ``train_row, benchmark_row``.

    A null digest (a picture that cannot be read) equals none.
    """
    if not len(train) or not len(benchmark):
        return pl.DataFrame(schema={"train_row": pl.Int64, "benchmark_row": pl.Int64})
    sides = [pl.DataFrame({"digest": digests}) for digests in (train, benchmark)]
    return (
        sides[0]
        .with_row_index("train_row")
        .join(sides[1].with_row_index("benchmark_row"), on="digest")
        .select(pl.col("train_row", "benchmark_row").cast(pl.Int64))
        .sort("train_row", "benchmark_row")
    )


@dataclass(frozen=True)
class Hits:
    """Pairs within the threshold, each once."""

    query: Rows
    target: Rows
    distance: Rows


def iter_near(queries: Hashes, targets: Hashes, threshold: int) -> Iterator[Hits]:
    """Every pair of rows at Hamming distance ``threshold`` or less, in blocks of queries.

    Args:
        queries: ``[N, 4]``, the larger side; read block by block.
        targets: ``[M, 4]``, the side that is indexed.

    Raises:
        ValueError: the threshold is no distance that can be searched (0 to 63).
    """
    if not 0 <= threshold < 64:
        raise ValueError(f"threshold {threshold}: must lie between 0 and 63")
    if not len(targets) or not len(queries):
        return
    if len(targets) < 2_000:
        yield from _compare_all(queries, targets, threshold)
        return
    index = _Index(targets)
    flips = _masks(threshold // N_WORDS)
    share = N_WORDS * len(flips) / 65_536
    block = max(1, int(BLOCK_PAIRS / max(share * len(targets), 1)))
    for start in range(0, len(queries), block):
        yield index.search(queries[start : start + block], start, flips, threshold)


def _compare_all(queries: Hashes, targets: Hashes, threshold: int) -> Iterator[Hits]:
    block = max(1, BLOCK_PAIRS // len(targets))
    for start in range(0, len(queries), block):
        some = queries[start : start + block]
        distance = np.zeros((len(some), len(targets)), dtype=np.uint16)
        for word in range(4):
            distance += np.bitwise_count(some[:, None, word] ^ targets[None, :, word])
        query, target = np.nonzero(distance <= threshold)
        yield Hits(query + start, target, distance[query, target].astype(np.int64))


class _Index:
    """16 tables, one per word of 16 bits: the rows sorted by that word, and where each value begins."""

    def __init__(self, targets: Hashes) -> None:
        self.targets = targets
        self.rows, self.begins = [], []
        for word in _words(targets).T:
            self.rows.append(np.argsort(word, kind="stable").astype(np.int32))
            counts = np.bincount(word, minlength=65_536)
            self.begins.append(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))

    def search(self, queries: Hashes, offset: int, flips: NDArray[np.uint16], threshold: int) -> Hits:
        found = [_EMPTY]
        for number, word in enumerate(_words(queries).T):
            keys = (word[:, None] ^ flips[None, :]).ravel()
            begin = self.begins[number][keys]
            n_in = self.begins[number][keys.astype(np.int64) + 1] - begin
            for low, high in _pieces(n_in):
                query = np.repeat(np.arange(low, high) // len(flips), n_in[low:high])
                target = self.rows[number][_ranges(begin[low:high], n_in[low:high])]
                found.append(_near_enough(queries, query, self.targets, target, threshold))
        # A pair whose words agree in several places was found several times.
        pairs = np.unique(np.concatenate(found), axis=0)
        return Hits(pairs[:, 0] + offset, pairs[:, 1], pairs[:, 2])


def _near_enough(queries: Hashes, query: Indices, targets: Hashes, target: Indices, threshold: int) -> Rows:
    """``[n, 3]``: query, target, distance of those candidate pairs that are within the threshold."""
    # Two words of four settle nearly every pair: of 128 bits of unrelated pictures, 64 differ.
    near = np.flatnonzero(_distance(queries, query, targets, target, (0, 1)) <= threshold)
    query, target = query[near], target[near]
    distance = _distance(queries, query, targets, target, (0, 1, 2, 3))
    kept = distance <= threshold
    return np.stack([query[kept], target[kept], distance[kept]], axis=1).astype(np.int64)


def _ranges(begin: Rows, n_in: Rows) -> Rows:
    """``begin[0], begin[0] + 1, ...``: the indices of all runs, one after another."""
    ends = np.cumsum(n_in)
    return np.asarray(np.arange(n_in.sum()) + np.repeat(begin - (ends - n_in), n_in), dtype=np.int64)


_EMPTY = np.empty((0, 3), dtype=np.int64)


def _pieces(n_in: Rows) -> Iterator[tuple[int, int]]:
    """Cut buckets into runs of about ``BLOCK_PAIRS`` pairs: flat pictures make some buckets very full."""
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
    """Every 16-bit word with at most ``n_bits`` bits set."""
    return np.array(
        [sum(1 << bit for bit in bits) for n in range(n_bits + 1) for bits in combinations(range(16), n)],
        dtype=np.uint16,
    )


Encoder = Callable[[Sequence[Picture]], NDArray[np.float32]]
"""Pictures to vectors ``[B, E]``; a model is handed in by whoever has one."""


def encode_pictures(pictures: Iterable[Picture], encode: Encoder, batch: int = 64) -> NDArray[np.float32]:
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


@dataclass(frozen=True, kw_only=True)
class TaxonMatch:
    """Which taxa of a table a benchmark holds. Look at ``unmatched``: a filter that matches nothing filters nothing."""

    is_in_benchmark: NDArray[np.bool_]
    """``[K]``, one per row of the table of taxa."""
    unmatched: tuple[str, ...]
    """Names of the benchmark that no taxon has; or that are no species' names."""


def match_benchmark_taxa(taxa: pl.DataFrame, names: Iterable[str]) -> TaxonMatch:
    """Find the species of a benchmark in a table of taxa, whatever the spelling of names and separators.

    BioCLIP's filter for Rare Species compared ``Animalia-Mollusca-...-Cyclonaias-tuberculata`` with
    ``Cyclonaias tuberculata`` and matched 0 of 400. Synonyms match only if ``names`` holds them: resolve the
    benchmark's names first (:mod:`linnaea.taxonomy`) and pass both the raw and the resolved ones.

    Args:
        taxa: columns ``genus`` and ``species`` (epithet; what follows its first word, a subspecies, is ignored).
        names: "Genus epithet", with blanks or underscores, in any case; or a lineage of seven ranks joined by
            hyphens, underscores or blanks, also with a number before it as in iNat21's folders.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    unreadable = []
    for name in names:
        key = species_key(name)
        if key is None:
            unreadable.append(name)
        else:
            wanted.setdefault(key, []).append(name)
    keys = [
        (genus.strip().lower(), species.split()[0].lower() if species.split() else "")
        for genus, species in taxa.select(pl.col("genus", "species").fill_null("")).iter_rows()
    ]
    present = set(keys)
    missing = [name for key, spelled in wanted.items() if key not in present for name in spelled]
    return TaxonMatch(
        is_in_benchmark=np.array([key in wanted for key in keys], dtype=np.bool_),
        unmatched=(*unreadable, *missing),
    )


def species_key(name: str) -> tuple[str, str] | None:
    """(genus, epithet) in lower case of a species' name or lineage; ``None`` where there is no epithet."""
    words = name.lower().replace("_", " ").split()
    if len(words) == 1 and words[0].count("-") >= 6:
        words = words[0].split("-", 6)  # a hyphen after the sixth belongs to the epithet (c-album)
    if words and words[0].isdigit():
        words = words[1:]
    match words:
        case [_, _, _, _, _, genus, species, *_] if genus and species:
            return genus, species
        case [genus, species] | [genus, species, _] | [genus, species, _, _] if genus and species:
            return genus, species
        case _:
            return None
