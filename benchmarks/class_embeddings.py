"""Zero-shot class vectors, classes x templates: Linnaea against open_clip's loop over classes, same model, one run.

The peers are open_clip's own ``build_zero_shot_classifier_legacy`` (one class at a time, as published evaluations do)
and ``build_zero_shot_classifier`` (ten classes at a time). All take the 80 OpenAI templates. The peers are measured on
a part of the classes, in two halves around ours; ours on the same part and on all. Rates are classes a second.

    python benchmarks/class_embeddings.py                                  # 10,000 classes, a small tower
    python benchmarks/class_embeddings.py --classes 400 --classes-peer 40  # scaled down, both alike
    python benchmarks/class_embeddings.py --tower vit-b16 --classes 200 --classes-peer 10
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import open_clip
import torch

from linnaea.evaluate.evaluation import TEMPLATES
from linnaea.model.encode import encode_names
from linnaea.model.load import TaxonModel
from linnaea.taxonomy.taxon import TextType
from text_bank import make_small, make_vit_b16, read_taxa

CALLS = tuple(lambda name, template=template: template.replace("{}", name) for template in TEMPLATES["openai"])


def encode_ten(model: TaxonModel, names: list[str]) -> torch.Tensor:
    weights = open_clip.build_zero_shot_classifier(model.clip, model.tokenizer, names, CALLS, device="cpu")
    return weights.T


def encode_one_by_one(model: TaxonModel, names: list[str]) -> torch.Tensor:
    weights = open_clip.build_zero_shot_classifier_legacy(model.clip, model.tokenizer, names, CALLS, device="cpu")
    return weights.T


def seconds_of(work: Callable[..., object], *arguments: object) -> tuple[float, object]:
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    """Measure, interleaved; print rates, ratios, the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", choices=("small", "vit-b16"), default="small")
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--classes-peer", type=int, default=100)
    parser.add_argument("--text-type", type=TextType, default=TextType.SCI)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = make_small() if options.tower == "small" else make_vit_b16()
    model.clip.eval()
    names = [taxon.caption(options.text_type) for taxon in read_taxa("", options.classes, seed=0)]
    part = names[: options.classes_peer]
    half = len(part) // 2
    encode_names(model, names[-2:], TEMPLATES["openai"])
    encode_one_by_one(model, names[-1:])

    seconds = {"one class at a time": 0.0, "ten at a time": 0.0, "Linnaea, the same classes": 0.0}
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in seconds}
    for piece in (part[:half], part[half:]):
        for name, work in (
            ("one class at a time", encode_one_by_one),
            ("Linnaea, the same classes", lambda m, n: encode_names(m, n, TEMPLATES["openai"])),
            ("ten at a time", encode_ten),
        ):
            took, result = seconds_of(work, model, piece)
            seconds[name] += took
            vectors[name].append(np.asarray(result))
    whole, _ = seconds_of(encode_names, model, names, TEMPLATES["openai"])

    rate = {name: len(part) / took for name, took in seconds.items()} | {"Linnaea, all classes": len(names) / whole}
    first = rate["one class at a time"]
    n_templates = len(TEMPLATES["openai"])
    print(f"{options.tower}, {n_templates} templates, {options.text_type}, {options.threads} threads, float32")
    for name, value in rate.items():
        n = len(names) if name.endswith("all classes") else len(part)
        print(f"  {name:<28}{n:>7,} classes {value:10.2f}/s {value / first:7.2f} x")
    ours = np.concatenate(vectors["Linnaea, the same classes"])
    peer = np.concatenate(vectors["one class at a time"])
    print(f"  largest difference of unit vectors {np.abs(ours - peer).max():.1e}")


if __name__ == "__main__":
    main()
