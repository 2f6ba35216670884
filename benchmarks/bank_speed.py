"""A label bank of a million taxa: what products, softmax, calibration and the sums of all ranks take for a photograph.

    python benchmarks/bank_speed.py [--taxa 1000000] [--batches 32 1] [--rounds 3] [--against ../before/src]

Float32 and 8-bit products of this source tree, and with ``--against`` float32 of another one (the ``src`` folder of
another checkout), take turns in processes of their own. The bank's names are species of the embedded checklist, its
vectors random, in fp16 on disk; each photograph lies near one of them. The scale is 46.4, as nano's. Each figure is the
median of the rounds, milliseconds a photograph, wall clock and processor time. The last columns compare 8 bits with
float32: photographs with the same first species, the largest change of the first probability and of any rank's sum, and
megabytes in memory that are no mapped file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bank_memory import make_bank_folder

CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from linnaea.predict.calibration import Calibration, calibrate_probabilities
from linnaea.predict.classifier import iter_scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank

folder, way, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
start = time.perf_counter()
bank = LabelBank.open(folder)
opened = time.perf_counter() - start
bank.groups
calibration = Calibration(sharpness=(0.9, 1.1, 1.0, 0.8, 1.2, 1.05, 0.7))
def work():
    for block in iter_scored(images, bank, 46.4, exact=True):
        sums = sum_to_all_ranks(calibrate_probabilities(block.probability_BK, bank, calibration), bank)
    return sums
if way == "8 bits":
    from linnaea.predict.fused import iter_ranked
    from linnaea.predict.int8 import load_rounded
    rounded = load_rounded(bank.vectors)
    def work():
        for block in iter_ranked(images, bank, rounded, 46.4, calibration):
            sums = block.sums_of
        return sums
rng = np.random.default_rng(1)
near = np.asarray(bank.vectors[rng.choice(len(bank), n)], np.float32)
images = near * 0.4 + rng.standard_normal(near.shape, np.float32) * (0.9 / near.shape[1] ** 0.5)
images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
took, sums = [], {}
for _ in range(3):
    clocks = time.perf_counter(), time.process_time()
    sums = work()
    took.append([(now - then) * 1000 / n for now, then in zip((time.perf_counter(), time.process_time()), clocks)])
status = open("/proc/self/status").read().splitlines()
held = sum(int(line.split()[1]) for line in status if line.startswith(("RssAnon", "RssShmem"))) / 1024
first = {rank.label: values.max(axis=1).tolist() for rank, values in sums.items()}
chosen = next(iter(sums.values())).argmax(axis=1).tolist()
print(json.dumps({"wall": min(w for w, _ in took), "cpu": min(c for _, c in took), "opened": opened, "mb": held,
                  "first": first, "chosen": chosen}))
"""


def measure(src: Path, folder: Path, way: str, n: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), way, str(n)],
        env={**os.environ, "PYTHONPATH": str(src)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def compare(lower: dict, exact: dict) -> str:
    same = sum(a == b for a, b in zip(lower["chosen"], exact["chosen"], strict=True))
    changes = {
        r: max(abs(a - b) for a, b in zip(lower["first"][r], exact["first"][r], strict=True)) for r in exact["first"]
    }
    return (f"  first species the same {same} of {len(exact['chosen'])};"
            f" largest change: species {changes['species']:.1e}, any rank {max(changes.values()):.1e}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--taxa", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="the src folder of another checkout")
    parser.add_argument("--folder", type=Path, help="keep the bank there, for another run")
    options = parser.parse_args()
    here = Path(__file__).resolve().parent.parent / "src"
    ways = {"float32": (here, "float32"), "8 bits": (here, "8 bits")}
    if options.against:
        ways = {"float32, other checkout": (options.against, "float32"), **ways}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)) / f"{options.taxa}-{options.width}-float16"
        make_bank_folder(folder, options.taxa, options.width, "float16")
        for n in options.batches:
            runs = {name: [] for name in ways}
            for turn in range(options.rounds):
                order = list(ways) if turn % 2 == 0 else list(ways)[::-1]
                for name in order:
                    runs[name].append(measure(ways[name][0], folder, ways[name][1], n))
            print(f"{options.taxa:,} taxa x {options.width}, batch {n}, {options.rounds} rounds")
            base = statistics.median(run["wall"] for run in next(iter(runs.values())))
            for name, of_way in runs.items():
                wall, cpu, mb = (statistics.median(run[key] for run in of_way) for key in ("wall", "cpu", "mb"))
                print(f"  {name:24} {wall:7.1f} ms ({base / wall:.2f} x), processor {cpu:7.1f} ms; {mb:,.0f} MB;"
                      f" opened in {of_way[0]['opened']:.2f} s")  # fmt: skip
            print(compare(runs["8 bits"][0], runs["float32"][0]))


if __name__ == "__main__":
    main()
