"""The search for copies within a build and in benchmarks: hashing and searching in parts, each done once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.hashes import (
    CROP_STEPS,
    HashTable,
    gather_distinct,
    gather_hashes,
    hash_pictures,
    list_hash_tasks,
)
from linnaea.data.copies.leakage import Benchmark, EncodePictures, Vectors, embed_pictures, read_benchmark
from linnaea.data.copies.links import search_links
from linnaea.data.copies.rules import link_near
from linnaea.data.copies.search import SearchTask, iter_hits, list_search_tasks, search
from linnaea.data.engine import Engine
from linnaea.data.read import RecordTables, count_rows
from linnaea.data.shards import write_parquet
from linnaea.errors import LinnaeaError
from linnaea.jobs import ignore_progress, run_parts

TRAINING = ""
"""The name of the records among the names of benchmarks."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The tables of pictures to compare: one of the records and one per benchmark."""

    folder: Path
    """The folder of the parts."""
    benchmarks: tuple[Benchmark, ...]
    tables: dict[str, Path]
    """The tables, by name of the benchmark or :data:`TRAINING`."""
    part_size: int
    """Number of pictures per task."""

    @classmethod
    def of(cls, reading: RecordTables, benchmarks: tuple[Benchmark, ...], part_size: int) -> "Gallery":
        """Write the table of pictures of every benchmark, unless it exists.

        Raises:
            LinnaeaError: a benchmark has no pictures.
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
    """The results of the search for copies."""

    training: HashTable
    benchmarks: dict[str, tuple[HashTable, list[SearchTask]]]
    """The hashes of each benchmark and the copies of its pictures, by name."""


def compare(gallery: Gallery, engine: Engine, on_progress: Callable[[int, int | None], None]) -> Compared:
    """Hash the pictures of the records and of the benchmarks, and search for copies of the benchmarks' pictures."""
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
    found = {}
    for benchmark in by_image:
        table, hits = hashes[benchmark.name], folder / f"{gallery.tables[benchmark.name].stem}-hits"
        searches = list_search_tasks(training.path, table.path, benchmark.threshold, hits, n_variants=table.n_variants)
        found[benchmark.name] = (table, searches)
    run_parts(search, [task for _, some in found.values() for task in some], engine.map, on_progress)
    return Compared(training=training, benchmarks=found)


def search_near(
    gallery: Gallery, compared: Compared, threshold: int, alive: NDArray[np.bool_], engine: Engine
) -> pl.DataFrame:
    """Return the links among near copies of the records that are ``alive`` (:data:`~.rules.LINK_SCHEMA`)."""
    distinct = gather_distinct(compared.training, alive, gallery.folder / "distinct.npy")
    tasks = list_search_tasks(distinct.path, distinct.path, threshold, gallery.folder / "near")
    run_parts(search_links, tasks, engine.map, ignore_progress)
    return link_near(distinct, iter_hits(tasks))


def encode_gallery(gallery: Gallery, encode: EncodePictures | None) -> dict[str, Vectors]:
    """Return the vectors of the records and of the benchmarks with ``min_cosine``, by name; empty if there are none.

    Raises:
        LinnaeaError: a benchmark needs an encoder, and none was given.
    """
    asking = [benchmark.name for benchmark in gallery.benchmarks if benchmark.min_cosine]
    if not asking:
        return {}
    if encode is None:
        raise LinnaeaError(
            f"benchmark {asking[0]}: min_cosine needs an encoder, but none was given; set min_cosine to 0"
        )
    return {
        name: embed_pictures(
            gallery.tables[name], encode, gallery.folder / gallery.tables[name].stem, gallery.part_size
        )
        for name in (TRAINING, *asking)
    }
