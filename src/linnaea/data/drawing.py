"""Drawings of artificial organisms: body plans, ornaments and backgrounds, with OpenCV and NumPy only.

An organism is drawn on a transparent canvas at twice the final size, then rotated, scaled and placed on a background
that is independent of the organism.

The same seed gives the same bytes with and without SIMD. OpenCV's ``remap`` and its blur of 8-bit pictures use exact
fixed point, while ``warpAffine`` and floating-point pictures depend on the processor's instructions.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 256
"""Side of the canvas of an organism, in pixels."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Points = NDArray[np.float64]
Colour = tuple[float, float, float]
"""Red, green, blue from 0 to 1."""

ORNAMENTS = ("bands", "spots", "rings", "halves", "checks")
BACKGROUNDS = ((0.36, 0.47, 0.24), (0.45, 0.38, 0.28), (0.55, 0.56, 0.52), (0.40, 0.50, 0.56), (0.62, 0.57, 0.42))


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The visible traits of a species; each one is fixed at one rank of the tree."""

    plan: str
    """Body plan (phylum): a key of :data:`BODY_PLANS`."""
    parts: int
    """Number of repeated parts (order): petals, legs, fins, leaflets, gills."""
    slender: float
    """Proportions (family), 0 stout to 1 slender."""
    curl: float
    """Outline (family), 0 round to 1 pointed."""
    hue: float
    """Main hue (genus), 0 to 1."""
    ornament: str
    """Kind of pattern (genus)."""
    accent: float
    """Hue of the pattern (species), 0 to 1."""
    count: int
    """Number of repeats of the pattern (species)."""
    pale: float
    """Lightness of the ground colour (species), 0 to 1."""


def draw_photograph(traits: Traits, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one photograph ``[size, size, 3]`` RGB of one individual; ``rng`` decides pose, light and place."""
    canvas = _draw_organism(traits, rng)
    scene = _make_background(2 * size, rng)
    turned = _place(canvas, 2 * size, rng)
    alpha = turned[..., 3:]
    shadow = np.roll(_blur(alpha, size / 28), (size // 24, size // 30), (0, 1))
    scene = scene * (1 - 0.45 * shadow)
    scene = scene * (1 - alpha) + turned[..., :3] * _make_relief(alpha, size)
    if rng.random() < 0.3:
        _draw_blades(scene, rng)
    return _take_picture(scene, size, rng)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def _to_bytes(values: NDArray[np.floating]) -> Bytes:
    return np.asarray((np.clip(values, 0, 1) * 255).round(), np.uint8)


def _blur(values: NDArray[np.floating], sigma: float) -> Floats:
    """Blur ``values`` (0 to 1) ``[H, W, C]``, in steps of 1/255."""
    blurred = cv2.GaussianBlur(_to_bytes(values), (0, 0), sigma)
    return np.asarray(blurred.reshape(values.shape) / 255, np.float32)


def _ellipse(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0, point: float = 0.0) -> Points:
    """Return an ellipse as a polygon; ``point`` extends its far end to a tip, ``turn`` is in radians."""
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = rx * np.cos(t), ry * np.sin(t) * (1 - point * np.clip(np.cos(t), 0, 1) ** 1.5)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([cx + c * x - s * y, cy + s * x + c * y], axis=1)


def _fill(layer: Floats, points: Points, colour: Colour, edge: float = 0.55) -> None:
    """Draw a filled, outlined polygon in canvas units (-1 to 1)."""
    pixels = np.round((points + 1) * (CANVAS / 2) * 16).astype(np.int32)
    cv2.fillPoly(layer, [pixels], (*colour, 1.0), cv2.LINE_AA, shift=4)
    darker = tuple(edge * c for c in colour)
    cv2.polylines(layer, [pixels], True, (*darker, 1.0), 2, cv2.LINE_AA, shift=4)


def _line(layer: Floats, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float) -> None:
    a, b = (tuple(int((v + 1) * (CANVAS / 2) * 16) for v in point) for point in (start, end))
    cv2.line(layer, a, b, (*colour, 1.0), max(1, round(width * CANVAS / 2)), cv2.LINE_AA, shift=4)


def _draw_organism(traits: Traits, rng: np.random.Generator) -> Floats:
    """Draw the organism on a transparent canvas ``[CANVAS, CANVAS, 4]`` (colour and alpha)."""
    layer = np.zeros((CANVAS, CANVAS, 4), np.float32)
    marked = np.zeros((CANVAS, CANVAS, 4), np.float32)
    BODY_PLANS[traits.plan](layer, marked, traits, rng)
    pattern = _make_pattern(traits) * marked[..., 3]
    accent = np.array(_hsv(traits.accent, 0.85, 0.30 + 0.65 * (1 - traits.pale)), np.float32)
    layer[..., :3] += pattern[..., None] * (accent - layer[..., :3])
    light = 1 + 0.22 * np.linspace(1, -1, CANVAS, dtype=np.float32)[:, None, None]
    layer[..., :3] = np.clip(layer[..., :3] * light, 0, 1)
    return layer


@lru_cache(maxsize=4)
def _make_pattern(traits: Traits) -> Floats:
    """Return the ornament's coverage of the canvas (0 to 1), a function of genus and species only."""
    y, x = np.mgrid[-1 : 1 : CANVAS * 1j, -1 : 1 : CANVAS * 1j]
    n = traits.count
    match traits.ornament:
        case "bands":
            wave = np.cos(y * np.pi * n * 1.6)
        case "spots":
            wave = np.cos(x * np.pi * (n + 0.5)) * np.cos(y * np.pi * (n + 0.5)) * 2 - 0.4
        case "rings":
            wave = np.cos(np.hypot(x, y) * np.pi * n * 1.8)
        case "halves":
            wave = np.sin(np.arctan2(y, np.abs(x)) * n) * 1.4
        case _:
            wave = np.sin(x * np.pi * n * 1.3) * np.sin(y * np.pi * n * 1.3) * 2.5
    return np.asarray(np.clip(wave * 3 + 0.2, 0, 1) * 0.92, np.float32)


def _ground(traits: Traits, rng: np.random.Generator) -> Colour:
    hue = traits.hue + rng.normal(0, 0.008)
    return _hsv(hue, 0.85 - 0.45 * traits.pale, 0.62 + 0.36 * traits.pale)


def _draw_moth(layer: Floats, marked: Floats, traits: Traits, rng: np.random.Generator) -> None:
    colour, spread = _ground(traits, rng), rng.normal(0, 0.06)
    length, depth = 0.62 + 0.26 * traits.slender, 0.44 - 0.18 * traits.slender
    for side in (-1, 1):
        for pair in range(2 if traits.parts < 5 else 3):
            turn = (-0.55 + 0.62 * pair + spread) if side > 0 else np.pi - (-0.55 + 0.62 * pair + spread)
            reach = length * (1 - 0.2 * pair)
            wing = _ellipse(side * reach * 0.5, -0.12 + 0.26 * pair, reach * 0.55, depth * 0.8, turn, traits.curl * 0.9)
            for target in (layer, marked):
                _fill(target, wing, colour)
    body = _hsv(traits.hue + 0.05, 0.5, 0.28)
    for side in (-1, 1):
        _line(layer, (0, -0.4), (side * (0.18 + 0.1 * traits.parts * 0.2), -0.85), body, 0.025)
    _fill(layer, _ellipse(0, 0.05, 0.09, 0.52), body)


def _draw_fish(layer: Floats, marked: Floats, traits: Traits, rng: np.random.Generator) -> None:
    colour, fin = _ground(traits, rng), _hsv(traits.hue + 0.03, 0.9, 0.45)
    depth = 0.50 - 0.30 * traits.slender
    sway = rng.normal(0, 0.05)
    tail = np.array([[0.42, sway], [0.92, -0.45 + 0.2 * traits.curl], [0.72 - 0.2 * traits.curl, sway], [0.92, 0.45]])
    _fill(layer, tail, fin)
    for i in range(traits.parts):
        place = -0.45 + 0.95 * i / max(traits.parts - 1, 1)
        _fill(layer, np.array([[place - 0.10, 0], [place + 0.12, 0], [place + 0.16, -depth - 0.30]]), fin)
    for target in (layer, marked):
        _fill(target, _ellipse(-0.10, 0, 0.66, depth, np.pi, 0.35 + 0.5 * traits.curl), colour)
    _fill(layer, _ellipse(-0.52, -0.06, 0.055, 0.055), (0.95, 0.95, 0.9))
    _fill(layer, _ellipse(-0.53, -0.06, 0.025, 0.025), (0.05, 0.05, 0.05))


def _draw_beetle(layer: Floats, marked: Floats, traits: Traits, rng: np.random.Generator) -> None:
    colour, dark = _ground(traits, rng), _hsv(traits.hue, 0.6, 0.22)
    width = 0.50 - 0.20 * traits.slender
    for i in range(traits.parts):
        y = -0.35 + 0.85 * i / max(traits.parts - 1, 1)
        for side in (-1, 1):
            knee = (side * (width + 0.22), y - 0.12 + rng.normal(0, 0.04))
            _line(layer, (0, y), knee, dark, 0.05)
            _line(layer, knee, (side * (width + 0.38), y + 0.16), dark, 0.04)
    _fill(layer, _ellipse(0, -0.62, width * 0.5, 0.2), dark)
    if traits.curl > 0.5:
        _fill(layer, np.array([[-0.07, -0.7], [0.07, -0.7], [0, -0.98]]), dark)
    for target in (layer, marked):
        _fill(target, _ellipse(0, 0.15, width, 0.66), colour)
    _line(layer, (0, -0.48), (0, 0.78), dark, 0.03)


def _draw_flower(layer: Floats, marked: Floats, traits: Traits, rng: np.random.Generator) -> None:
    colour, stem = _ground(traits, rng), (0.25, 0.45, 0.18)
    _line(layer, (0, 0), (0.12 + rng.normal(0, 0.08), 1.0), stem, 0.06)
    start, reach = rng.uniform(0, 2 * np.pi), 0.40
    width = (0.36 - 0.2 * traits.slender) * min(1.0, 5 / traits.parts + 0.25)
    for i in range(traits.parts):
        turn = start + 2 * np.pi * i / traits.parts + rng.normal(0, 0.04)
        petal = _ellipse(reach * np.cos(turn), reach * np.sin(turn), 0.44, width, turn, traits.curl)
        for target in (layer, marked):
            _fill(target, petal, colour, edge=0.7)
    _fill(layer, _ellipse(0, 0, 0.17, 0.17), _hsv(traits.hue + 0.45, 0.8, 0.75))


def _draw_leaves(layer: Floats, marked: Floats, traits: Traits, rng: np.random.Generator) -> None:
    colour, stem = _ground(traits, rng), (0.30, 0.24, 0.15)
    _line(layer, (0, 1.0), (0, -0.7), stem, 0.05)
    width = 0.24 - 0.13 * traits.slender
    for i in range(traits.parts):
        y = 0.75 - 1.3 * i / max(traits.parts - 1, 1)
        for side in (-1, 1):
            turn = -0.45 + rng.normal(0, 0.08)
            turn = turn if side > 0 else np.pi - turn
            leaf = _ellipse(side * 0.40, y - 0.16, 0.44, width, turn, 0.3 + 0.6 * traits.curl)
            for target in (layer, marked):
                _fill(target, leaf, colour, edge=0.65)


def _draw_mushroom(layer: Floats, marked: Floats, traits: Traits, rng: np.random.Generator) -> None:
    colour, flesh = _ground(traits, rng), _hsv(traits.hue + 0.08, 0.18, 0.88)
    thin, lean = 0.26 - 0.16 * traits.slender, rng.normal(0, 0.06)
    _fill(layer, np.array([[-thin, 0], [thin, 0], [thin * 0.8 + lean, 0.95], [-thin * 0.8 + lean, 0.95]]), flesh, 0.8)
    if traits.parts > 4:
        _fill(layer, _ellipse(0, 0.32, thin * 1.9, 0.07), flesh, 0.7)
    t = np.linspace(np.pi, 2 * np.pi, 40)
    height = 0.55 + 0.40 * traits.curl
    dome = np.stack([0.82 * np.cos(t), 0.05 + height * np.sin(t) * np.abs(np.sin(t)) ** (traits.curl * 0.9)], axis=1)
    for target in (layer, marked):
        _fill(target, np.concatenate([dome, _ellipse(0, 0.05, 0.82, 0.14)[:20]]), colour)
    for i in range(2 * traits.parts):
        x = -0.7 + 1.4 * i / (2 * traits.parts - 1)
        _line(layer, (x, 0.08), (x * 0.9, 0.17), flesh, 0.02)


BODY_PLANS: dict[str, Callable[[Floats, Floats, Traits, np.random.Generator], None]] = {
    "moth": _draw_moth,
    "beetle": _draw_beetle,
    "fish": _draw_fish,
    "flower": _draw_flower,
    "leaves": _draw_leaves,
    "mushroom": _draw_mushroom,
}


def _place(canvas: Floats, side: int, rng: np.random.Generator) -> Floats:
    """Rotate, scale and shift the canvas into a picture of ``side`` pixels; its colours are weighted by alpha."""
    scale = side / CANVAS * rng.uniform(0.68, 0.98)
    turn = np.deg2rad(rng.normal(0, 22))
    shift_x, shift_y = rng.uniform(-0.10, 0.10, 2) * side
    if rng.random() < 0.5:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
    # Colours are weighted by alpha, so that edges do not mix with the black of the canvas.
    weighted = canvas.copy()
    weighted[..., :3] *= canvas[..., 3:]
    # The source of each pixel of the picture: shifted back, rotated back, scaled back.
    y, x = np.mgrid[:side, :side] - side / 2
    x, y = (x - shift_x) / scale, (y - shift_y) / scale
    from_x = np.cos(turn) * x - np.sin(turn) * y + CANVAS / 2
    from_y = np.sin(turn) * x + np.cos(turn) * y + CANVAS / 2
    turned = cv2.remap(_to_bytes(weighted), from_x.astype(np.float32), from_y.astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(turned / 255, np.float32)


def _make_relief(alpha: Floats, size: int) -> Floats:
    """Return the light from the upper left on a body with round edges, as a factor ``[side, side, 1]``."""
    soft = _blur(alpha, size / 24)
    step = max(1, size // 24)
    return np.asarray(1 + 0.8 * (soft - np.roll(soft, (step, step), (0, 1))), np.float32)


def _make_background(side: int, rng: np.random.Generator) -> Floats:
    """Return a blurred background of natural colours, independent of the organism."""
    base = np.array(BACKGROUNDS[rng.integers(len(BACKGROUNDS))]) * rng.uniform(0.65, 1.25)
    other = np.array(BACKGROUNDS[rng.integers(len(BACKGROUNDS))]) * rng.uniform(0.65, 1.25)
    coarse = cv2.resize(rng.random((5, 5)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.normal(0, 0.05, (side // 4, side // 4, 1)).astype(np.float32), (side, side))
    mix = np.clip(coarse, 0, 1)[..., None]
    return np.asarray(base * mix + other * (1 - mix) + fine[..., None], np.float32)


def _draw_blades(scene: Floats, rng: np.random.Generator) -> None:
    """Draw a few blades of grass in front, for partial occlusion."""
    side = scene.shape[0]
    colour = (np.array((0.30, 0.42, 0.15)) * rng.uniform(0.7, 1.4)).tolist()
    for _ in range(rng.integers(1, 4)):
        x, lean = rng.uniform(0, side), rng.normal(0, 0.25) * side
        tip = rng.uniform(0.2, 0.8) * side
        blade = np.array([[x - side / 60, side], [x + side / 60, side], [x + lean, tip]]).astype(np.int32)
        cv2.fillPoly(scene, [blade], colour, cv2.LINE_AA)


def _take_picture(scene: Floats, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add light, focus and sensor noise, and return the picture at half the scene's size."""
    ramp = np.linspace(-1, 1, scene.shape[0], dtype=np.float32)
    slope = rng.normal(0, 0.10, 2)
    scene = scene * (rng.uniform(0.82, 1.18) + slope[0] * ramp[:, None, None] + slope[1] * ramp[None, :, None])
    scene = np.asarray(scene * rng.uniform(0.94, 1.06, 3), np.float32)
    small = np.asarray(cv2.resize(scene, (size, size), interpolation=cv2.INTER_AREA), np.float32)
    if rng.random() < 0.35:
        small = _blur(small, rng.uniform(0.4, 0.9))
    return _to_bytes(small + rng.normal(0, rng.uniform(0.005, 0.025), small.shape))
