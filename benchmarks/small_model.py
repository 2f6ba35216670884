"""Measure how far the answers of a model made small for apps are from those of the whole model.

    python benchmarks/small_model.py nano ../shared/species-images/cub --within class:Aves

For each rank of the groups and both forms of the weights, it prints the number of labels, the size of the folder, and
the largest and the 99th percentile (over photographs) of the differences between probabilities: of the taxa that
remain, and of all taxa at the ranks above them that both label banks have.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

import linnaea
from linnaea.predict.inputs import iter_inputs
from linnaea.predict.session import Model
from linnaea.taxonomy.ranks import Rank


def probabilities(model: Model, images: list[Path]) -> dict[tuple[str, ...], np.ndarray]:
    """Return the probability ``[N]`` of every taxon at every rank, by its lineage."""
    vectors = list(model.embed(images).array)
    judged = np.concatenate([one.probability_BK for one in model.predictor().judge(list(iter_inputs(images)), vectors)])
    found = {}
    for rank, sums in model.bank.groups.sums(judged).items():
        for number, start in enumerate(model.bank.groups.starts[rank]):
            found[model.bank.taxon(int(start)).lineage[: rank + 1]] = sums[:, number]
    return found


def compare(whole: dict[tuple[str, ...], np.ndarray], small: dict[tuple[str, ...], np.ndarray]) -> np.ndarray:
    """Return the largest difference of each photograph."""
    shared = [lineage for lineage in small if lineage in whole and lineage[-1]]
    return np.max([np.abs(whole[lineage] - small[lineage]) for lineage in shared], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--within", nargs="+", default=["class:Aves"])
    parser.add_argument("--n", type=int, default=300)
    asked = parser.parse_args()
    every = sorted(path for path in asked.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    images = [every[n] for n in np.sort(np.random.default_rng(0).permutation(len(every))[: asked.n])]
    whole = linnaea.open(asked.model, device="cpu")
    wanted = probabilities(whole, images)
    print(f"{len(images)} photographs, {len(whole.bank):,} labels")
    with tempfile.TemporaryDirectory() as folder:
        for rank in (Rank.GENUS, Rank.FAMILY, Rank.ORDER):
            for int8 in (False, True):
                packed = linnaea.pack(asked.model, folder, image_only=True, within=asked.within, int8=int8,
                                      group_rank=rank.label)  # fmt: skip
                far = compare(wanted, probabilities(linnaea.open(folder), images))
                print(f"{rank.label:<7} {'int8' if int8 else 'float32':<8} {packed.n_labels:>8,} labels"
                      f" {packed.n_bytes / 1e6:6.1f} MB   largest {far.max():.4f}   99% {np.quantile(far, 0.99):.4f}"
                      f"   above 0.02: {(far > 0.02).sum()}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
