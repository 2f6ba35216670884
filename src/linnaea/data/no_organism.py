"""Drawn pictures without an organism: walls, cloth, sky, pages, charts, rooms, blank ones, each a function of its seed.

Cut-out photographs of objects, if given, are placed on such pictures. The pictures calibrate when a model abstains
(``linnaea labels calibrate --no-organism``), and test whether it does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from linnaea.data.images import Picture
from linnaea.errors import LinnaeaError
from linnaea.storage import write_atomically

WORDS = (
    "invoice", "total", "amount", "date", "station", "platform", "north", "exit", "please", "queue", "here",
    "price", "list", "open", "closed", "page", "chapter", "table", "figure", "result", "number", "street",
    "school", "office", "meeting", "report", "budget", "version", "update", "system", "error", "network",
)  # fmt: skip


def write_pictures(folder: Path, n: int, *, seed: int = 0, size: int = 256, kinds: Sequence[str] = ()) -> list[Path]:
    """Write ``n`` pictures as JPEG, with the kinds (all, if none is named) in turn."""
    paths, names = [], tuple(kinds) or NAMES
    for number in range(n):
        kind = names[number % len(names)]
        picture = draw(kind, np.random.default_rng([seed, number]), size)
        paths.append(_write(folder / f"{number:05d}-{kind}.jpg", picture))
    return paths


def write_things(folder: Path, cutouts: Sequence[Path], n: int, *, seed: int = 0, size: int = 256) -> list[Path]:
    """Write ``n`` pictures of objects as JPEG: cut-outs with transparency, in turn, each placed on a drawn picture.

    Raises:
        LinnaeaError: there is no cut-out, or one cannot be read.
    """
    if not cutouts:
        raise LinnaeaError("no PNG with transparency; give folders of cut-outs")
    paths = []
    for number in range(n):
        cutout = cutouts[number % len(cutouts)]
        rng = np.random.default_rng([seed, number])
        picture = lay(read_cutout(cutout), draw(NAMES[rng.integers(len(NAMES))], rng, size), rng)
        paths.append(_write(folder / f"{number:05d}-{cutout.stem}.jpg", picture))
    return paths


def _write(path: Path, picture: Picture) -> Path:
    write_atomically(path, simplejpeg.encode_jpeg(picture, quality=88, colorspace="RGB"), sync=False)
    return path


def read_cutout(path: Path) -> NDArray[np.uint8]:
    """Return a picture with transparency, ``[H, W, 4]`` red, green, blue, opacity, cropped to its visible part.

    Raises:
        LinnaeaError: the file is not a picture, or is fully transparent.
    """
    try:
        with Image.open(path) as opened:
            picture = np.asarray(opened.convert("RGBA"))
    except (OSError, ValueError, SyntaxError) as error:
        raise LinnaeaError(f"{path}: not a picture: {error}") from error
    rows, columns = (np.flatnonzero((picture[..., 3] > 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise LinnaeaError(f"{path}: is fully transparent; give a picture with a visible part")
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def lay(cutout: NDArray[np.uint8], ground: Picture, rng: np.random.Generator) -> Picture:
    """Place a cut-out at random on a square picture: mirrored half the time, longer side 0.4 to 1 of the picture's."""
    size = len(ground)
    scale = size * rng.uniform(0.4, 1) / max(cutout.shape[:2])
    width, height = (max(1, min(size, round(scale * side))) for side in (cutout.shape[1], cutout.shape[0]))
    # Colours are weighted by opacity before they are mixed, because transparent pixels may have any colour.
    solid = cutout[..., 3:].astype(np.float32) / 255
    small = cv2.resize(np.dstack([cutout[..., :3] * solid, solid]), (width, height), interpolation=cv2.INTER_AREA)
    small = small[:, ::-1] if rng.random() < 0.5 else small
    top, left = (int(rng.integers(size - side + 1)) for side in (height, width))
    picture = ground.copy()
    place = picture[top : top + height, left : left + width]
    place[...] = (place * (1 - small[..., 3:]) + small[..., :3]).clip(0, 255).astype(np.uint8)
    return picture


