"""The interface of a model that encodes photographs and names, whatever runs it: PyTorch or ONNX. No torch here."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float32
from numpy import ndarray

from linnaea.model.preprocess import Pixels, Preprocess


class Encoder(ABC):
    """A model that turns pictures and captions into vectors of one space."""

    name: str
    preprocess: Preprocess
    facts: Mapping[str, Any]
    """What ``linnaea.json`` says."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all that decides a vector: equal models have equal fingerprints."""

    @property
    @abstractmethod
    def width(self) -> int:
        """E, the width of the joint space."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """The factor on cosines."""

    @property
    def precision(self) -> str:
        """What the image tower multiplies in: float32 or bf16. Captions are always encoded in float32."""
        return "float32"

    @abstractmethod
    def encode_pixels(self, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
        """Encode pixels that :meth:`Preprocess.pixels` made, as ``unit`` vectors or at the length the model gives."""

    @abstractmethod
    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        """Encode distinct captions as unit vectors."""
