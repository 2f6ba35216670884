"""Turn a picture into the image tower's input: open_clip's evaluation transform, as a value."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray
from PIL import Image

from linnaea.data.images import decode_noted_here
from linnaea.errors import LinnaeaError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_MAX_RATIO = 50
"""A picture with a longer long side, in short sides, is not resized as a whole."""

Interpolation = Literal["bicubic", "bilinear", "random"]
"""open_clip's words. ``random`` is for training and means bicubic here."""
ResizeMode = Literal["shortest", "longest", "squash", "pybioclip"]
"""The ways in which a picture becomes a square.

``shortest``: resize the short side and crop. ``longest``: resize the long side and pad. ``squash``: resize both sides.
``pybioclip``: resize both sides, linearly and in floating point, as pybioclip does for the published models.
"""
Preprocessing: TypeAlias = Literal["crop", "squash"]
"""What a user may choose instead of the model's own: the middle square, or the whole picture as in pybioclip."""

Pixels: TypeAlias = UInt8[ndarray, "B 3 S S"] | Float32[ndarray, "B 3 S S"]
"""A batch made by :meth:`Preprocess.pixels`."""


LARGEST_SIDE = 4096
"""The largest picture that a model takes, in pixels; a damaged file may state any."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """open_clip's evaluation transform for a square input of ``image_size`` pixels.

    ``mean`` and ``std`` are per RGB channel, for pixels between 0 and 1.

    Raises:
        ValueError: a mode that open_clip does not know.
    """

    image_size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0
    """The grey value of the padding in mode ``longest``."""

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation {self.interpolation!r}; one of {', '.join(get_args(Interpolation))}")
        if self.resize_mode not in get_args(ResizeMode):
            raise ValueError(f"resize mode {self.resize_mode!r}; one of {', '.join(get_args(ResizeMode))}")

    @classmethod
    def of_open_clip(cls, cfg: Mapping[str, Any]) -> "Preprocess":
        """Read open_clip's ``preprocess_cfg`` with its ``size``.

        Raises:
            LinnaeaError: the input is not square.
        """
        size = cfg["size"]
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) != 1:
            raise LinnaeaError(
                f"the model takes pictures of {' x '.join(map(str, size))} pixels; only square inputs work"
            )
        keys = ("interpolation", "resize_mode", "fill_color")
        given = {key: cfg[key] for key in keys if cfg.get(key) is not None}
        return cls(image_size=sides.pop(), mean=as_triple(cfg["mean"]), std=as_triple(cfg["std"]), **given)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any], where: str) -> "Preprocess":
        """Return the preprocessing that a file records; ``where`` names the file in messages.

        Raises:
            LinnaeaError: it is damaged.
        """
        try:
            found = cls(**{**stored, "mean": as_triple(stored["mean"]), "std": as_triple(stored["std"])})
            sizes, colours = (found.image_size, found.fill_color), (*found.mean, *found.std)
            if not all(type(size) is int for size in sizes) or not all(map(math.isfinite, colours)):
                raise ValueError("not numbers")
            if not 0 < found.image_size <= LARGEST_SIDE:
                raise ValueError(f"{found.image_size} pixels")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            words = str(stored)[:100]
            raise LinnaeaError(f"{where}: its form of photographs is damaged ({words}); make the file again") from error
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the preprocessing as a bank or an index records it."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @property
    def form(self) -> str:
        """Return the word for it: what a user may choose, or open_clip's mode."""
        return {"shortest": "crop", "pybioclip": "squash"}.get(self.resize_mode, self.resize_mode)

    def as_open_clip(self) -> dict[str, Any]:
        """Return the ``preprocess_cfg`` of ``open_clip_config.json``; open_clip takes the size from the image tower."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
            "fill_color": self.fill_color,
        }

    @cached_property
    def _steps(self) -> list[Any]:
        """Return open_clip's own steps, for the modes that the code below does not cover."""
        from open_clip.transform import image_transform
        from torchvision.transforms import ToTensor

        full = image_transform(
            self.image_size,
            is_train=False,
            mean=self.mean,
            std=self.std,
            resize_mode=self.resize_mode,
            interpolation=self.interpolation,
            fill_color=self.fill_color,
        ).transforms
        return list(full[: next(i for i, step in enumerate(full) if isinstance(step, ToTensor))])

    def pixels(self, picture: UInt8[ndarray, "H W 3"]) -> UInt8[ndarray, "3 S S"] | Float32[ndarray, "3 S S"]:
        """Return RGB pixels as the tower takes them, with the same bits as open_clip's transform before ``ToTensor``.

        Values are between 0 and 255, and whole numbers except in the mode ``pybioclip``.
        """
        if self.resize_mode == "pybioclip":
            return self._squash_in_float(picture)
        image: Any = Image.fromarray(picture)
        if self.resize_mode == "longest":
            for step in self._steps:
                image = step(image)
        else:
            image = self._to_square(image)
        return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))

    def _to_square(self, image: Image.Image) -> Image.Image:
        """Resize and crop as torchvision's ``Resize`` and ``CenterCrop``, which open_clip uses, without PyTorch."""
        side = self.image_size
        method = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        if self.resize_mode == "squash":
            return image.resize((side, side), method) if image.size != (side, side) else image
        width, height = image.size
        new = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
        left, top = round((new[0] - side) / 2), round((new[1] - side) / 2)
        # Only the middle is resized: whole, a long picture would take gigabytes; others take a fifth to a third longer.
        if max(new) > _MAX_RATIO * side or (new != image.size and _scales_exactly(image.size, new, side)):
            across, down = width / new[0], height / new[1]
            box = (left * across, top * down, (left + side) * across, (top + side) * down)
            return image.resize((side, side), method, box=box)
        small = image.resize(new, method) if new != image.size else image
        return small.crop((left, top, left + side, top + side))

    def _squash_in_float(self, picture: UInt8[ndarray, "H W 3"]) -> Float32[ndarray, "3 S S"]:
        """Resize as torchvision's antialiased ``Resize`` of a float tensor: Pillow's filter without rounding."""
        size = (self.image_size, self.image_size)
        channels = (Image.fromarray(picture[..., channel].astype(np.float32)) for channel in range(3))
        return np.stack([np.asarray(one.resize(size, Image.Resampling.BILINEAR), np.float32) for one in channels])


def decode_pixels(
    data: bytes, preprocess: Preprocess, min_short_side: int | None, max_pixels: int
) -> tuple[UInt8[ndarray, "3 S S"] | Float32[ndarray, "3 S S"], list[str]]:
    """Return the pixels of a file of any format and notes on it, for :func:`linnaea.data.images.call_apart`.

    Raises:
        ImageError: see :func:`linnaea.data.images.decode_here`.
    """
    picture, notes = decode_noted_here(data, min_short_side, max_pixels)
    return preprocess.pixels(picture), notes


def _scales_exactly(size: tuple[int, int], new: tuple[int, int], side: int) -> bool:
    """Return whether Pillow resizes the middle of a wide picture alone to the same bits as the whole.

    Pillow takes the edges of the middle as float32. They are exact if the scale is a multiple of 1/256, as for
    photographs of 3:2 and 5:4. A tall picture gets other bits: Pillow rounds the middle and the whole in other places.
    """
    return new[1] == side < new[0] and 256 * size[0] % new[0] == 0


def as_triple(value: Any) -> tuple[float, float, float]:
    """Return three numbers, one per RGB channel, of which a single one holds for all."""
    first, second, third = value if isinstance(value, list | tuple) else (value,) * 3
    return float(first), float(second), float(third)