def draw(kind: str, rng: np.random.Generator, size: int) -> Picture:
    """Draw one picture of a kind (:data:`NAMES`).

    It is blurred and noisy like a photograph. Half of the blank pictures are not.
    """
    scene: NDArray[Any] = next(one for one in KINDS if one.__name__ == kind)(rng, size).astype(np.float32)
    if kind == blank.__name__ and rng.random() < 0.5:
        return np.ascontiguousarray(scene.clip(0, 255).astype(np.uint8))
    scene = cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.3, 1.2)))
    light = 1 + rng.uniform(-0.3, 0.3) * np.linspace(-1, 1, size)[:, None, None]
    noisy = scene * light + rng.normal(0, rng.uniform(1, 8), scene.shape)
    return np.ascontiguousarray(noisy.clip(0, 255).astype(np.uint8))


def _colour(rng: np.random.Generator, low: float = 0, high: float = 255) -> NDArray[np.float64]:
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.normal(0, 35, 3), 0, 255)


def _canvas(rng: np.random.Generator, size: int, low: float = 0, high: float = 255) -> NDArray[Any]:
    return np.tile(_colour(rng, low, high).astype(np.float32), (size, size, 1))


def _paper(rng: np.random.Generator, size: int, low: float, high: float) -> Picture:
    """Return a canvas for letters."""
    return _canvas(rng, size, low, high).astype(np.uint8)


def _ink(rng: np.random.Generator, low: float = 0, high: float = 255) -> tuple[float, ...]:
    return tuple(map(float, _colour(rng, low, high)))


