"""The interface of a model that encodes photographs and names, in PyTorch or ONNX Runtime. It does not import torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float32
from numpy import ndarray

from linnaea.model.preprocess import Pixels, Preprocess


class Encoder(ABC):
    """A model that encodes pictures and captions as vectors of one space."""

    name: str
    preprocess: Preprocess
    facts: Mapping[str, Any]
    """The contents of ``linnaea.json``."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of everything that decides a vector; equal models have equal fingerprints."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Return E, the width of the joint space."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """Return the factor on cosines."""

    @property
    def has_text(self) -> bool:
        """Tell whether the model encodes captions."""
        return True

    @property
    def own_preprocess(self) -> Preprocess:
        """Return how the model's maker prepares photographs, even if :attr:`preprocess` was chosen to differ."""
        return getattr(self, "makers", None) or self.preprocess

    @property
    def n_callers(self) -> int:
        """Return how many threads encode pixels at once with profit: one, if a call uses every core."""
        return 1

    def for_photographs(self, n: int) -> "Encoder":
        """Return the model for ``n`` photographs in all. A small one then needs less memory for a single photograph."""
        return self

    @property
    def precision(self) -> str:
        """Return the number format of the image tower: float32, bf16 or int8. Captions are encoded in float32."""
        return "float32"

    @property
    def takes_fractions(self) -> bool:
        """Tell whether the image tower takes pixels that are not whole numbers."""
        return True

    def enough_short_side(self, fast: bool) -> int | None:
        """Return the short side in pixels at which decoding a JPEG at a fraction may stop; ``None``: not at all.

        That is several times faster for photographs of cameras and not exact, since the picture is shrunk twice. With
        ``fast`` it is twice the input. In 8 bits it is one and a half times the input even without ``fast``, which
        changes vectors less than 8 bits do (docs/log.md, 27 November 2026).
        """
        side = self.preprocess.image_size
        if self.precision == "int8":
            return 3 * side // 2
        return 2 * side if fast else None

    @abstractmethod
    def encode_pixels(self, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
        """Encode pixels made by :meth:`Preprocess.pixels`, as unit vectors or at the length that the model gives."""

    @abstractmethod
    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        """Encode distinct captions as unit vectors."""
