"""Memory and time of the InfoNCE loss, there and back: all logits at once (open_clip's ClipLoss) and in blocks.

    python benchmarks/loss_memory.py [--batch 16384] [--width 512]

Each way runs in a process of its own; memory is the growth of its largest resident size over that of the features.
"""

import argparse
import json
import resource
import subprocess
import sys
import time


def measure(way: str, batch: int, width: int) -> dict[str, float]:
    import open_clip
    import torch
    from torch.nn.functional import normalize

    from linnaea.train.losses import choose_rows_at_once, info_nce

    generator = torch.Generator().manual_seed(0)
    image, caption = (torch.randn(batch, width, generator=generator).requires_grad_() for _ in range(2))
    scale = torch.tensor(30.0, requires_grad=True)
    warm_up = torch.randn(256, 256) @ torch.randn(256, 256)  # the libraries' own buffers
    unit_image, unit_caption = normalize(image, dim=-1), normalize(caption, dim=-1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.perf_counter()
    if way == "open_clip":
        loss = open_clip.ClipLoss()(unit_image, unit_caption, scale)
    else:
        rows = choose_rows_at_once(batch, batch) if way == "blocks" else 0
        loss = info_nce(unit_image, unit_caption, torch.arange(batch), scale, rows_at_once=rows)
    loss.backward()
    seconds = time.perf_counter() - began
    assert warm_up is not None and image.grad is not None
    return {
        "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6,
        "seconds": seconds,
        "loss": float(loss.detach()),
        "gradient": float(image.grad.norm()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--way", default="")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.batch, options.width)))
        return
    results = {}
    for way in ("open_clip", "whole", "blocks"):
        words = [sys.executable, __file__, "--way", way, "--batch", str(options.batch), "--width", str(options.width)]
        results[way] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        found = results[way]
        print(
            f"{way:<10} {found['memory_mb']:8,.0f} MB {found['seconds']:7.2f} s   loss {found['loss']:.7f}"
            f"   gradient {found['gradient']:.7e}"
        )
    share = results["blocks"]["memory_mb"] / results["open_clip"]["memory_mb"]
    slower = results["blocks"]["seconds"] / results["open_clip"]["seconds"]
    print(f"blocks against open_clip: {share:.3f} of the memory, {slower:.2f} of the time")


if __name__ == "__main__":
    main()
