"""Time and memory of a build's first two stages without their pictures: read, names, copies, leaks, splits, the plan.

    python benchmarks/settle_scale.py --records 200000
    python benchmarks/settle_scale.py --records 1000000 --plain

Records are drawn (50,000 species at most, an observation of two pictures each); the parts that hashing would leave are
written beforehand: random hashes, of which a tenth is a near copy of another record, and a benchmark of 1,000 pictures
with 81 hashes each, of which half occur among the records. ``--plain`` compares no pictures, as a build by default.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from linnaea.data.copies.compare import TRAINING, Gallery
from linnaea.data.copies.hashes import CROP_STEPS, PART_SCHEMA, list_hash_tasks
from linnaea.data.copies.leakage import Benchmark
from linnaea.data.copies.rules import DuplicateRule
from linnaea.data.engine import LocalEngine
from linnaea.data.naming import NamingRule
from linnaea.data.read import RecordTables, count_rows, read_sources
from linnaea.data.settle import SettleRules, settle
from linnaea.data.shards import write_parquet
from linnaea.data.sources import Record
from linnaea.data.splits import SplitRule
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.taxon import Taxon

PART, N_BENCHMARK = 4_000, 1_000


@dataclass(frozen=True)
class Drawn:
    """Records without pictures."""

    n: int
    species: pl.DataFrame
    name: str = "drawn"

    def describe(self) -> dict[str, str]:
        return {"n": str(self.n)}

    def records(self) -> Iterator[Record]:
        taxa = [
            Taxon.of(family=family, genus=genus, species=epithet) for family, genus, epithet in self.species.iter_rows()
        ]
        for number in range(self.n):
            taxon = taxa[number * 7919 % len(taxa)]
            yield Record(source="drawn", record_id=str(number), location=f"/nowhere/{number}.jpg", taxon=taxon,
                         group=f"observation {number // 2}", facts={"label": taxon.scientific_name})  # fmt: skip


def write_parts(gallery: Gallery, name: str, steps: tuple[float, ...], hashes: np.ndarray) -> None:
    """What hashing leaves: random checksums, and the given hashes ``[N, n_variants, 4]``."""
    random, path = np.random.default_rng(len(hashes)), gallery.tables[name]
    for task in list_hash_tasks(path, count_rows(path), steps, gallery.folder / path.stem, PART):
        some = hashes[task.start : task.start + task.length]
        rows = [(random.bytes(32), random.bytes(32), one.tobytes()) for one in some]
        write_parquet(pl.DataFrame(rows, schema=PART_SCHEMA, orient="row"), task.part)


def flip(hashes: np.ndarray, n_bits: int, random: np.random.Generator) -> np.ndarray:
    """Up to ``n_bits`` bits changed in each."""
    for _ in range(n_bits):
        word, bit = random.integers(0, 4, len(hashes)), random.integers(0, 64, len(hashes), dtype=np.uint64)
        hashes[np.arange(len(hashes)), word] ^= np.uint64(1) << bit
    return hashes


def plant_copies(reading: RecordTables, n: int, exam: Path) -> tuple[Benchmark, ...]:
    """Hashes of the records and of a benchmark, some near each other; returns the benchmark."""
    random = np.random.default_rng(0)
    own, n_copies = random.integers(0, 2**64, (n, 4), dtype=np.uint64), n // 10
    own[:n_copies] = flip(own[n_copies : 2 * n_copies].copy(), 10, random)
    crops = random.integers(0, 2**64, (N_BENCHMARK, 81, 4), dtype=np.uint64)
    crops[::2, 40] = flip(own[-N_BENCHMARK // 2 :].copy(), 10, random)
    pl.DataFrame(
        {"filepath": [f"{row}.jpg" for row in range(N_BENCHMARK)], "scientific_name": "Pica pica"}
    ).write_parquet(exam)
    benchmark = Benchmark(name="exam", path=exam)
    gallery = Gallery.of(reading, (benchmark,), PART)
    write_parts(gallery, TRAINING, (0.0,), own[:, None])
    write_parts(gallery, "exam", CROP_STEPS, crops)
    return (benchmark,)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--names", action="store_true", help="settle names by the embedded checklist too")
    parser.add_argument("--plain", action="store_true", help="neither copies nor benchmarks")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    n = options.records
    taxa = load_checklist("inat").taxa.filter(pl.col("species") != "").select("family", "genus", "species")
    species = taxa.gather_every(max(1, taxa.height // 50_000))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        reading = read_sources([Drawn(n, species)], Path(folder))
        print(f"read    {n:,} records: {time.perf_counter() - start:.1f} s, {_peak()}")
        benchmarks = () if options.plain else plant_copies(reading, n, Path(folder) / "exam.parquet")
        rules = SettleRules(
            names=NamingRule(checklists=("inat",) if options.names else ()), benchmarks=benchmarks, splits=SplitRule(),
            duplicates=DuplicateRule(near="keep" if options.plain else "group"), part_size=PART,
        )  # fmt: skip
        start = time.perf_counter()
        settle(reading, rules, LocalEngine(options.workers), lambda done, total: None)
        print(f"settle  {time.perf_counter() - start:.1f} s, {_peak()}")
        print((Path(folder) / "settled.json").read_text())


def _peak() -> str:
    return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


if __name__ == "__main__":
    main()
