"""What dropping near copies costs and saves: true copies against frames of fixed cameras, at each bound.

    python benchmarks/copies.py --photographs ../shared/species-images [--scale 20000]

True copies are made from the photographs: resized, saved again, recoloured, cut by a pixel or two. Frames of fixed
cameras are drawn: a photograph as the scene, the animal of another one on 2% of it, at another place in each frame,
with the noise and the light of a night. ``--scale`` times the search among that many frames of one camera.
"""

import argparse
import resource
import time
from pathlib import Path

import cv2
import numpy as np

from linnaea.data.copies.hashes import Hashes, variant_hashes
from linnaea.data.copies.links import connect_near
from linnaea.data.images import decode

BOUNDS = (0, 4, 8, 10, 12, 16, 20, 24, 31)


def hash_of(picture: np.ndarray) -> Hashes:
    return variant_hashes(np.ascontiguousarray(picture), (0.0,))[0][0]


def save_again(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def make_copies(picture: np.ndarray) -> dict[str, np.ndarray]:
    height, width = picture.shape[:2]
    half = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return {
        "half size": half,
        "256 pixels, quality 90": save_again(cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA), 90),
        "quality 30": save_again(picture, 30),
        "half size, quality 50": save_again(half, 50),
        "brighter by 15%": np.clip(picture * 1.15, 0, 255).astype(np.uint8),
        "gamma 0.8": (255 * (picture / 255.0) ** 0.8).astype(np.uint8),
        "cut by 1 pixel": picture[1:, 1:],
    }


def draw_frames(scene: np.ndarray, animal: np.ndarray, n_frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw an empty frame, then frames with the animal on 2% of the picture."""
    scene = cv2.resize(scene, (640, 480), interpolation=cv2.INTER_AREA)
    side = int((0.02 * 640 * 480) ** 0.5)
    small = cv2.resize(animal, (side, side), interpolation=cv2.INTER_AREA)
    frames = []
    for number in range(n_frames + 1):
        frame = scene * rng.uniform(0.92, 1.08) + rng.normal(0, 4, scene.shape)
        if number:
            top, left = rng.integers(0, 480 - side), rng.integers(0, 640 - side)
            frame[top : top + side, left : left + side] = small
        frames.append(save_again(np.clip(frame, 0, 255).astype(np.uint8), 85))
    return frames


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray(np.bitwise_count(one ^ other).sum(axis=-1, dtype=np.int64))


def print_shares(name: str, distances: np.ndarray) -> None:
    cells = [f"{(distances <= bound).mean():.1%}" for bound in BOUNDS]
    print(f"| {name} | {len(distances)} | {np.median(distances):.0f} | {distances.max()} | {' | '.join(cells)} |")


def compare_bounds(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    paths = sorted(folder.glob("*/**/*.jpg"))
    paths = [paths[number] for number in rng.permutation(len(paths))[: 3 * n]]
    pictures = [decode(path.read_bytes()) for path in paths]
    print(f"| pictures | pairs | median | most | {' | '.join(f'at most {bound}' for bound in BOUNDS)} |")
    print(f"|---|---:|---:|---:|{'---:|' * len(BOUNDS)}")
    copies: dict[str, list[int]] = {}
    for picture in pictures[:n]:
        own = hash_of(picture)
        for name, copy in make_copies(picture).items():
            copies.setdefault(name, []).append(int(distance(own, hash_of(copy))))
    for name, found in copies.items():
        print_shares(f"true copies, {name}", np.array(found))
    print_shares("true copies, all", np.concatenate([np.array(found) for found in copies.values()]))
    empty, each_other = [], []
    for scene, animal in zip(pictures[n : 2 * n], pictures[2 * n :], strict=True):
        hashes = np.stack([hash_of(frame) for frame in draw_frames(scene, animal, 8, rng)])
        empty += distance(hashes[0], hashes[1:]).tolist()
        each_other += distance(hashes[1:-1], hashes[2:]).tolist()
    print_shares("fixed camera: animal against the empty frame", np.array(empty))
    print_shares("fixed camera: frames with the animal", np.array(each_other))


def time_burst(n: int) -> None:
    """Time the search among frames of one camera, all within 31 bits of one another."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 2**64, (1, 4), dtype=np.uint64)
    flips = rng.random((n, 256)) < 0.05
    hashes = scene ^ np.packbits(flips, axis=1).view(np.uint64)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    clusters = connect_near(hashes, 31)
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\n{n:,} frames of one camera: {len(np.unique(clusters))} cluster(s), {took:.1f} s,"
          f" {(after - before) / 1024:.0f} MB more at the peak")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--scale", type=int, default=0)
    given = parser.parse_args()
    if given.photographs:
        compare_bounds(given.photographs, given.pictures)
    if given.scale:
        time_burst(given.scale)
