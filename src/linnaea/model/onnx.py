"""Models that run without PyTorch: both towers as ONNX, in ONNX Runtime. Only :func:`export_onnx` imports torch.

An exported folder holds ``image.onnx`` (uint8 pixels ``[B, 3, S, S]`` to vectors, normalisation included),
``text.onnx`` (tokens ``[B, T]`` to vectors) if there is a text tower, ``onnx.json``, and the model's label bank.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder
from linnaea.model.folders import BPE_FILE, LABELS_FOLDER, ONNX_FACTS_FILE, find_model_folder
from linnaea.model.onnx_data import check_external_data
from linnaea.model.preprocess import Pixels, Preprocess
from linnaea.storage import atomic_path, explain_os_errors, read_json, write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

    from linnaea.model.load import TaxonModel

IMAGE_FILE, TEXT_FILE = "image.onnx", "text.onnx"
OPSET = 18
_AT_ONCE = 64
_LEAST_WEIGHTS = 1024
"""Smaller arrays stay in float32."""


@dataclass(frozen=True, kw_only=True)
class OnnxModel(Encoder):
    """An exported model. It has the fingerprint of the model that it was exported from."""

    name: str
    folder: Path
    preprocess: Preprocess
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The contents of ``onnx.json``."""

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

    def encode_pixels(self, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
        parts = [
            self._image.run(None, {"pixels": np.ascontiguousarray(pixels_BCHW[start : start + _AT_ONCE])})[0]
            for start in range(0, len(pixels_BCHW), _AT_ONCE)
        ]
        return _to_unit(np.concatenate(parts)) if unit else np.concatenate(parts)

    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        """Encode distinct captions as unit vectors.

        Raises:
            LinnaeaError: the tokenizer is missing; open_clip's needs PyTorch.
        """
        try:
            from linnaea.model.tokenizer import make_tokenizer
        except ImportError as error:
            raise LinnaeaError(
                f"{self.name}: new names need a tokenizer; install PyTorch for it, or use the labels in the folder"
            ) from error
        if not (self.folder / BPE_FILE).exists():
            raise LinnaeaError(f"{self.name}: was exported without a vocabulary; use the labels in the folder")
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
        LinnaeaError: the folder is incomplete.
    """
    try:
        about = read_json(folder / ONNX_FACTS_FILE, kind="the description of an exported model")
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in about["preprocess"].items()}
        preprocess = Preprocess(**given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinnaeaError(f"{folder / ONNX_FACTS_FILE}: cannot be read ({error}); export the model again") from error
    if not (folder / IMAGE_FILE).exists():
        raise LinnaeaError(f"{folder}: {IMAGE_FILE} is missing; export the model again")
    return OnnxModel(name=str(folder), folder=folder, preprocess=preprocess, facts=about["facts"], about=about)


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise LinnaeaError("exported models need ONNX Runtime: pip install 'linnaea[onnx]'") from error
    with explain_os_errors(path):
        check_external_data(path)
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the runtime raises for a broken file
        raise LinnaeaError(f"{path}: cannot be opened ({str(error).splitlines()[0][:120]}); export again") from error


def _to_unit(vectors: Float32[ndarray, "B E"]) -> Float32[ndarray, "B E"]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def export_onnx(model: "TaxonModel", folder: Path, *, int8: bool = False, check: UInt8[ndarray, "B 3 S S"]) -> float:
    """Write both towers, and return the largest difference between unit vectors of ``check`` before and after.

    With ``int8`` the weights are stored in 8 bits. The files take a quarter of the size and are as fast, but the
    vectors differ slightly.

    Raises:
        LinnaeaError: packages are missing, or the folder cannot be written.
    """
    import torch

    side, context = model.preprocess.image_size, int(model.model_cfg.get("text_cfg", {}).get("context_length", 77))
    image_tower, text_tower = _make_towers(model)
    folder.mkdir(parents=True, exist_ok=True)
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    _write(image_tower, pixels, "pixels", folder / IMAGE_FILE, int8=int8)
    if model.has_text:
        tokens = torch.zeros(2, context, dtype=torch.int64)
        tokens[:, :3] = torch.tensor([1, 2, 3])
        _write(text_tower, tokens, "tokens", folder / TEXT_FILE, int8=int8)
    if model.bpe is not None:
        write_atomically(folder / BPE_FILE, model.bpe)
    own = find_model_folder(model.name)
    if own is not None and (own / LABELS_FOLDER).is_dir():
        shutil.copytree(own / LABELS_FOLDER, folder / LABELS_FOLDER, dirs_exist_ok=True)
    about = {
        "fingerprint": model.fingerprint,
        "width": model.width,
        "logit_scale": model.logit_scale,
        "context_length": context if model.has_text else None,
        "preprocess": asdict(model.preprocess),
        "facts": dict(model.facts),
    }
    write_atomically(folder / ONNX_FACTS_FILE, json.dumps(about, indent=1, ensure_ascii=False))
    return float(np.abs(load_onnx(folder).encode_pixels(check) - model.encode_pixels(check)).max())


def _make_towers(model: "TaxonModel") -> "tuple[nn.Module, nn.Module]":
    """Return the modules to export: uint8 pixels to vectors, normalisation included, and tokens to vectors."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual: Any = model.clip.visual
            self.register_buffer("mean", 255 * torch.tensor(model.preprocess.mean).view(3, 1, 1))
            self.register_buffer("std", 255 * torch.tensor(model.preprocess.std).view(3, 1, 1))

        def forward(self, pixels_BCHW: "Tensor") -> Any:
            mean: Any = self.mean
            return self.visual((pixels_BCHW.float() - mean) / self.std)

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip: Any = model.clip

        def forward(self, tokens_BT: "Tensor") -> Any:
            return self.clip.encode_text(tokens_BT)

    return ImageTower().eval(), TextTower().eval()


def _write(tower: "nn.Module", example: "Tensor", name: str, path: Path, *, int8: bool) -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import torch
    except ImportError as error:
        raise LinnaeaError(f"export needs more packages ({error.name}): pip install 'linnaea[onnx]'") from error
    with atomic_path(path) as partial, _quiet(), torch.inference_mode():
        torch.onnx.export(
            tower.cpu(), (example,), str(partial), input_names=[name], output_names=["vectors"],
            dynamic_axes={name: {0: "batch"}, "vectors": {0: "batch"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        if int8:
            _store_in_8_bits(partial)


def _store_in_8_bits(path: Path) -> None:
    """Store weights as int8 with a scale for each row of their first axis; the arithmetic stays in float32.

    Activations are not quantised. ONNX Runtime's dynamic quantisation of them turned the vectors of EfficientNet-Lite1
    by up to 40 degrees, and was slower.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    graph, nodes = model.graph, []
    for weight in list(graph.initializer):
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < _LEAST_WEIGHTS:
            continue
        scale = np.maximum(np.abs(values.reshape(len(values), -1)).max(axis=1) / 127, 1e-12).astype(np.float32)
        small = np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        names = f"{weight.name}.int8", f"{weight.name}.scale"
        nodes.append(helper.make_node("DequantizeLinear", list(names), [weight.name], axis=0))
        graph.initializer.remove(weight)
        graph.initializer.extend(numpy_helper.from_array(v, n) for v, n in zip((small, scale), names, strict=True))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.save(model, str(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages, and turn off fused attention, which it does not know."""
    import torch

    level, fast = logging.root.level, torch.backends.mha.get_fastpath_enabled()
    logging.root.setLevel(logging.ERROR)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)
