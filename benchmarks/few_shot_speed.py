"""SimpleShot: time and memory against the published way, which builds a tensor of classes x queries x width.

    python benchmarks/few_shot_speed.py                       # 400 classes x 12,000 queries x 512, on random features
    python benchmarks/few_shot_speed.py --queries-plain 200   # fewer queries for the published way (time is scaled up)

Each way runs in a process of its own, which reports its peak resident memory above what the inputs take. The
published way is measured on a part of the queries where the whole tensor does not fit, and its time is scaled.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

from linnaea.evaluate.probes import simple_shot

N_SHOTS = 5


def make_features(n_classes: int, n_queries: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random unit vectors around class centres: support ``[classes * 5, width]`` and queries, classes in turn."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_classes, width)).astype(np.float32)
    vectors = rng.normal(size=(n_classes * N_SHOTS + n_queries, width)).astype(np.float32) * 3
    vectors[: n_classes * N_SHOTS] += np.repeat(centres, N_SHOTS, axis=0)
    vectors[n_classes * N_SHOTS :] += centres[np.arange(n_queries) % n_classes]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[: n_classes * N_SHOTS], vectors[n_classes * N_SHOTS :]


def classify_plainly(support: NDArray[np.float32], query: NDArray[np.float32], n_classes: int) -> NDArray[np.int64]:
    """The protocol with all differences of centroids and queries in one tensor."""
    centre = support.mean(axis=0)
    support, query = support - centre, query - centre
    support /= np.linalg.norm(support, axis=1, keepdims=True)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    centroids = support.reshape(n_classes, N_SHOTS, -1).mean(axis=1)
    differences = centroids[:, None, :] - query
    return np.asarray(np.linalg.norm(differences, axis=-1).argmin(axis=0))


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, n_classes: int, n_queries: int, width: int) -> None:
    """Run one way in this process; prints seconds, peak, its part above the inputs, and the answers' sum."""
    support, query = make_features(n_classes, n_queries, width)
    label = np.repeat(np.arange(n_classes), N_SHOTS)
    before, start = peak_mb(), time.perf_counter()
    if way == "ours":
        answers = simple_shot(support, label, query, n_classes)
    else:
        answers = classify_plainly(support, query, n_classes)
    seconds = time.perf_counter() - start
    right = float((answers == np.arange(n_queries) % n_classes).mean())
    print(f"{seconds} {peak_mb()} {peak_mb() - before} {right}")


def main() -> None:
    """Measure both ways, each in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=400)
    parser.add_argument("--queries", type=int, default=12_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries-plain", type=int, default=1_000)
    parser.add_argument("--way", choices=["ours", "plain"], help="measure this one in this process")
    options = parser.parse_args()
    if options.way:
        measure(options.way, options.classes, options.queries, options.width)
        return
    print(f"{options.classes:,} classes, {options.queries:,} queries, width {options.width}, {N_SHOTS} shots")
    for way, n_queries in (
        ("ours", options.queries),
        ("plain", options.queries_plain),
        ("ours", options.queries_plain),
    ):
        sizes = ["--classes", options.classes, "--queries", n_queries, "--width", options.width]
        command = [sys.executable, __file__, "--way", way, *map(str, sizes)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds, peak, above, right = map(float, out.split())
        scaled = f", scaled to all queries {seconds * options.queries / n_queries:.1f} s" if way == "plain" else ""
        print(f"{way:<6}{n_queries:>7,} queries {seconds:7.2f} s{scaled}; peak {peak:,.0f} MB, {above:,.0f} MB above"
              f" the inputs; {right:.4f} right")  # fmt: skip
    whole = options.classes * options.queries * options.width * 4 / 1e9
    print(f"the whole tensor of the published way would take {whole:.1f} GB")


if __name__ == "__main__":
    main()
