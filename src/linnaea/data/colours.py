"""Colour profiles: conversion of pictures from their colour space to the sRGB that models expect."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
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
