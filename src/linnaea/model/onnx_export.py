"""Write towers as ONNX: whole models for other programs, and image towers over the weights in their model folders.

Only this module's functions import torch and onnx; :mod:`linnaea.model.onnx` runs what they write.
"""

import json
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError
from linnaea.model.folders import (
    BPE_FILE,
    GRAPH_FACTS_FILE,
    IMAGE_FILE,
    INT8_FILE,
    LABELS_FOLDER,
    ONNX_FACTS_FILE,
    TEXT_FILE,
    WEIGHTS_FILE,
    find_model_folder,
)
from linnaea.model.onnx import hash_sources, load_graph, load_onnx
from linnaea.storage import atomic_path, write_atomically

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto
    from torch import Tensor, nn

    from linnaea.model.load import TaxonModel

OPSET = 18
LARGEST_DIFFERENCE = 1e-5
"""The largest difference of unit vectors that a graph may make."""
_LEAST_WEIGHTS = 1024
"""Smaller arrays stay in float32."""
_ONNX_TYPES = {"F32": 1, "F16": 10, "BF16": 16}
"""The numbers that ONNX gives to the number formats of safetensors."""


def export_onnx(
    model: "TaxonModel", folder: Path, *, int8: bool = False, image_only: bool = False,
    check: UInt8[ndarray, "B 3 S S"],
) -> float:  # fmt: skip
    """Write both towers, and return the largest difference between unit vectors of ``check`` before and after.

    With ``image_only`` neither the text tower nor the model's labels are written. With ``int8`` the weights are stored
    in 8 bits. The files take a quarter of the size and are as fast, but the vectors differ slightly.

    Raises:
        LinnaeaError: packages are missing, or the folder cannot be written.
    """
    import torch

    side, context = model.preprocess.image_size, int(model.model_cfg.get("text_cfg", {}).get("context_length", 77))
    folder.mkdir(parents=True, exist_ok=True)
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    _write(_image_tower(model), pixels, "pixels", folder / IMAGE_FILE, int8=int8)
    has_text = model.has_text and not image_only
    if has_text:
        tokens = torch.zeros(2, context, dtype=torch.int64)
        tokens[:, :3] = torch.tensor([1, 2, 3])
        _write(_text_tower(model), tokens, "tokens", folder / TEXT_FILE, int8=int8)
    if model.bpe is not None and has_text:
        write_atomically(folder / BPE_FILE, model.bpe)
    own = find_model_folder(model.name)
    if not image_only and own is not None and (own / LABELS_FOLDER).is_dir():
        shutil.copytree(own / LABELS_FOLDER, folder / LABELS_FOLDER, dirs_exist_ok=True)
    about = _describe(model) | {"context_length": context if has_text else None, "facts": dict(model.facts)}
    write_atomically(folder / ONNX_FACTS_FILE, json.dumps(about, indent=1, ensure_ascii=False))
    return float(np.abs(load_onnx(folder).encode_pixels(check) - model.encode_pixels(check)).max())


def write_graph(model: "TaxonModel", folder: Path, check: UInt8[ndarray, "B 3 S S"]) -> float:
    """Write the image tower as a graph whose weights stay in the safetensors file of a model folder.

    The graph takes a fiftieth of the space of the weights. Linnaea then encodes photographs without PyTorch
    (:class:`~linnaea.model.onnx.GraphModel`). ``model`` is the model of the folder.

    Returns:
        The largest difference between unit vectors of ``check`` that PyTorch and the graph give.

    Raises:
        LinnaeaError: the tower cannot be written, or its vectors differ by more than 1e-5.
    """
    import torch

    side = model.preprocess.image_size
    path, facts = folder / IMAGE_FILE, folder / GRAPH_FACTS_FILE
    try:
        _write(_image_tower(model), torch.zeros(2, 3, side, side), "pixels", path, weights=folder / WEIGHTS_FILE)
        describe_graph(model, folder, hash_sources(folder))
        difference = float(
            np.abs(load_graph(folder, folder.name).encode_pixels(check) - model.encode_pixels(check)).max()
        )
        if difference > LARGEST_DIFFERENCE:
            raise LinnaeaError(f"its vectors differ by {difference:.1e}")
    except Exception as error:  # whatever the exporter raises for a tower that it does not know
        for written in (path, facts):
            written.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:150]
        raise LinnaeaError(f"{model.name}: its image tower cannot be written as a graph ({reason})") from error
    return difference


