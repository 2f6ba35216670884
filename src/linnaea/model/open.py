"""Open a model by name: a folder, a bundled or published model, a hub model, or an open_clip architecture.

The module does not import torch: an exported model (:mod:`linnaea.model.onnx`) opens without it.
"""

import difflib
import os
import platform
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from linnaea.errors import LinnaeaError, UsageError
from linnaea.model.encoder import Encoder
from linnaea.model.folders import HUB, INT8_FILE, ONNX_FACTS_FILE, TIMM, Precision, bundled_models, find_model_folder
from linnaea.model.hub import PUBLISHED
from linnaea.model.memory import keep_freed_memory
from linnaea.model.preprocess import Preprocess, Preprocessing

if TYPE_CHECKING:
    import torch

    from linnaea.model.load import TaxonModel
    from linnaea.model.onnx import GraphModel


def names_weights(name: str) -> bool:
    """Tell whether a name determines weights, as that of a folder or a bundled, published or hub model does."""
    return bool(name) and (find_model_folder(name) is not None or name in PUBLISHED or name.startswith((HUB, TIMM)))


def open_encoder(
    name: str | Path | Encoder,
    *,
    pretrained: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
) -> Encoder:
    """Open a model to encode photographs as fast as the machine can; return an open model as it is.

    On a CPU, a model folder with a graph (as `linnaea pack` writes) encodes photographs without importing torch: in
    ONNX Runtime, or in OpenVINO where that is installed and faster. An exported folder runs in ONNX Runtime. Any other
    model runs in PyTorch, as does any model on a GPU; in bf16 and int8 on a CPU it has a graph in the cache folder
    (:mod:`linnaea.model.converted`). In float32, vectors differ from those of :func:`load_model` only by the rounding
    of sums.

    Raises:
        UsageError: an open model is given together with ``pretrained``.
        LinnaeaError: there is no such model, or it is broken.
    """
    if isinstance(name, Encoder):
        return _as_it_is(name, pretrained)
    name = str(name)
    folder = find_model_folder(name)
    if folder is not None and (folder / ONNX_FACTS_FILE).exists():
        from linnaea.model.onnx import load_onnx

        if precision in ("bf16", "int8"):
            raise LinnaeaError(f"{name}: an exported model has a fixed precision; leave out --precision {precision}")
        if pretrained:
            raise LinnaeaError(_explain_unused(name, pretrained))
        return load_onnx(folder)
    if folder is not None and not pretrained and (precision == "int8" or _is_cpu(device)):
        from linnaea.model.onnx import find_graph

        if (graph := find_graph(folder, name)) and (chosen := _precision_of(graph, precision)):
            return replace(graph, precision=chosen)
    if precision != "float32" and not pretrained and (precision == "int8" or _is_cpu(device)):
        from linnaea.model.converted import open_converted

        converted, precision = open_converted(name, precision)
        if converted:
            return converted
    from linnaea.model.fast import prepare_for_photographs

    loaded = load_model(name, pretrained=pretrained, device=device, precision=precision)
    prepare_for_photographs(loaded.image_tower, loaded.device, loaded.precision)
    return loaded


def _precision_of(graph: "GraphModel", precision: Precision) -> str:
    """Return the precision in which the graph is to run; "" if PyTorch does that.

    Bfloat16 needs OpenVINO, and a processor that multiplies it.
    """
    from linnaea.model.runtimes import has_bf16, has_openvino

    if precision == "float32":
        return precision
    if precision == "int8":
        return precision if (graph.folder / INT8_FILE).exists() else ""
    if precision == "auto" and not has_bf16():
        return "float32"
    return "bf16" if has_bf16() and has_openvino() else ""


def _is_cpu(device: str) -> bool:
    """Tell whether photographs are encoded on the CPU, without importing torch; a GPU is left to PyTorch."""
    if device != "auto":
        return device == "cpu"
    has_mps = sys.platform == "darwin" and platform.machine() == "arm64"
    hides_gpus = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    drivers = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))  # NVIDIA, Windows' Linux, AMD
    windows = Path(os.environ.get("SYSTEMROOT", "/")) / "System32" / "nvcuda.dll"
    has_gpu = any(path.exists() for path in (*drivers, windows))
    return not has_mps and (hides_gpus or not has_gpu)


_Open = TypeVar("_Open", bound=Encoder)