def wall(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw plaster, concrete or rust: noise of several sizes."""
    total = np.zeros((size, size), np.float32)
    for octave in range(2, 8):
        grid = rng.normal(0, 1, (2**octave, 2**octave)).astype(np.float32)
        total += cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) * rng.uniform(0.2, 1) / octave
    return _canvas(rng, size, 60, 200) + total[..., None] * rng.uniform(5, 50) * rng.uniform(0.6, 1, 3)


def cloth(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw woven threads, stripes or checks."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 40)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    waves = np.sin(2 * np.pi * along / period) + rng.integers(0, 2) * np.sin(2 * np.pi * across / period)
    hard = np.sign(waves) if rng.random() < 0.5 else waves
    return np.asarray(_canvas(rng, size, 50, 200) + hard[..., None] * rng.uniform(10, 60) * rng.uniform(0.3, 1, 3))


def bricks(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw bricks or tiles with joints."""
    scene = _canvas(rng, size, 120, 220)
    height = int(rng.integers(12, 50))
    width, joint = int(height * rng.uniform(1, 2.6)), int(rng.integers(1, 4))
    base = _colour(rng, 60, 180)
    for row in range(size // height + 1):
        shift = (row % 2) * width // 2
        for column in range(-1, size // width + 1):
            left, top = column * width + shift, row * height
            shade = tuple(map(float, (base + rng.normal(0, 12)).clip(0, 255)))
            cv2.rectangle(scene, (left + joint, top + joint), (left + width - joint, top + height - joint), shade, -1)
    return scene


def sky(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw a gradient with soft clouds, or water."""
    ramp = np.linspace(0, 1, size)[:, None, None]
    scene = (1 - ramp) * _colour(rng, 90, 220) + ramp * _colour(rng, 120, 250)
    clouds = cv2.resize(rng.normal(0, 1, (6, 4)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(scene + clouds.clip(0, 2)[..., None] * rng.uniform(0, 60), np.float32)


def page(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw lines of print or a sign."""
    dark = rng.random() < 0.2
    scene = _paper(rng, size, *((0, 60) if dark else (190, 255)))
    ink, scale = _ink(rng, *((180, 255) if dark else (0, 80))), float(rng.uniform(0.25, 1.4))
    step = int(14 * scale + rng.integers(6, 16))
    for top in range(step, size, step):
        line = " ".join(rng.choice(WORDS, 9))
        cv2.putText(scene, line, (int(rng.integers(2, 20)), top), cv2.FONT_HERSHEY_SIMPLEX, scale, ink,
                    1 + int(scale > 0.8), cv2.LINE_AA)  # fmt: skip
    return scene.astype(np.float32)


def chart(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw bars or curves on a screen."""
    scene = _canvas(rng, size, 180, 255)
    if rng.random() < 0.5:
        n = int(rng.integers(3, 12))
        for i, height in enumerate(rng.uniform(0.1, 0.9, n)):
            left = (i * size // n + 4, size - int(height * size))
            cv2.rectangle(scene, left, ((i + 1) * size // n - 4, size - 10), _ink(rng), -1)
    for _ in range(int(rng.integers(1, 5))):
        heights = size / 2 + np.cumsum(rng.normal(0, size / 25, 30))
        points = np.stack([np.linspace(0, size, 30), heights], axis=1)
        cv2.polylines(scene, [points.astype(np.int32)], isClosed=False, color=_ink(rng, 0, 150), thickness=2)
    return scene


def room(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw a room in perspective, with window, table and shelves."""
    scene = _canvas(rng, size, 120, 230)
    low, high = size * rng.uniform(0.2, 0.35), size * rng.uniform(0.6, 0.8)
    back = np.array([[low, low], [high, low], [high, high], [low, high]])
    outer = np.array([[0, 0], [size, 0], [size, size], [0, size]])
    for i in range(4):
        j = (i + 1) % 4
        side = np.array([outer[i], outer[j], back[j], back[i]], np.int32)
        cv2.fillPoly(scene, [side], _ink(rng, 60, 220))
    for _ in range(int(rng.integers(2, 8))):
        left, top = (int(v) for v in rng.uniform(0, size * 0.8, 2))
        far = left + int(rng.uniform(15, 110)), top + int(rng.uniform(15, 110))
        cv2.rectangle(scene, (left, top), far, _ink(rng), -1)
        cv2.rectangle(scene, (left, top), far, _ink(rng, 0, 120), 1)
    return scene


def lights(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw out-of-focus lights in the dark."""
    scene = _canvas(rng, size, 0, 60)
    for _ in range(int(rng.integers(5, 60))):
        centre = tuple(int(v) for v in rng.uniform(0, size, 2))
        cv2.circle(scene, centre, int(rng.uniform(2, 24)), _ink(rng, 120, 255), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.5, 4))), np.float32)


def machine(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw metal with discs, bars and screws."""
    scene = wall(rng, size) if rng.random() < 0.5 else _canvas(rng, size, 60, 200)
    scene = np.ascontiguousarray(scene, np.float32)
    for _ in range(int(rng.integers(3, 10))):
        centre, radius = tuple(int(v) for v in rng.uniform(0, size, 2)), int(rng.uniform(5, 60))
        cv2.circle(scene, centre, radius, _ink(rng), int(rng.choice([-1, 2, 5])), cv2.LINE_AA)
        ends = [tuple(int(v) for v in rng.uniform(0, size, 2)) for _ in range(2)]
        cv2.line(scene, ends[0], ends[1], _ink(rng), int(rng.integers(2, 14)), cv2.LINE_AA)
    return scene


def blank(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """Draw one colour or a ramp of two: a covered lens, an overexposed frame, what is left of a damaged file."""
    first = np.full(3, rng.choice([0, 255])) if rng.random() < 0.4 else _colour(rng)
    last = _colour(rng) if rng.random() < 0.4 else first
    ramp = np.linspace(0, 1, size)[:, None, None]
    ramp = ramp.swapaxes(0, 1) if rng.random() < 0.5 else ramp
    return np.asarray(np.broadcast_to((1 - ramp) * first + ramp * last, (size, size, 3)), np.float32)


KINDS: tuple[Callable[[np.random.Generator, int], NDArray[Any]], ...] = (
    wall, cloth, bricks, sky, page, chart, room, lights, machine, blank,
)  # fmt: skip
NAMES = tuple(kind.__name__ for kind in KINDS)
"""The names of the kinds."""
