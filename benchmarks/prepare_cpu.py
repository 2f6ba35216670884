"""CPU time from an original's bytes to the stored JPEG, one core: ours beside Pillow's bicubic, taking turns.

    python benchmarks/prepare_cpu.py

CPU seconds, not seconds: sturdy on a machine that other work shares. ``build_speed.py`` measures the whole build.
"""

import io
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from build_speed import _draw
from linnaea.data.images import prepare

N_ROUNDS, N_PICTURES = 6, 12


def with_pillow(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((320, 256), Image.Resampling.BICUBIC)
    small.save(io.BytesIO(), "JPEG", quality=90)


def with_ours(data: bytes) -> None:
    prepare(data)


def milliseconds(run: Callable[[bytes], None], files: list[bytes]) -> float:
    start = time.process_time()
    for data in files:
        run(data)
    return (time.process_time() - start) / len(files) * 1000


def main() -> None:
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    files = [_draw(random) for _ in range(N_PICTURES)]
    rounds = [(milliseconds(with_pillow, files), milliseconds(with_ours, files)) for _ in range(N_ROUNDS)]
    pillow, ours = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"Pillow {pillow:.1f} ms, linnaea {ours:.1f} ms of CPU per image: {pillow / ours:.2f} times")


if __name__ == "__main__":
    main()