def describe_graph(model: "TaxonModel", folder: Path, made_from: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write the facts that callers need of the model in ``folder``; ``made_from`` are the hashes of its files."""
    about = _describe(model) | {"has_text": model.has_text, "made_from": dict(made_from)}
    write_atomically(folder / GRAPH_FACTS_FILE, json.dumps(about, indent=1))


def write_bf16(model: "TaxonModel", folder: Path) -> None:
    """Write the image tower as a graph whose weights are in the file, the matrices rounded to bfloat16.

    Raises:
        LinnaeaError: packages are missing, or the folder cannot be written.
    """
    with _image_graph(model) as whole, atomic_path(folder / IMAGE_FILE) as partial:
        _store_in_bf16(whole, partial)


def write_int8(model: "TaxonModel", folder: Path, pixels: UInt8[ndarray, "B 3 S S"]) -> None:
    """Write the image tower of a model folder in 8 bits, calibrated on the pixels of photographs.

    Raises:
        LinnaeaError: packages are missing, or the tower cannot be written.
    """
    from linnaea.model.quantize import quantise

    with _image_graph(model) as whole:
        quantise(whole, folder / INT8_FILE, pixels)


@contextmanager
def _image_graph(model: "TaxonModel") -> Iterator[Path]:
    """Yield a temporary graph of the image tower, with its weights in it."""
    import torch

    side = model.preprocess.image_size
    with tempfile.TemporaryDirectory() as scratch:  # the exporter puts weights above 2 GB into files beside the graph
        path = Path(scratch) / IMAGE_FILE
        _write(_image_tower(model), torch.zeros(2, 3, side, side), "pixels", path)
        yield path


def _describe(model: "TaxonModel") -> dict[str, Any]:
    return {
        "fingerprint": model.fingerprint,
        "width": model.width,
        "logit_scale": model.logit_scale,
        "preprocess": model.preprocess.to_json(),
    }


def _image_tower(model: "TaxonModel") -> "nn.Module":
    """Return the module that turns pixels (0 to 255) into vectors, normalisation included."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip: Any = model.clip
            self.register_buffer("mean", 255 * torch.tensor(model.preprocess.mean).view(3, 1, 1))
            self.register_buffer("std", 255 * torch.tensor(model.preprocess.std).view(3, 1, 1))

        def forward(self, pixels_BCHW: "Tensor") -> Any:
            mean: Any = self.mean
            return self.clip.encode_image((pixels_BCHW.float() - mean) / self.std)

    return ImageTower().eval()


def _text_tower(model: "TaxonModel") -> "nn.Module":
    """Return the module that turns tokens into vectors."""
    import torch

    class TextTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip: Any = model.clip

        def forward(self, tokens_BT: "Tensor") -> Any:
            return self.clip.encode_text(tokens_BT)

    return TextTower().eval()


def _write(
    tower: "nn.Module", example: "Tensor", name: str, path: Path, *, int8: bool = False, weights: Path | None = None
) -> None:
    """Write a tower; its weights go into the file, in 8 bits with ``int8``, or stay in the file ``weights``."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import torch
    except ImportError as error:
        raise LinnaeaError(f"export needs more packages ({error.name}): pip install onnx onnxruntime") from error
    options: dict[str, Any] = {}
    if weights is not None:  # the exporter is to keep every weight as it is: nothing merged, nothing transposed
        options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    with atomic_path(path) as partial, _quiet(), torch.inference_mode():
        torch.onnx.export(
            tower.cpu(), (example,), str(partial), input_names=[name], output_names=["vectors"],
            dynamic_axes={name: {0: "batch"}, "vectors": {0: "batch"}}, opset_version=OPSET, dynamo=False, **options,
        )  # fmt: skip
        if int8:
            _store_in_8_bits(partial)
        if weights is not None:
            _refer_to(weights, partial)


def _rewrite_weights(
    model: "ModelProto", rewrite: "Callable[[TensorProto], tuple[Sequence[TensorProto], NodeProto] | None]"
) -> None:
    """Replace weights as ``rewrite`` says: by tensors to store, and the node that makes the weight of them.

    Weights for which it returns ``None`` stay as they are.
    """
    graph, nodes = model.graph, []
    for weight in list(graph.initializer):
        if (rewritten := rewrite(weight)) is not None:
            stored, node = rewritten
            graph.initializer.remove(weight)
            graph.initializer.extend(stored)
            nodes.append(node)
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _store_in_8_bits(path: Path) -> None:
    """Store weights as int8 with a scale for each row of their first axis; the arithmetic stays in float32.

    Activations are not quantised. ONNX Runtime's dynamic quantisation of them turned the vectors of EfficientNet-Lite1
    by up to 40 degrees, and was slower.
    """
    import onnx
    from onnx import helper, numpy_helper

    def rewrite(weight: "TensorProto") -> "tuple[Sequence[TensorProto], NodeProto] | None":
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < _LEAST_WEIGHTS:
            return None
        scale = np.maximum(np.abs(values.reshape(len(values), -1)).max(axis=1) / 127, 1e-12).astype(np.float32)
        small = np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        names = f"{weight.name}.int8", f"{weight.name}.scale"
        stored = [numpy_helper.from_array(v, n) for v, n in zip((small, scale), names, strict=True)]
        return stored, helper.make_node("DequantizeLinear", list(names), [weight.name], axis=0)

    model = onnx.load(str(path))
    _rewrite_weights(model, rewrite)
    onnx.save(model, str(path))


def _store_in_bf16(source: Path, target: Path) -> None:
    """Store matrices and kernels as bfloat16; a runtime that computes in float32 reads them as such."""
    import onnx
    from onnx import helper

    def rewrite(weight: "TensorProto") -> "tuple[Sequence[TensorProto], NodeProto] | None":
        is_float = weight.data_type == onnx.TensorProto.FLOAT
        if not is_float or len(weight.dims) < 2 or math.prod(weight.dims) < _LEAST_WEIGHTS:
            return None
        name = f"{weight.name}.stored"
        stored = onnx.TensorProto(name=name, dims=weight.dims, data_type=onnx.TensorProto.BFLOAT16)
        stored.raw_data = _round_to_bf16(onnx.numpy_helper.to_array(weight)).tobytes()
        return [stored], helper.make_node("Cast", [name], [weight.name], to=onnx.TensorProto.FLOAT)

    model = onnx.load(str(source))
    _rewrite_weights(model, rewrite)
    onnx.save(model, str(target))


def _round_to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, np.uint16)


def _refer_to(weights: Path, path: Path) -> None:
    """Make the graph in ``path`` read its weights from the safetensors file ``weights`` of the same folder."""
    import onnx
    from onnx import helper

    entries, start = _read_header(weights)

    def rewrite(weight: "TensorProto") -> "tuple[Sequence[TensorProto], NodeProto] | None":
        entry = entries.get(weight.name.removeprefix("clip."))
        if entry is None or entry["shape"] != list(weight.dims) or entry["dtype"] not in _ONNX_TYPES:
            return None  # what the exporter or this package made, such as the mean of the pixels
        name = f"{weight.name}.stored"
        first, last = entry["data_offsets"]
        outside = onnx.TensorProto(name=name, dims=weight.dims, data_type=_ONNX_TYPES[entry["dtype"]],
                                   data_location=onnx.TensorProto.EXTERNAL)  # fmt: skip
        for key, value in (("location", weights.name), ("offset", start + first), ("length", last - first)):
            outside.external_data.add(key=key, value=str(value))
        return [outside], helper.make_node("Cast", [name], [weight.name], to=onnx.TensorProto.FLOAT)

    model = onnx.load(str(path))
    _rewrite_weights(model, rewrite)
    for node in model.graph.node:
        node.ClearField("doc_string")
    path.write_bytes(model.SerializeToString())


def _read_header(weights: Path) -> tuple[Mapping[str, Any], int]:
    """Return the entries of a safetensors file, and where its data starts."""
    with weights.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length)), 8 + length


def _same_padding(size: Any, kernel: int, stride: int, dilation: int) -> int:
    """Return timm's padding as a number. The input size is fixed, and the graph is a quarter faster for it."""
    return max((math.ceil(int(size) / stride) - 1) * stride + (kernel - 1) * dilation + 1 - int(size), 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages, turn off fused attention, which it does not know, and fix paddings."""
    import torch

    level, fast = logging.root.level, torch.backends.mha.get_fastpath_enabled()
    logging.root.setLevel(logging.ERROR)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), patch("timm.layers.padding.get_same_padding", _same_padding):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast)
