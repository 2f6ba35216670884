"""From a model to the folder that runs without PyTorch (:mod:`linnaea.model.onnx`)."""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor, nn

from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE, LABELS_FOLDER, ONNX_FACTS_FILE, find_model_folder
from linnaea.model.load import TaxonModel
from linnaea.model.onnx import IMAGE_FILE, TEXT_FILE, describe, load_onnx
from linnaea.storage import atomic_path, write_atomically

OPSET = 18
_LEAST_WEIGHTS = 1024
"""Smaller arrays stay in float32."""


class _ImageTower(nn.Module):
    """uint8 pixels in; the normalisation belongs to the graph, so that nobody has to know it."""

    def __init__(self, model: TaxonModel) -> None:
        super().__init__()
        self.visual: Any = model.clip.visual
        self.register_buffer("mean", 255 * torch.tensor(model.preprocess.mean).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(model.preprocess.std).view(3, 1, 1))

    def forward(self, pixels_BCHW: Tensor) -> Any:
        mean: Any = self.mean
        return self.visual((pixels_BCHW.float() - mean) / self.std)


class _TextTower(nn.Module):
    def __init__(self, model: TaxonModel) -> None:
        super().__init__()
        self.clip: Any = model.clip

    def forward(self, tokens_BT: Tensor) -> Any:
        return self.clip.encode_text(tokens_BT)


def export_onnx(model: TaxonModel, folder: Path, *, int8: bool = False, check: UInt8[ndarray, "B 3 S S"]) -> float:
    """Write both towers; returns the largest difference between unit vectors of ``check`` here and there.

    With ``int8`` the weights are stored in 8 bits: a quarter of the size, as fast, and not the same to the last digits.

    Raises:
        LinnaeaError: the packages for it are missing, or the folder cannot be written.
    """
    clip: Any = model.clip.eval()
    side, context = model.preprocess.image_size, int(model.model_cfg.get("text_cfg", {}).get("context_length", 77))
    folder.mkdir(parents=True, exist_ok=True)
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    _write(_ImageTower(model).eval(), pixels, "pixels", folder / IMAGE_FILE, int8=int8)
    if model.has_text:
        tokens = torch.zeros(2, context, dtype=torch.int64)
        tokens[:, :3] = torch.tensor([1, 2, 3])
        _write(_TextTower(model).eval(), tokens, "tokens", folder / TEXT_FILE, int8=int8)
    if model.bpe is not None:
        write_atomically(folder / BPE_FILE, model.bpe)
    own = find_model_folder(model.name)
    if own is not None and (own / LABELS_FOLDER).is_dir():
        shutil.copytree(own / LABELS_FOLDER, folder / LABELS_FOLDER, dirs_exist_ok=True)
    del clip
    facts = describe(model, context if model.has_text else None)
    write_atomically(folder / ONNX_FACTS_FILE, json.dumps(facts, indent=1, ensure_ascii=False))
    return float(np.abs(load_onnx(folder).encode_pixels(check) - model.encode_pixels(check)).max())


def _write(tower: nn.Module, example: Tensor, name: str, path: Path, *, int8: bool) -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
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
    """Weights become int8 with a scale for each row of their first axis; the arithmetic stays in float32.

    Activations are not quantised: for EfficientNet-Lite1 that (ONNX Runtime's dynamic quantisation) turned vectors by
    up to 40 degrees, and was slower.
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
    """The exporter talks to whoever wrote it; and it knows no fused attention."""
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
