"""The pictures of a build against one another and against benchmarks: hashed and searched in parts, each done once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from linnaea.data.copies.hashes import (
    CROP_STEPS,
    DistinctHashes,
    HashTable,
    gather_distinct,
    gather_hashes,
    hash_pictures,
    list_hash_tasks,
)
from linnaea.data.copies.leakage import Benchmark, EncodePictures, Vectors, embed_pictures, read_benchmark
from linnaea.data.copies.rules import DuplicateRule
from linnaea.data.copies.search import SearchTask, list_search_tasks, search
from linnaea.data.engine import Engine
from linnaea.data.read import RecordTables, count_rows
from linnaea.data.shards import write_parquet
from linnaea.errors import LinnaeaError
from linnaea.jobs import run_parts

TRAINING = ""
"""Stands for the records among the benchmarks."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Tables of pictures to be looked at: those of the records and of every benchmark."""

    folder: Path
    """Where the parts go."""
    benchmarks: tuple[Benchmark, ...]
    tables: dict[str, Path]
    """By name of the benchmark, and :data:`TRAINING`."""
    part_size: int
    """Pictures looked at by one task."""

    @classmethod
    def of(cls, reading: RecordTables, benchmarks: tuple[Benchmark, ...], part_size: int) -> "Gallery":
        """List the pictures of the benchmarks, unless that was done before.

        Raises:
            LinnaeaError: a benchmark holds no pictures.
        """
        folder = reading.folder / "pictures"
        tables = {TRAINING: reading.records_path}
        for number, benchmark in enumerate(benchmarks):
            tables[benchmark.name] = path = folder / f"benchmark-{number}.parquet"
            if not path.exists():
                write_parquet(read_benchmark(benchmark), path)
        return cls(folder=folder, benchmarks=benchmarks, tables=tables, part_size=part_size)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was found among the pictures."""

    training: HashTable
    distinct: DistinctHashes | None
    near: list[SearchTask]
    """The different hashes of the records, and pairs of them that are near, where the rule asks for near copies."""
    benchmarks: dict[str, tuple[HashTable, list[SearchTask]]]
    """By name, the hashes of a benchmark and the copies of its pictures."""


def compare(
    gallery: Gallery, rule: DuplicateRule, engine: Engine, on_progress: Callable[[int, int | None], None]
) -> Compared:
    """Hash the pictures of the records and of the benchmarks, and search for copies."""
    folder, by_image = gallery.folder, [benchmark for benchmark in gallery.benchmarks if benchmark.by_image]
    steps: dict[str, tuple[float, ...]] = {TRAINING: (0.0,), **{benchmark.name: CROP_STEPS for benchmark in by_image}}
    tasks = {
        name: list_hash_tasks(path, count_rows(path), steps[name], folder / path.stem, gallery.part_size)
        for name, path in gallery.tables.items()
        if name in steps
    }
    run_parts(hash_pictures, [task for some in tasks.values() for task in some], engine.map, on_progress)
    hashes = {name: gather_hashes(some, folder / f"{gallery.tables[name].stem}.npy") for name, some in tasks.items()}
    training = hashes[TRAINING]
    distinct, near = None, list[SearchTask]()
    if rule.near != "keep":
        distinct = gather_distinct(training, folder / "distinct.npy")
        near = list_search_tasks(distinct.path, distinct.path, rule.threshold, folder / "near")
    found = {}
    for benchmark in by_image:
        table, hits = hashes[benchmark.name], folder / f"{gallery.tables[benchmark.name].stem}-hits"
        searches = list_search_tasks(training.path, table.path, benchmark.threshold, hits, n_variants=table.n_variants)
        found[benchmark.name] = (table, searches)
    run_parts(search, [*near, *(task for _, some in found.values() for task in some)], engine.map, on_progress)
    return Compared(training=training, distinct=distinct, near=near, benchmarks=found)


def encode_gallery(gallery: Gallery, encode: EncodePictures | None) -> dict[str, Vectors]:
    """Vectors of the records and of the benchmarks that ask for them, by name; empty where none does.

    Raises:
        LinnaeaError: one asks, and there is no encoder.
    """
    asking = [benchmark.name for benchmark in gallery.benchmarks if benchmark.min_cosine]
    if not asking:
        return {}
    if encode is None:
        raise LinnaeaError(
            f"benchmark {asking[0]}: asks for similarity, but no encoder was handed in; set min_cosine 0"
        )
    return {
        name: embed_pictures(
            gallery.tables[name], encode, gallery.folder / gallery.tables[name].stem, gallery.part_size
        )
        for name in (TRAINING, *asking)
    }
