"""What encodes photographs and names, whatever runs it: PyTorch (:mod:`linnaea.model.load`) or ONNX. No torch here."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float32, UInt8
from numpy import ndarray

from linnaea.errors import LinnaeaError
from linnaea.model.folders import ONNX_FACTS_FILE, Precision, find_model_folder
from linnaea.model.preprocess import Preprocess


class Encoder(ABC):
    """A model that turns pictures and captions into vectors of one space."""

    name: str
    preprocess: Preprocess
    facts: Mapping[str, Any]
    """What ``linnaea.json`` says."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal models embed equally."""

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
    def encode_pixels(self, pixels_BCHW: UInt8[ndarray, "B 3 S S"], *, unit: bool = True) -> Float32[ndarray, "B E"]:
        """Vectors of pixels that :meth:`Preprocess.pixels` made; ``unit`` vectors, or of their own length."""

    @abstractmethod
    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        """Unit vectors of distinct captions."""


def open_encoder(
    name: str, *, pretrained: str | None = None, device: str = "auto", precision: Precision = "float32"
) -> Encoder:
    """The model of that name: an exported folder runs in ONNX Runtime, every other in PyTorch.

    Raises:
        LinnaeaError: there is no such model, or it is broken.
    """
    folder = find_model_folder(name)
    if folder is not None and (folder / ONNX_FACTS_FILE).exists():
        from linnaea.model.onnx import load_onnx

        if precision == "bf16":
            raise LinnaeaError(f"{name}: an exported model runs as it was exported; leave out --precision bf16")
        return load_onnx(folder)
    from linnaea.model.load import load_model, prepare_for_photographs

    return prepare_for_photographs(load_model(name, pretrained=pretrained, device=device, precision=precision))
