"""Batches on a CPU, with the memory of freed tensors kept (as Linnaea does) and given back (as glibc does).

    python benchmarks/freed_memory.py [--rounds 3]

Each way runs in a process of its own, on one thread, on random pixels; the order alternates. Prints, per batch, the
seconds of processor time, those of them that the system took, and the page faults; then the largest memory. Medians.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import timm
import torch

from linnaea.model.fast import FastDepthwise
from linnaea.model.memory import keep_freed_memory

BATCHES = 3
TASKS = {
    "forward, EfficientNet-Lite1, 8 of 256 px": ("tf_efficientnet_lite1", 8, 256, False),
    "forward, EfficientNet-Lite1, 32 of 256 px": ("tf_efficientnet_lite1", 32, 256, False),
    "forward, ResNet-50, 8 of 224 px": ("resnet50", 8, 224, False),
    "forward, ViT-B/16, 8 of 224 px": ("vit_base_patch16_224", 8, 224, False),
    "training, EfficientNet-Lite1, 64 of 192 px, bf16": ("tf_efficientnet_lite1", 64, 192, True),
    "training, ViT-S/16, 32 of 224 px, bf16": ("vit_small_patch16_224", 32, 224, True),
}


def make_batch(name: str, n_images: int, size: int, *, train: bool) -> Callable[[], Any]:
    """Return a function that computes one batch: a forward pass, and in training the backward pass too."""
    tower = timm.create_model(name, num_classes=0).train(train).to(memory_format=torch.channels_last)
    images = torch.randn(n_images, 3, size, size).contiguous(memory_format=torch.channels_last)

    def look() -> None:
        with torch.inference_mode():
            tower(images)

    def learn() -> None:
        tower.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16), FastDepthwise():
            features = tower(images)
        features.float().square().mean().backward()

    return learn if train else look


def measure(task: str, kept: bool) -> list[float]:
    """Return CPU seconds, system seconds and page faults per batch, and the largest memory in GB; for a new process."""
    torch.set_num_threads(1)
    if kept:
        keep_freed_memory()
    *tower, train = TASKS[task]
    batch = make_batch(*tower, train=train)
    batch()
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(BATCHES):
        batch()
    seconds, after = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF)
    sums = seconds, after.ru_stime - before.ru_stime, float(after.ru_minflt - before.ru_minflt)
    return [*(value / BATCHES for value in sums), after.ru_maxrss / 1e6]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    context = multiprocessing.get_context("spawn")
    print("| batch | way | CPU s | of the system | page faults | memory, GB | given back / kept |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for task in TASKS:
        found: dict[bool, list[list[float]]] = {False: [], True: []}
        for _ in range(rounds):
            for kept, rows in found.items():
                with context.Pool(1) as pool:
                    rows.append(pool.apply(measure, (task, kept)))
        middle = {
            kept: [statistics.median(column) for column in zip(*rows, strict=True)] for kept, rows in found.items()
        }
        for kept, (seconds, system, faults, memory) in middle.items():
            ratio = f"{middle[False][0] / middle[True][0]:.2f}" if kept else ""
            print(f"| {task} | {'kept' if kept else 'given back'} | {seconds:.2f} | {system:.2f} | {faults:,.0f} |"
                  f" {memory:.2f} | {ratio} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
