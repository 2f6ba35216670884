"""Training steps of an EfficientNet on a CPU: float32, bf16 as PyTorch does it, and bf16 with our depthwise gradients.

    python benchmarks/depthwise_speed.py [--model tf_efficientnet_lite1] [--image-size 160] [--batch 64] [--threads 2]

A step is a forward and a backward pass of the backbone on random pixels, channels last. The order alternates; medians.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import timm
import torch

from linnaea.model.fast import FastDepthwise

ROUNDS = 5


def step_time(model: torch.nn.Module, images: torch.Tensor, *, bf16: bool, fast: bool) -> float:
    began = time.perf_counter()
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), FastDepthwise() if fast else nullcontext():
        features = model(images)
    features.float().square().mean().backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tf_efficientnet_lite1")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = timm.create_model(options.model, num_classes=0).train().to(memory_format=torch.channels_last)
    images = torch.randn(options.batch, 3, options.image_size, options.image_size)
    images = images.contiguous(memory_format=torch.channels_last)
    ways = {"float32": (False, False), "bf16": (True, False), "bf16, ours": (True, True)}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for round_ in range(ROUNDS + 1):
        for way, (bf16, fast) in ways.items():
            seconds = step_time(model, images, bf16=bf16, fast=fast)
            if round_:
                found[way].append(seconds)
    base = statistics.median(found["float32"])
    for way, times in found.items():
        middle = statistics.median(times)
        print(f"{way:<12} {options.batch / middle:7.1f} images/s   {base / middle:5.2f} x float32")


if __name__ == "__main__":
    main()
