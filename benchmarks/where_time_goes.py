"""Where the time of a photograph goes, from the file to the names of all ranks, and the memory while it goes there.

    python benchmarks/where_time_goes.py [--model vit|nano] [--precisions float32 bf16 int8] [--taxa 1000000]
        [--photographs FOLDER] [--n 128] [--folder KEEP]

``vit`` is ViT-B/16 of random weights, as a packed model (speed only), with a bank of real names and random vectors;
``nano`` answers with its own labels unless --taxa is given. Each precision has a process of its own. Stages are timed
alone, in batches of 32 and for one photograph, then the whole as `predict` runs it, where stages overlap: "busy" is the
share of the cores that worked. Memory is what is no mapped file, and the mapped pages, after each step and along the
photographs. ``ONEDNN_MAX_CPU_ISA=AVX2 OV_CPU_MAX_ISA=AVX2`` before the command rehearses a processor without AVX-512.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bank_memory import make_bank_folder
from predict_pybioclip import make_int8, make_photographs, make_tower

CHILD = """
import json, sys, time
model_name, labels, precision, paths = json.loads(sys.argv[1])
out = {"stages": {}, "memory": []}

def remember(word):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    mb = [int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "VmHWM")]
    out["memory"].append([word, *mb])

def clocks():
    return time.perf_counter(), time.process_time()

def took(before, n=1):
    return [1000 * (now - then) / n for now, then in zip(clocks(), before)]

start = clocks()
import linnaea
from linnaea.data.images import decode
from linnaea.predict.calibration import Calibration
from linnaea.predict.classifier import sum_to_all_ranks
from linnaea.predict.fused import rank_blocks
from linnaea.predict.inputs import list_inputs
from linnaea.predict.predictor import Asked, Predictor, decide
from linnaea.taxonomy.ranks import Rank
import numpy as np
remember("imports")
model = linnaea.open(model_name, precision=precision, device="cpu")
encoder = model.encoder
size = encoder.preprocess.image_size
encoder.encode_pixels(np.zeros((1, 3, size, size), np.uint8))
remember("model")
bank = model.bank if labels is None else __import__("linnaea.predict.labels", fromlist=["LabelBank"]).LabelBank.open(
    __import__("pathlib").Path(labels))
calibration = Calibration(sharpness=(0.9, 1.1, 1.0, 0.8, 1.2, 1.05, 0.7))
inputs = list_inputs(paths)
predictor = Predictor(model=encoder, bank=bank, asked=Asked(rank=None), n_workers=2)
list(predictor.answer(inputs[:2]))
out["first"] = took(start)
remember("labels and the first answers")

def stages(n):
    some, ms = inputs[:n], {}
    rounds = max(3, 32 // n) if n < 32 else 2
    def time_it(name, work):
        best = None
        for _ in range(rounds):
            before = clocks()
            result = work()
            now = took(before, n)
            best = now if best is None else [min(pair) for pair in zip(best, now)]
        ms[name] = best
        return result
    data = time_it("read", lambda: [open(one.path, "rb").read() for one in some])
    enough = encoder.enough_short_side(False)
    pictures = time_it("decode", lambda: [decode(one, min_short_side=enough) for one in data])
    pixels = time_it("resize", lambda: [encoder.preprocess.pixels(one) for one in pictures])
    vectors = time_it("tower", lambda: encoder.encode_pixels(np.stack(pixels)))
    scale = encoder.logit_scale
    score = lambda: list(rank_blocks(vectors, bank, predictor.rounded, scale, calibration))
    blocks = time_it("product, softmax, calibration", score)
    sums = time_it("sums of all ranks", lambda: [one.sums_of or sum_to_all_ranks(one.probability_BK, bank)
                                                 for one in blocks])
    time_it("decision and name", lambda: [decide(one, bank, 0.9) for one in sums])
    return ms

out["stages"] = {"32": stages(min(32, len(inputs))), "1": stages(1)}
remember("stages")
before, best = None, None
for _ in range(2):
    before = clocks()
    for number, answer in enumerate(predictor.answer(inputs), start=1):
        if _ == 0 and number % 32 == 0:
            remember(f"{number} photographs")
    now = took(before, len(inputs))
    best = now if best is None else [min(pair) for pair in zip(best, now)]
out["whole"] = best
alone = []
for one in inputs[:12]:
    before = clocks()
    list(predictor.answer([one]))
    alone.append(took(before))
out["alone"] = sorted(alone)[len(alone) // 2]
print(json.dumps(out))
"""


def measure(model: str, labels: str | None, precision: str, paths: list[str]) -> dict:
    words = json.dumps([model, labels, precision, paths])
    done = subprocess.run([sys.executable, "-c", CHILD, words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def show(precision: str, found: dict, n_cores: int) -> None:
    print(f"\n{precision}: from process start to the first two answers {found['first'][0] / 1000:.2f} s"
          f" ({found['first'][1] / 1000:.2f} processor s)")  # fmt: skip
    print(f"| stage, {precision} | in a batch, wall ms | processor ms | one alone, wall ms | processor ms |")
    print("|---|---:|---:|---:|---:|")
    for stage, (wall, cpu) in found["stages"]["32"].items():
        one_wall, one_cpu = found["stages"]["1"][stage]
        print(f"| {stage} | {wall:.2f} | {cpu:.2f} | {one_wall:.2f} | {one_cpu:.2f} |")
    wall, cpu = found["whole"]
    one_wall, one_cpu = found["alone"]
    print(f"| the whole | {wall:.2f} | {cpu:.2f} | {one_wall:.2f} | {one_cpu:.2f} |")
    print(f"busy: {cpu / wall / n_cores:.0%} of {n_cores} cores in a folder")
    print(f"| memory, {precision}, MB | not mapped | mapped file | highest |")
    print("|---|---:|---:|---:|")
    for word, anonymous, mapped, highest in found["memory"]:
        print(f"| {word} | {anonymous:,.0f} | {mapped:,.0f} | {highest:,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("vit", "nano"), default="vit")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16", "int8"])
    parser.add_argument("--taxa", type=int, help="labels of the bank; default: 1,000,000, for nano its own")
    parser.add_argument("--photographs", type=Path, help="a folder of one's own; default: drawn, 1000 x 800")
    parser.add_argument("--n", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="keep tower, bank and drawn photographs there, for another run")
    options = parser.parse_args()
    n_cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        place = options.folder or Path(scratch)
        own = sorted(options.photographs.rglob("*.jpg"))[: options.n] if options.photographs else ()
        paths = [str(path) for path in own] or make_photographs(place / "photographs", options.n)
        model, labels, n_taxa = options.model, None, options.taxa or (1_000_000 if options.model == "vit" else 0)
        if model == "vit":
            make_tower(place / "vit", "ViT-B-16")
            make_int8(place / "vit", paths)
            model = str(place / "vit")
        if n_taxa:
            width = 512 if options.model == "vit" else 256
            labels = str(place / f"{n_taxa}-{width}-float16")
            make_bank_folder(Path(labels), n_taxa, width, "float16")
        print(f"{options.model}, {n_taxa or 'own'} labels, {len(paths)} photographs, {n_cores} cores")
        for precision in options.precisions:
            show(precision, measure(model, labels, precision, paths), n_cores)


if __name__ == "__main__":
    main()
