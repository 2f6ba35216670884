"""Colour profiles: conversion of pictures from their colour space to the sRGB that models expect.

A colour space that a file states without a profile (CICP code points, DCF's Adobe RGB) becomes a profile made here.
"""

import io
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_SAME = 3
"""A profile that changes no colour by more than this (of 255) counts as sRGB, and files keep their bytes."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Return an RGB, CMYK or LAB picture as sRGB by its ICC ``profile``, or by Pillow's rule if that is unusable."""
    if transform := transform_to_srgb(profile, image.mode):
        converted: Image.Image | None = ImageCms.applyTransform(image, transform)
        assert converted is not None  # only in-place transforms return nothing
        return converted
    return image.convert("RGB")


@lru_cache(maxsize=64)
def transform_to_srgb(profile: bytes, mode: str) -> Any:
    """Return the transform from ``profile`` for pictures of ``mode``, or ``None`` if it is unneeded or unusable."""
    if not profile and mode != "LAB":
        return None
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(
            source, _srgb(), mode, "RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        # The profile is broken, or made for other channels.
        return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), mode, "RGB") if mode == "LAB" else None
    return None if mode == "RGB" and _is_identity(transform) else transform


@lru_cache(maxsize=1)
def _srgb() -> Any:
    return ImageCms.createProfile("sRGB")


def _is_identity(transform: Any) -> bool:
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(lattice), transform))
    return bool(np.abs(moved.astype(int) - lattice).max() <= _SAME)


_D50 = np.array([0.9642, 1.0, 0.8249])
_D65 = (0.3127, 0.3290)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
"""x and y of red, green, blue and white for each colour primaries code of ITU-T H.273, table 2."""
_NEAR_BT709 = {1, 2, 5, 6, 7}
"""Primaries that are shown as those of BT.709 (TV standards, or none stated), as players and browsers do."""
_LINEAR, _GAMMA22, _GAMMA28, _PQ, _HLG = 8, 4, 5, 16, 18
"""Transfer characteristics of H.273, table 3; all others are shown as sRGB, as players and browsers do."""
_PQ_WHITE = 203 / 10_000
"""The light of white in PQ (ITU-R BT.2408)."""


@lru_cache(maxsize=32)
def profile_of_cicp(primaries: int, transfer: int) -> bytes:
    """Return an ICC profile for two code points of ITU-T H.273; empty if pictures of these are shown as sRGB."""
    if primaries not in _PRIMARIES or primaries in _NEAR_BT709:
        primaries = 1
    curve = _curve_of(transfer)
    if primaries == 1 and curve is None:
        return b""
    return _make_profile(_PRIMARIES[primaries], _srgb_to_linear() if curve is None else curve)


def _curve_of(transfer: int) -> NDArray[np.float64] | None:
    """Return linear light at 4,096 even steps of the signal, white at 1; ``None`` for sRGB's curve."""
    signal = np.linspace(0, 1, 4096)
    if transfer == _LINEAR:
        return signal
    if transfer in (_GAMMA22, _GAMMA28):
        return np.asarray(signal ** (2.2 if transfer == _GAMMA22 else 2.8))
    if transfer == _PQ:  # SMPTE ST 2084, equation 4.1
        root = signal ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        return np.asarray((light / _PQ_WHITE).clip(0, 1))
    if transfer == _HLG:  # ITU-R BT.2100, table 5, with the gamma of its reference display and white at 75% signal
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        return np.asarray(((scene / 0.265) ** 1.2).clip(0, 1))
    return None


def _srgb_to_linear() -> NDArray[np.float64]:
    signal = np.linspace(0, 1, 4096)
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _make_profile(primaries: tuple[tuple[float, float], ...], light: NDArray[np.float64]) -> bytes:
    """Return an ICC profile (version 2.4) of three primaries and one curve."""
    points = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries])
    colours, white = points[:3].T, points[3]
    to_xyz = colours * np.linalg.solve(colours, white)
    to_d50 = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white)) @ _BRADFORD
    red, green, blue = (to_d50 @ to_xyz).T
    curve = b"curv" + bytes(4) + struct.pack(">I", len(light)) + (light * 65_535).round().astype(">u2").tobytes()
    text = b"text" + bytes(4) + b"none\0"
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"RGB \0" + bytes(78)
    blocks = {b"desc": description, b"cprt": text, b"wtpt": _xyz(_D50), b"rXYZ": _xyz(red), b"gXYZ": _xyz(green),
              b"bXYZ": _xyz(blue), b"rTRC": curve}  # fmt: skip
    table, body, places = b"", b"", {}
    start = 128 + 4 + 12 * (len(blocks) + 2)
    for name, block in blocks.items():
        places[name] = struct.pack(">II", start + len(body), len(block))
        body += block + bytes(-len(block) % 4)
    places |= {b"gTRC": places[b"rTRC"], b"bTRC": places[b"rTRC"]}
    table = struct.pack(">I", len(places)) + b"".join(name + place for name, place in places.items())
    head = struct.pack(">I4sI4s4s4s12x4s", start + len(body), bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return head + bytes(68 - len(head)) + _xyz(_D50)[8:] + bytes(48) + table + body


def _xyz(values: Any) -> bytes:
    return b"XYZ " + bytes(4) + (np.asarray(values) * 65_536).round().astype(">i4").tobytes()


ADOBE_RGB = _make_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), np.linspace(0, 1, 4096) ** (563 / 256))
"""The colour space Adobe RGB (1998), which cameras state without a profile (DCF 2.0)."""
