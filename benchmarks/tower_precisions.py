"""Compare the precisions of a model's image tower: processor time, and answers beside those of float32.

    python benchmarks/tower_precisions.py PHOTOGRAPHS [--model nano] [--n 500] [--threads 1] [--truth metadata.csv]

PHOTOGRAPHS is a folder, or a file with a path a line. ``--truth`` is a table of filepath, genus and species (the paths
end in filepath). ``ONEDNN_MAX_CPU_ISA=AVX2 OV_CPU_MAX_ISA=AVX2`` before the command rehearses a processor without
AVX-512 in OpenVINO and PyTorch, not in ONNX Runtime.
"""

import argparse
import csv
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from linnaea.model import runtimes
from linnaea.model.encoder import Encoder
from linnaea.model.folders import INT8_FILE
from linnaea.model.onnx import GraphModel
from linnaea.model.open import load_model, open_encoder
from linnaea.predict.inputs import list_inputs
from linnaea.predict.predictor import Asked, Predictor
from linnaea.predict.session import Model


def open_all(name: str) -> dict[str, Encoder]:
    """Every precision in every runtime that is here; PyTorch first, whose float32 the others are compared with."""
    found: dict[str, Encoder] = {"float32, PyTorch": load_model(name, device="cpu")}
    graph = open_encoder(name, device="cpu")
    if not isinstance(graph, GraphModel):
        return found
    for precision in ("float32", "bf16", "int8"):
        if precision == "int8" and not (graph.folder / INT8_FILE).exists():
            continue
        path = graph.folder / ("image.int8.onnx" if precision == "int8" else "image.onnx")
        side = graph.preprocess.image_size
        opened: dict[str, Any] = {}
        if precision != "bf16":
            opened["ONNX Runtime"] = runtimes.open_onnxruntime(path)
        if runtimes.has_openvino():
            opened["OpenVINO"] = runtimes._open_openvino(path, precision, side)
        for runtime, run in opened.items():
            opened_so = {(precision, graph.n_callers): run}
            found[f"{precision}, {runtime}"] = replace(graph, precision=precision, opened=opened_so)
    return found


def lineage(answer: Any) -> list[str]:
    return [name for name in answer.guesses[0].taxon.lineage if name] if answer.guesses else []


def compare(name: str, ms: float, before: Any, after: Any, truth: dict[str, str]) -> None:
    (species_0, auto_0, first_0), (species_1, auto_1, first_1) = before, after
    names_0, names_1 = ([one.guesses[0].taxon.scientific_name for one in of] for of in (species_0, species_1))
    same = np.array([a == b for a, b in zip(names_0, names_1, strict=True)])
    sure = np.array([one.guesses[0].score >= 0.5 for one in species_0])
    best = first_0.argmax(axis=1)
    rows = np.arange(len(best))
    change = np.abs(first_0[rows, best] - first_1[rows, best])
    right = sum(truth.get(one.name) == found for one, found in zip(species_1, names_1, strict=True))
    n_other = n_against = 0
    for a, b in zip(auto_0, auto_1, strict=True):
        x, y = lineage(a), lineage(b)
        if x != y:
            n_other += 1
            shared = min(len(x), len(y))
            n_against += x[:shared] != y[:shared]
    of_sure = f"{same[sure].sum()} of {sure.sum()}"
    print(f"{name:24} {ms:6.2f} ms | same {same.mean():.1%} | from 0.5: {of_sure} | right {right}"
          f" | change {change.mean():.5f}, most {change.max():.4f} | auto other {n_other / len(same):.1%},"
          f" contradicting {n_against}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--truth", type=Path)
    options = parser.parse_args()
    runtimes.count_cores = lambda: options.threads
    import torch

    torch.set_num_threads(options.threads)
    given = options.photographs
    paths = given.read_text().splitlines() if given.is_file() and given.suffix == ".txt" else [str(given)]
    inputs = list(list_inputs(paths))
    inputs = [inputs[at] for at in np.unique(np.linspace(0, len(inputs) - 1, options.n).astype(int))]
    truth: dict[str, str] = {}
    if options.truth:
        known = {row["filepath"]: f"{row['genus']} {row['species']}" for row in csv.DictReader(options.truth.open())}
        truth = {one.name: known.get("/".join(Path(one.name).parts[-3:]), "") for one in inputs}
    models = open_all(options.model)
    bank = Model(encoder=models["float32, PyTorch"], name=options.model).bank
    preprocess = models["float32, PyTorch"].preprocess
    pixels = np.stack([preprocess.pixels(one.load(None)) for one in inputs])
    before: Any = None
    for name, model in models.items():
        model.encode_pixels(pixels[:8])
        start = time.process_time()
        vectors = np.concatenate([model.encode_pixels(pixels[at : at + 8]) for at in range(0, len(pixels), 8)])
        ms = 1000 * (time.process_time() - start) / len(pixels)
        predictor = Predictor(model=model, bank=bank, asked=Asked(rank=None))
        species = list(Predictor(model=model, bank=bank).answer_vectors(inputs, list(vectors)))
        auto = list(predictor.answer_vectors(inputs, list(vectors)))
        judged = np.concatenate([one.probability_BK for one in predictor.judge(inputs, list(vectors))])
        found = species, auto, judged
        before = before or found
        compare(name, ms, before, found, truth)


if __name__ == "__main__":
    main()
