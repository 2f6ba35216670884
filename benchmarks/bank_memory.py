"""A label bank of a million taxa: how long it takes to open, and what it holds in memory while it scores.

    python benchmarks/bank_memory.py [--taxa 1000000] [--vectors float16|int8|float32] [--folder DIR]

The names are species of the embedded checklist, the vectors random and of unit length. Opening and scoring run in a
process of their own; "resident" is all that process has in memory, the interpreter, PyTorch and the mapped pages of the
bank included, at its highest (VmHWM), the "opened" line after opening alone.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CHILD = """
import sys, time
from pathlib import Path
import numpy as np
import polars, torch  # what the command has loaded by then
from linnaea.predict.classifier import iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank

def resident(word):
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[word].split()[0]) / 1024

bare = resident("VmRSS")
start = time.perf_counter()
bank = LabelBank.open(Path(sys.argv[1]))
opened = time.perf_counter() - start
print("n_taxa", len(bank))
print("bare_mb", bare)
print("open_s", opened)
print("opened_mb", resident("VmRSS"))
start = time.perf_counter()
bank.groups
print("tree_s", time.perf_counter() - start)
n = int(sys.argv[2])
images = np.random.default_rng(1).standard_normal((n, bank.vectors.shape[1])).astype(np.float32)
images /= np.linalg.norm(images, axis=1, keepdims=True)
start, ranks = time.perf_counter(), 0.0
for block in iter_scored(images, bank, 100.0):
    before = time.perf_counter()
    sums = sum_to_all_ranks(block.probability_BK, bank)
    best = {rank: values.argmax(axis=1) for rank, values in sums.items()}
    names = [str(bank.group(rank, int(rows[0]))) for rank, rows in best.items()]
    ranks += time.perf_counter() - before
print("score_ms", (time.perf_counter() - start - ranks) / n * 1000)
print("ranks_ms", ranks / n * 1000)
print("peak_mb", resident("VmHWM"))
"""


def make_bank_folder(folder: Path, n_taxa: int, width: int, dtype: str) -> None:
    """A bank of real names and random vectors; an existing folder is used again."""
    if (folder / "bank.json").exists():
        return
    from linnaea.predict.label_lists import taxa_of_checklist
    from linnaea.predict.labels import LabelBank
    from linnaea.taxonomy.checklists.store import load_checklist

    taxa = taxa_of_checklist(load_checklist("inat"))
    assert taxa.height >= n_taxa, f"the checklist has {taxa.height:,} species"
    kept = np.sort(np.random.default_rng(0).choice(taxa.height, n_taxa, replace=False))
    vectors = random_unit_vectors(n_taxa, width, seed=0)
    facts = {"model": "random", "text_type": "taxon_com", "templates": ["{}"]}
    bank = LabelBank(taxa[kept], vectors, facts)
    bank.save(folder, dtype=getattr(np, dtype))


def random_unit_vectors(n: int, width: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, width), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taxa", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--vectors", choices=("float16", "int8", "float32"), default="float16")
    parser.add_argument("--folder", type=Path, help="keep the bank there, for another run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)) / f"{options.taxa}-{options.width}-{options.vectors}"
        start = time.perf_counter()
        make_bank_folder(folder, options.taxa, options.width, options.vectors)
        print(f"bank made in {time.perf_counter() - start:.0f} s")
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), str(options.images)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    facts = {name: float(value) for name, value in re.findall(r"^(\w+) ([\d.]+)$", done.stdout, re.M)}
    print(f"{facts['n_taxa']:,.0f} taxa x {options.width}, {options.vectors}; {options.images} images")
    print(f"  opened in {facts['open_s']:.2f} s (aim: under 1), the tree's ranges in {facts['tree_s']:.2f} s more")
    print(f"  resident: {facts['bare_mb']:,.0f} MB before, {facts['opened_mb']:,.0f} MB opened")
    print(f"  at most {facts['peak_mb']:,.0f} MB while scoring (aim: under 1,500)")
    print(f"  per image: {facts['score_ms']:.1f} ms for the product and softmax, {facts['ranks_ms']:.1f} for all ranks")


if __name__ == "__main__":
    main()
