"""How well copies of benchmark pictures are found among training pictures: recall and false removals by threshold.

    python benchmarks/leakage.py --root ../shared/species-images [--sheet hits.png]
    python benchmarks/leakage.py --scale

Of the photographs of a folder with ``metadata.csv`` (columns ``filepath`` and ``group``), 1,000 are the benchmark.
Each gets a near copy, planted among the training pictures (and, in the second column, is itself replaced by the copy,
while the whole picture is planted): cut by 0 to 5% on each side, scaled by 0.4 to 1.5, saved as
JPEG of quality 50 to 95, all three at once. All other photographs are the training pictures proper. A training picture
that is reported although it is not planted counts apart where the table's ``group`` calls it a near copy of the
benchmark picture (a true duplicate); ``--sheet`` draws the others in pairs, for the eye to judge.

``--scale`` measures the search alone on random hashes and works out 10 million pictures against 12,000.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from linnaea.data.copies.hashes import CROP_STEPS, MIN_QUALITY, Hashes, hashes_both_ways
from linnaea.data.copies.search import iter_near
from linnaea.data.images import Picture, decode

THRESHOLDS = (0, 10, 16, 20, 24, 28, 31, 35, 40, 47)


def near_copy(picture: Picture, random: np.random.Generator) -> bytes:
    """Cut, scaled and saved again: a JPEG."""
    height, width = picture.shape[:2]
    top, bottom, left, right = random.uniform(0, 0.05, 4)
    cut = picture[
        round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)
    ]
    scale = random.uniform(0.4, 1.5)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=how)
    quality = int(random.integers(50, 96))
    return cv2.imencode(".jpg", scaled[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def read(root: Path, paths: list[str]) -> Iterator[Picture]:
    for path in paths:
        yield decode((root / path).read_bytes())


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """Hashes of pictures, one after another; those with too little contrast have none."""

    bits: Hashes
    rows: np.ndarray
    """The picture of each hash."""
    n_pictures: int


def hash_all(pictures: Iterable[Picture], steps: tuple[float, ...] = (0.0,)) -> Hashed:
    bits, rows, n_pictures = [np.empty((0, 4), np.uint64)], [], 0
    for row, picture in enumerate(pictures):
        hashes, quality = hashes_both_ways(picture, steps)
        n_pictures += 1
        if quality >= MIN_QUALITY:
            bits.append(hashes)
            rows += [row] * len(hashes)
    return Hashed(bits=np.concatenate(bits), rows=np.array(rows, np.int64), n_pictures=n_pictures)


def find_leaks(train: Hashed, benchmark: Hashed, threshold: int) -> pl.DataFrame:
    """Pairs of a training and a benchmark picture, with the distance of the nearest variant."""
    schema = {"train_row": pl.Int64, "benchmark_row": pl.Int64, "distance": pl.Int64}
    found = [pl.DataFrame(schema=schema)]
    for hits in iter_near(train.bits, benchmark.bits, threshold):
        columns = (train.rows[hits.query], benchmark.rows[hits.target], hits.distance)
        found.append(pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema))
    pairs = ("train_row", "benchmark_row")
    return pl.concat(found).group_by(pairs).agg(pl.col("distance").min()).sort(pairs)


def calibrate(root: Path, n_benchmark: int, seed: int, sheet: Path | None) -> None:
    table = pl.read_csv(root / "metadata.csv", infer_schema=False).fill_null("").sort("filepath")
    random = np.random.default_rng(seed)
    chosen = np.zeros(table.height, dtype=bool)
    chosen[random.permutation(table.height)[:n_benchmark]] = True
    benchmark, real = table.filter(pl.Series(chosen)), table.filter(pl.Series(~chosen))

    start = time.perf_counter()
    crops = hash_all(read(root, benchmark["filepath"].to_list()), CROP_STEPS)
    seconds = time.perf_counter() - start
    print(f"benchmark: {n_benchmark:,} pictures x 336 variants hashed, {1000 * seconds / n_benchmark:.2f} ms each")
    plain = hash_all(read(root, benchmark["filepath"].to_list()))
    planted = hash_all(decode(near_copy(one, random)) for one in read(root, benchmark["filepath"].to_list()))
    whole = hash_all(read(root, benchmark["filepath"].to_list()))
    cut = (decode(near_copy(one, random)) for one in read(root, benchmark["filepath"].to_list()))
    reverse = hash_all(cut, CROP_STEPS)
    start = time.perf_counter()
    others = hash_all(read(root, real["filepath"].to_list()))
    seconds = time.perf_counter() - start
    print(f"training:  {real.height:,} photographs hashed, {1000 * seconds / real.height:.2f} ms each (with decoding)")
    n_low = others.n_pictures - len(others.rows)
    print(f"           {n_low:,} of them have too little contrast to be compared (quality below {MIN_QUALITY})")

    top = max(THRESHOLDS)
    found, found_plain = find_leaks(planted, crops, top), find_leaks(planted, plain, top)
    found_reverse = find_leaks(whole, reverse, top)
    start = time.perf_counter()
    leaks = find_leaks(others, crops, top)
    seconds = time.perf_counter() - start
    print(f"search:    {others.n_pictures:,} x {len(crops.bits):,} hashes at threshold {top} in {seconds:.1f} s\n")
    leaks = leaks.with_columns(
        is_known=pl.Series(
            [
                bool(real["group"][train]) and real["group"][train] == benchmark["group"][bench]
                for train, bench in leaks.select("train_row", "benchmark_row").iter_rows()
            ],
            dtype=pl.Boolean,
        )
    )
    print("             training is cut    benchmark is cut    plain PDQ    real photographs reported")
    print("threshold    found              found               found        known duplicates    others (share of all)")
    for threshold in THRESHOLDS:
        within = pl.col("distance") <= threshold
        right = within & (pl.col("train_row") == pl.col("benchmark_row"))
        recall, backwards, recall_plain = (hits.filter(right).height / n_benchmark
                                           for hits in (found, found_reverse, found_plain))  # fmt: skip
        hits = leaks.filter(within)
        n_known = hits.filter("is_known")["train_row"].n_unique()
        n_other = hits.filter(~pl.col("is_known"))["train_row"].n_unique()
        share = f"{n_other:6} ({n_other / real.height:.3%})"
        print(f"{threshold:9}    {recall:15.1%}    {backwards:16.1%}    {recall_plain:9.1%}    {n_known:16}    {share}")
    if sheet:
        draw(sheet, root, real, benchmark, leaks.filter(~pl.col("is_known")).sort("distance"))


def draw(sheet: Path, root: Path, real: pl.DataFrame, benchmark: pl.DataFrame, hits: pl.DataFrame) -> None:
    """Pairs side by side (training left, benchmark right), nearest first, with their distance."""
    tiles = []
    for train, bench, distance in hits.select("train_row", "benchmark_row", "distance").head(60).iter_rows():
        pair = [
            cv2.resize(one, (128, 128)) for one in read(root, [real["filepath"][train], benchmark["filepath"][bench]])
        ]
        tile = np.concatenate(pair, axis=1)
        cv2.putText(tile, str(distance), (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 0, 0), 2)
        tiles.append(np.pad(tile, ((2, 2), (2, 2), (0, 0))))
    if not tiles:
        print(f"no pairs to draw on {sheet}")
        return
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 5)
    rows = [np.concatenate(tiles[k : k + 5], axis=1) for k in range(0, len(tiles), 5)]
    cv2.imwrite(str(sheet), np.concatenate(rows)[..., ::-1])
    print(f"\n{hits.height} pairs, the nearest on {sheet}")


def measure_scale() -> None:
    random = np.random.default_rng(0)
    n_train, n_benchmark = 50_000, 12_000
    benchmark = random.integers(0, 2**64, (n_benchmark * 81, 4), dtype=np.uint64)
    train = random.integers(0, 2**64, (n_train, 4), dtype=np.uint64)
    for threshold in (15, 31):
        start = time.perf_counter()
        sum(len(hits.query) for hits in iter_near(train, benchmark, threshold))
        seconds = time.perf_counter() - start
        pairs = n_train * len(benchmark)
        print(
            f"threshold {threshold}: {n_train:,} x {len(benchmark):,} in {seconds:.1f} s,"
            f" {pairs / seconds:.2e} pairs/s;"
            f" 10 million training pictures: {seconds * 1e7 / n_train / 3600:.1f} h on one core"
        )
    start = time.perf_counter()
    n = sum(len(hits.query) for hits in iter_near(train, train, 31))
    print(f"groups within {n_train:,} ({n - n_train} pairs): {time.perf_counter() - start:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2] / "shared" / "species-images")
    parser.add_argument("--images", type=int, default=1000, help="benchmark pictures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="draw the pairs that nobody planted and no group explains")
    parser.add_argument("--scale", action="store_true", help="measure the search on random hashes instead")
    options = parser.parse_args()
    if options.scale:
        measure_scale()
    elif not (options.root / "metadata.csv").is_file():
        print(f"skipped: {options.root} holds no metadata.csv; give --root")
    else:
        calibrate(options.root, options.images, options.seed, options.sheet)


if __name__ == "__main__":
    main()
