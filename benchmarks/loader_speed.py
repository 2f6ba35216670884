"""Images per second: our loader against webdataset with open_clip's training transform (Pillow), from the same shards.

    python benchmarks/loader_speed.py [--data DIR --split train] [--image-size 224] [--workers 2]

Without a data set it draws one at 256 pixels. Both use all ``--workers``: ours threads, webdataset processes. Ours
hands over bytes (the device normalises); "normalised" adds that work, done here on the CPU, single-threaded. Each
runs for some seconds after a warm-up; the order alternates, and the median of the rounds counts.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import open_clip
import torch
import webdataset
from torch.utils.data import DataLoader

from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.shards import DataSet
from linnaea.data.sources.table import TableSource
from linnaea.data.synthetic import SyntheticConfig, synthesize
from linnaea.train.batches import Loader
from linnaea.train.recipe import Feed

BATCH, ROUNDS = 64, 3


def make_data(folder: Path) -> Path:
    synthesize(folder / "photographs", SyntheticConfig(n_species=40, n_images=25, size=256))
    table = folder / "photographs" / "metadata.csv"
    source = TableSource(table=table, root=folder / "photographs", path_column="filepath", split_column="split")
    build([source], folder / "data", BuildConfig(shard_size=100), LocalEngine(1))
    return folder / "data"


def iter_ours(dataset: DataSet, size: int, workers: int, *, exact: bool = False) -> Iterator[torch.Tensor]:
    feed = Feed(batch_size=BATCH, crop_scale=(0.9, 1.0), exact_resize=exact)
    loader = Loader(dataset, feed, size, 0, n_workers=workers)
    for batch in loader.iter_batches(0, 10**9):
        yield torch.from_numpy(batch.pixels)


def iter_normalised(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    for batch in batches:
        yield batch.float().div_(255).sub_(mean).div_(std)


def iter_peers(dataset: DataSet, size: int, workers: int) -> Iterator[torch.Tensor]:
    shards = sorted(str(dataset.directory / shard) for shard in dataset.index["shard"].unique())
    transform = open_clip.image_transform(size, is_train=True)
    pipeline = webdataset.DataPipeline(
        webdataset.ResampledShards(shards),
        webdataset.tarfile_to_samples(),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg"),
        webdataset.map_dict(image=transform),
        webdataset.to_tuple("image"),
        webdataset.batched(BATCH),
    )
    for (batch,) in DataLoader(pipeline, batch_size=None, num_workers=workers):
        yield batch


def rate(batches: Iterator[torch.Tensor], n_batches: int) -> float:
    for _ in islice(batches, 6):
        pass
    began = time.perf_counter()
    n = sum(len(batch) for batch in islice(batches, n_batches))
    return n / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="train")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = DataSet.open(options.data or make_data(Path(scratch))).split(options.split)
        kilobytes, side = dataset.index["size"].mean() / 1000, dataset.index["height"].mean()
        print(f"{len(dataset):,} pictures, mean height {side:.0f}, {kilobytes:.1f} kB; {options.workers} workers")
        size, workers = options.image_size, options.workers
        ways = {
            "ours": (lambda: iter_ours(dataset, size, workers), 80),
            "ours, normalised": (lambda: iter_normalised(iter_ours(dataset, size, workers)), 80),
            "ours, exact resize": (lambda: iter_ours(dataset, size, workers, exact=True), 25),
            "webdataset + Pillow": (lambda: iter_peers(dataset, size, workers), 25),
        }
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (make, n_batches) in ways.items():
                found[way].append(rate(make(), n_batches))
        slowest = statistics.median(found["webdataset + Pillow"])
        for way, rates in found.items():
            middle = statistics.median(rates)
            per_worker, times = f"{middle / workers:,.0f} per worker", middle / slowest
            print(f"{way:<20} {middle:8,.0f} images/s   {per_worker:>18}   {times:5.2f} x webdataset + Pillow")


if __name__ == "__main__":
    main()