def see_as(encoder: _Open, preprocess: Preprocessing | Preprocess | None) -> _Open:
    """Return the encoder with other preprocessing; it keeps its fingerprint, so that its labels remain valid.

    ``None`` leaves the encoder as it is. An exported model takes whole pixels and rounds those of squashed photographs.

    Raises:
        UsageError: there is no preprocessing of that name.
    """
    if preprocess is None:
        return encoder
    has = {field.name for field in fields(encoder)}  # type: ignore[arg-type]  # every encoder is a dataclass
    if not isinstance(preprocess, Preprocess):
        if preprocess not in _MODES:
            raise UsageError(f"preprocess {preprocess!r}: write crop or squash")
        preprocess = replace(encoder.own_preprocess, resize_mode=_MODES[preprocess])
    if preprocess.resize_mode == "pybioclip" and not encoder.takes_fractions:
        preprocess = replace(preprocess, resize_mode="squash", interpolation="bilinear")
    changed: dict[str, Any] = {"preprocess": preprocess, "makers": encoder.own_preprocess}
    if "known_as" in has:
        changed["known_as"] = encoder.fingerprint
    seen: _Open = replace(encoder, **changed)  # type: ignore[type-var]
    return seen


_MODES = {"crop": "shortest", "squash": "pybioclip"}


def load_model(
    name: "str | Path | TaxonModel",
    *,
    pretrained: str | None = None,
    device: str = "auto",
    precision: Precision = "float32",
) -> "TaxonModel":
    """Load a PyTorch model; return a loaded model as it is.

    The name is a folder, a name of Linnaea's (``nano``, which comes with the package, or ``bioclip``),
    ``hf-hub:org/repo``, or an open_clip architecture. An open_clip architecture needs ``pretrained``: one of its tags,
    or a file of weights. For a folder or ``timm:NAME``, ``pretrained`` is a file whose weights replace the model's. A
    hub model may be pinned, as ``hf-hub:org/repo@revision``; it is read from the hub's cache if it is there, also
    offline. ``timm:NAME`` and ``timm:FOLDER`` are models without a text tower.

    Raises:
        UsageError: a loaded model is given together with ``pretrained``.
        LinnaeaError: there is no such model, it is broken, it cannot be downloaded, or it takes no ``pretrained``.
    """
    from linnaea.model.load import TaxonModel, choose_device

    if isinstance(name, TaxonModel):
        return _as_it_is(name, pretrained)
    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    return _lower(_load(str(name), pretrained, place), precision)


def _as_it_is(model: _Open, pretrained: str | None) -> _Open:
    if pretrained:
        raise UsageError(f"pretrained={pretrained!r}: {model.name} is already open; give its name or folder instead")
    return model


def _load(name: str, pretrained: str | None, device: "torch.device") -> "TaxonModel":
    from linnaea.model import load

    if name.startswith(TIMM):
        from linnaea.model.timm_models import load_timm

        return load_timm(name, pretrained, device)
    if folder := find_model_folder(name):
        if pretrained and not Path(pretrained).is_file():
            raise LinnaeaError(_explain_unused(name, pretrained))
        if not pretrained:
            return replace(load.load_folder(folder, device), name=name)
        # The new name keeps the folder's own labels from being taken for labels of these weights.
        return replace(load.load_folder(folder, device, Path(pretrained)), name=f"{name} with {pretrained}")
    if name in PUBLISHED or name.startswith(HUB):
        if pretrained:
            raise LinnaeaError(_explain_unused(name, pretrained))
        return load.load_hub(name, device)
    if name in load.list_architectures():
        return load.load_architecture(name, pretrained, device)
    raise LinnaeaError(_explain_unknown(name, load.list_architectures()))


def _explain_unused(name: str, pretrained: str) -> str:
    there = "" if Path(pretrained).is_file() else "not a file, and "
    return f"--pretrained {pretrained}: {there}{name} has weights of its own; leave --pretrained out"


def _explain_unknown(name: str, architectures: list[str]) -> str:
    if name.startswith(("local-dir:", ".", "/", "~")) or "\\" in name:
        return f"no model {name!r}: no such folder; give the folder that `linnaea train` left, or a name like bioclip"
    known = [*bundled_models(), *PUBLISHED, *architectures]
    near = sorted(difflib.get_close_matches(name, known, n=3), key=known.index)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"give {', '.join([*bundled_models(), *PUBLISHED])}, a folder, hf-hub:ORG/NAME, or an open_clip name"
    )
    return f"no model {name!r}: no such folder or name; {hint}"


def _lower(model: "TaxonModel", precision: Precision) -> "TaxonModel":
    """Change the model's image tower in place to that precision, and return the model."""
    from linnaea.model.fast import choose_precision, lower_to_bf16

    chosen = choose_precision(precision, model.device)
    if chosen == model.precision:
        return model
    known_as = model.fingerprint
    lower_to_bf16(model.image_tower)
    return replace(model, precision=chosen, known_as=known_as)
