"""Models that run without PyTorch: both towers as ONNX, in ONNX Runtime.

An exported folder holds ``image.onnx`` (uint8 pixels ``[B, 3, S, S]`` to vectors; the normalisation is inside),
``text.onnx`` (tokens ``[B, T]`` to vectors) where there is a text tower, ``onnx.json``, and the model's label bank.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder
from linnaea.model.folders import BPE_FILE, ONNX_FACTS_FILE
from linnaea.model.preprocess import Preprocess

IMAGE_FILE, TEXT_FILE = "image.onnx", "text.onnx"
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class OnnxModel(Encoder):
    """An exported model. It answers to the name (fingerprint) of the model that it was exported from."""

    name: str
    folder: Path
    preprocess: Preprocess
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What ``onnx.json`` says."""

    @property
    def fingerprint(self) -> str:
        return str(self.about["fingerprint"])

    @property
    def width(self) -> int:
        return int(self.about["width"])

    @property
    def logit_scale(self) -> float:
        return float(self.about["logit_scale"])

    @cached_property
    def _image(self) -> Any:
        return _open_session(self.folder / IMAGE_FILE)

    @cached_property
    def _text(self) -> Any:
        return _open_session(self.folder / TEXT_FILE)

    def encode_pixels(self, pixels_BCHW: UInt8[ndarray, "B 3 S S"], *, unit: bool = True) -> Float32[ndarray, "B E"]:
        parts = [
            self._image.run(None, {"pixels": np.ascontiguousarray(pixels_BCHW[start : start + _AT_ONCE])})[0]
            for start in range(0, len(pixels_BCHW), _AT_ONCE)
        ]
        return _to_unit(np.concatenate(parts)) if unit else np.concatenate(parts)

    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        """
        Raises:
            LinnaeaError: there is no tokenizer here: that is open_clip's, which needs PyTorch.
        """
        try:
            from linnaea.model.tokenizer import make_tokenizer
        except ImportError as error:
            raise LinnaeaError(
                f"{self.name}: new names need a tokenizer, which PyTorch comes with; without, use the labels it brings"
            ) from error
        if not (self.folder / BPE_FILE).exists():
            raise LinnaeaError(f"{self.name}: was exported without a vocabulary; use the labels it brings")
        tokenizer = make_tokenizer((self.folder / BPE_FILE).read_bytes(), int(self.about["context_length"]))
        vectors = np.empty((len(captions), self.width), np.float32)
        for start in range(0, len(captions), _AT_ONCE):
            some = captions[start : start + _AT_ONCE]
            vectors[start : start + len(some)] = self._text.run(None, {"tokens": tokenizer(list(some)).numpy()})[0]
            on_progress(start + len(some), len(captions))
        return _to_unit(vectors)


def load_onnx(folder: Path) -> OnnxModel:
    """Open an exported folder.

    Raises:
        LinnaeaError: it is incomplete.
    """
    try:
        about = json.loads((folder / ONNX_FACTS_FILE).read_text(encoding="utf-8"))
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in about["preprocess"].items()}
        preprocess = Preprocess(**given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinnaeaError(f"{folder / ONNX_FACTS_FILE}: cannot be read ({error}); export the model again") from error
    if not (folder / IMAGE_FILE).exists():
        raise LinnaeaError(f"{folder}: {IMAGE_FILE} is missing; export the model again")
    return OnnxModel(name=str(folder), folder=folder, preprocess=preprocess, facts=about["facts"], about=about)


def describe(model: Any, context_length: int | None) -> dict[str, Any]:
    """``onnx.json`` of a model."""
    return {
        "fingerprint": model.fingerprint,
        "width": model.width,
        "logit_scale": model.logit_scale,
        "context_length": context_length,
        "preprocess": asdict(model.preprocess),
        "facts": dict(model.facts),
    }


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise LinnaeaError("exported models need ONNX Runtime: pip install 'linnaea[onnx]'") from error
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the runtime says of a broken file
        raise LinnaeaError(f"{path}: cannot be opened ({str(error).splitlines()[0][:120]}); export again") from error


def _to_unit(vectors: Float32[ndarray, "B E"]) -> Float32[ndarray, "B E"]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
