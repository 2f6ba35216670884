"""A real build beside a benchmark: how many near copies it removes, and how many photographs it should have kept.

    python benchmarks/leakage_build.py --root ../shared/species-images

Of the photographs of a folder with ``metadata.csv`` (columns ``filepath`` and ``group``), 1,000 are the benchmark. A
near copy of each (cut by 0 to 5% on each side, scaled by 0.4 to 1.5, saved as JPEG of quality 50 to 95, all three at
once) is planted among the others, and ``linnaea data build --table ... --benchmark ...`` runs over all of them, as a
user runs it. What was removed is read from ``rejects.parquet``. A photograph that is removed although nobody planted it
counts apart where the table's ``group`` calls it a near copy of a benchmark picture: a true duplicate.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from leakage import near_copy
from linnaea.data.images import decode
from linnaea.tables import read_table


def plant(root: Path, work: Path, n_benchmark: int, n_others: int, seed: int) -> None:
    """Write the copies, and the tables of the benchmark and of the training pictures."""
    table = read_table(root / "metadata.csv").rows.sort("filepath")
    random = np.random.default_rng(seed)
    order = random.permutation(table.height)
    names = table.columns
    table = table.with_columns(filepath=pl.lit(f"{root.resolve()}/") + pl.col("filepath"))
    benchmark, others = table[order[:n_benchmark]], table[order[n_benchmark:][: n_others or None]]
    copies = []
    for number, path in enumerate(benchmark["filepath"]):
        copy = work / "copies" / f"{number:06d}.jpg"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(near_copy(decode(Path(path).read_bytes()), random))
        copies.append(str(copy))
    planted = benchmark.with_columns(filepath=pl.Series(copies), group=pl.lit("planted"))
    benchmark.select(names).write_csv(work / "benchmark.csv")
    pl.concat([others, planted]).select(names).write_csv(work / "training.csv")


def build(work: Path, workers: int) -> float:
    command = [sys.executable, "-m", "linnaea", "data", "build", "--table", str(work / "training.csv"),
               "--label-column", "raw_label", "--benchmark", str(work / "benchmark.csv"),
               "--output", str(work / "data"), "--workers", str(workers)]  # fmt: skip
    print("linnaea", *command[3:], flush=True)
    start = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 3):
        sys.exit(done.returncode)
    print(done.stdout.strip())
    return time.perf_counter() - start


def judge(root: Path, work: Path) -> None:
    """Compare what was removed with what was planted."""
    training, benchmark = read_table(work / "training.csv").rows, read_table(work / "benchmark.csv").rows
    rejects = pl.read_parquet(work / "data" / "rejects.parquet")
    removed = rejects.filter(pl.col("reason").str.starts_with("occurs in benchmark")).select("record_id", "reason")
    removed = removed.join(training.select("filepath", "group"), left_on="record_id", right_on="filepath")
    named = pl.col("reason").str.extract(r" -- (.*), (?:cut|whole|same)")
    removed = removed.with_columns(picture=named)
    planted = removed.filter(pl.col("group") == "planted")
    number = planted["record_id"].str.extract(r"(\d+)\.jpg$").cast(pl.Int64)
    right = int((benchmark["filepath"][number] == planted["picture"]).sum())
    share = planted.height / benchmark.height
    n = benchmark.height
    print(f"planted copies removed: {planted.height:,} of {n:,} ({share:.1%}; {right:,} by the right picture)")
    group_of = dict(benchmark.select("filepath", "group").iter_rows())
    others = removed.filter(pl.col("group") != "planted")
    known = [
        bool(group) and group_of[picture] == group for group, picture in others.select("group", "picture").iter_rows()
    ]
    n_real, n_false = training.height - benchmark.height, len(known) - sum(known)
    print(f"other photographs removed: {n_false} of {n_real:,} ({n_false / n_real:.3%});"
          f" and {sum(known)} that the table itself calls copies of the benchmark")  # fmt: skip
    for path, reason in others.filter(~pl.Series(known, dtype=pl.Boolean)).select("record_id", "reason").iter_rows():
        print(f"  {path.removeprefix(str(root.resolve()))}: {reason.replace(str(root.resolve()), '')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2] / "shared" / "species-images")
    parser.add_argument("--images", type=int, default=1000, help="benchmark pictures, and copies planted")
    parser.add_argument("--others", type=int, default=0, help="other photographs at most (0: all)")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.root / "metadata.csv").is_file():
        print(f"skipped: {options.root} holds no metadata.csv; give --root")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        plant(options.root, work, options.images, options.others, options.seed)
        seconds = build(work, options.workers)
        n = read_table(work / "training.csv").rows.height
        print(f"{n:,} records in {seconds:.0f} s: {n / seconds:.0f} a second, hashing and shards together")
        judge(options.root, work)


if __name__ == "__main__":
    main()
