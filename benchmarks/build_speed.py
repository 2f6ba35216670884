"""Photographs per second from originals to shards: ours beside the way of BioCLIP's own scripts.

    python benchmarks/build_speed.py [--images 1000] [--rounds 3] [--workers N]
    python benchmarks/build_speed.py --records 100000

The originals are drawn here: 1000 x 800 pixels, JPEG quality 90, about 200 kB, shapes and texture at all scales. The
reference's way (imageomics/bioclip, `make_wds.py`): one process per core, Pillow decodes in full, converts to RGB,
resizes bicubic, saves a JPEG into a tar. It does so twice here: straight to 224 x 224 as the reference, and to our own
output (short side 256, quality 90). Ours is the whole build: reading the folder, splits, decoding, tars, checksums,
index, licences, manifest. All ways start their processes inside the clock, and take turns on the same files.

``--records`` measures memory instead: the peak of a build of so many records (the same few tiny pictures over and
over, under as many names), and of ten times fewer.
"""

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine, count_cores
from linnaea.data.sources.folder import FolderSource
from linnaea.data.splits import SplitRule

WIDTH, HEIGHT, SHORT_SIDE, SQUASHED, QUALITY = 1000, 800, 256, 224, 90
N_DRAWN = 40


def draw_originals(root: Path, n_images: int) -> float:
    """Class folders of originals; returns the mean size of a file in kB."""
    random = np.random.default_rng(0)
    drawn = [_draw(random) for _ in range(min(N_DRAWN, n_images))]
    for number in range(n_images):
        folder = root / f"Genus species{chr(97 + number % 20)}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.jpg").write_bytes(drawn[number % len(drawn)])
    return statistics.mean(map(len, drawn)) / 1000


def _draw(random: np.random.Generator) -> bytes:
    """Octaves of smooth noise, each half as strong: the spectrum of a photograph, more or less."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for octave in range(10):
        cells = (2**octave + 1, 2**octave + 1, 3)
        noise = random.normal(size=cells).astype(np.float32)
        picture += cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) * 0.78**octave
    scaled = np.clip(128 + 45 * picture, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", scaled, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())


def reference_shard(squash: bool, task: tuple[list[Path], Path]) -> int:
    """One process's part the reference's way."""
    paths, tar_path = task
    with tarfile.open(tar_path, "w") as tar:
        for number, path in enumerate(paths):
            with Image.open(path) as image:
                rgb = image.convert("RGB")
            scale = SHORT_SIDE / min(rgb.size)
            size = (SQUASHED, SQUASHED) if squash else (round(rgb.width * scale), round(rgb.height * scale))
            stream = io.BytesIO()
            rgb.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=QUALITY)
            member = tarfile.TarInfo(f"{number:06d}.jpg")
            member.size = stream.tell()
            stream.seek(0)
            tar.addfile(member, stream)
    return len(paths)


def run_reference(root: Path, output: Path, n_workers: int, *, squash: bool) -> int:
    output.mkdir()
    paths = sorted(root.rglob("*.jpg"))
    step = -(-len(paths) // (4 * n_workers))
    tasks = [(paths[first : first + step], output / f"{first}.tar") for first in range(0, len(paths), step)]
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(partial(reference_shard, squash), tasks))


def run_ours(bursts: Literal["group", "keep"], root: Path, output: Path, n_workers: int) -> int:
    config = BuildConfig(splits=SplitRule(bursts=bursts))
    return build([FolderSource(root=root)], output, config, LocalEngine(n_workers)).n_out


def measure_speed(scratch: Path, n_images: int, n_rounds: int, n_workers: int) -> None:
    mean_kb = draw_originals(scratch / "originals", n_images)
    print(f"{n_images} originals of {WIDTH} x {HEIGHT}, {mean_kb:.0f} kB each; {n_workers} processes")
    ways: dict[str, Callable[[Path, Path, int], int]] = {
        "reference (224 x 224)": partial(run_reference, squash=True),
        "reference (short side 256)": partial(run_reference, squash=False),
        "linnaea": partial(run_ours, "keep"),  # as the reference, which draws no split
        "linnaea, bursts found": partial(run_ours, "group"),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(n_rounds):
        for name, run in ways.items():
            output = scratch / "output"
            start = time.perf_counter()
            n_done = run(scratch / "originals", output, n_workers)
            seconds = time.perf_counter() - start
            assert n_done == n_images, f"{name}: {n_done} of {n_images}"
            rates[name].append(n_images / seconds)
            print(f"  round {round_ + 1}: {name}: {rates[name][-1]:.0f} images/s", flush=True)
            shutil.rmtree(output)
    median = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in median.items():
        print(f"{name:<28}{rate:8.0f} images/s  (median of {n_rounds})")
    for name in list(ways)[:2]:
        print(f"linnaea / {name}: {median['linnaea'] / median[name]:.2f}")


MEMORY = """
import resource, sys
from pathlib import Path
from typing import Literal
from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.sources.table import TableSource
table = Path(sys.argv[1])
source = TableSource(table=table, root=table.parent, path_column="path", label_column="label")
summary = build([source], table.with_suffix(""), BuildConfig(), LocalEngine(1))
print(summary.n_out, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def measure_memory(scratch: Path, n_records: int) -> None:
    drawn = []
    for number in range(10):
        drawn.append(scratch / f"{number}.jpg")
        drawn[-1].write_bytes(cv2.imencode(".jpg", np.full((32, 32, 3), 20 * number, np.uint8))[1].tobytes())
    for number in range(n_records):
        folder = scratch / f"photographs/{number // 1000:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(drawn[number % 10], folder / f"{number:09d}.jpg")
    for n_rows in (n_records // 10, n_records):
        table = scratch / f"table-{n_rows}.csv"
        rows = (f"photographs/{number // 1000:04d}/{number:09d}.jpg,Genus species{number % 7},{number}\n"
                for number in range(n_rows))  # fmt: skip
        table.write_text("path,label,source\n" + "".join(rows))
        command = [sys.executable, "-c", MEMORY, str(table)]
        n_out, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(f"{int(n_out):,} records: {megabytes} MB at the peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=count_cores())
    parser.add_argument("--records", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        if options.records:
            measure_memory(Path(scratch), options.records)
        else:
            measure_speed(Path(scratch), options.images, options.rounds, options.workers)


if __name__ == "__main__":
    main()
