"""Open a model by name: a folder, a bundled or published model, a hub model, or an open_clip architecture.

The module does not import torch: an exported model (:mod:`linnaea.model.onnx`) opens without it.
"""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.errors import LinnaeaError
from linnaea.model.folders import HUB, ONNX_FACTS_FILE, TIMM, Precision, bundled_models, find_model_folder

if TYPE_CHECKING:
    import torch

    from linnaea.model.encoder import Encoder
    from linnaea.model.load import TaxonModel

HUB_MODELS = {
    "bioclip": "hf-hub:imageomics/bioclip",
    "bioclip-2": "hf-hub:imageomics/bioclip-2",
    "bioclip-2.5": "hf-hub:imageomics/bioclip-2.5-vith14",
}
"""Linnaea's names for published weights.

``hf-hub:ORG/NAME@REVISION`` pins a commit. These names have no ``@REVISION`` yet, because their commits could not be
looked up offline, and a guessed commit would be worse than none. ``facts["revision"]`` of a loaded model says which
commit it is.
"""

HUB_ARCHITECTURES = {"bioclip": "ViT-B-16", "bioclip-2": "ViT-L-14", "bioclip-2.5": "ViT-H-14"}
"""open_clip's names of the published models' architectures: what is known about them without their weights."""


def names_weights(name: str) -> bool:
    """Tell whether a name determines weights, as that of a folder or a bundled, published or hub model does."""
    return bool(name) and (find_model_folder(name) is not None or name in HUB_MODELS or name.startswith((HUB, TIMM)))


def open_encoder(
    name: str, *, pretrained: str | None = None, device: str = "auto", precision: Precision = "float32"
) -> "Encoder":
    """Open a model to encode photographs as fast as the machine can.

    An exported folder runs in ONNX Runtime, any other model in PyTorch. Vectors differ from those of
    :func:`load_model` only by the rounding of float32 sums.

    Raises:
        LinnaeaError: there is no such model, or it is broken.
    """
    folder = find_model_folder(name)
    if folder is not None and (folder / ONNX_FACTS_FILE).exists():
        from linnaea.model.onnx import load_onnx

        if precision == "bf16":
            raise LinnaeaError(f"{name}: an exported model has a fixed precision; leave out --precision bf16")
        if pretrained:
            raise LinnaeaError(_explain_unused(name, pretrained))
        return load_onnx(folder)
    from linnaea.model.fast import prepare_for_photographs

    model = load_model(name, pretrained=pretrained, device=device, precision=precision)
    prepare_for_photographs(model.image_tower, model.device, model.precision)
    return model


def load_model(
    name: str, *, pretrained: str | None = None, device: str = "auto", precision: Precision = "float32"
) -> "TaxonModel":
    """Load a PyTorch model.

    The name is a folder, a name of Linnaea's (``nano``, which comes with the package, or ``bioclip``),
    ``hf-hub:org/repo``, or an open_clip architecture. An open_clip architecture needs ``pretrained``: one of its tags,
    or a file of weights. For a folder or ``timm:NAME``, ``pretrained`` is a file whose weights replace the model's. A
    hub model may be pinned, as ``hf-hub:org/repo@revision``; it is read from the hub's cache if it is there, also
    offline. ``timm:NAME`` and ``timm:FOLDER`` are models without a text tower.

    Raises:
        LinnaeaError: there is no such model, it is broken, it cannot be downloaded, or it takes no ``pretrained``.
    """
    from linnaea.model.load import choose_device

    return _lower(_load(name, pretrained, choose_device(device)), precision)


def _load(name: str, pretrained: str | None, device: "torch.device") -> "TaxonModel":
    from linnaea.model import load

    if name.startswith(TIMM):
        return load.load_timm(name, pretrained, device)
    identifier = HUB_MODELS.get(name, name)
    if folder := find_model_folder(identifier):
        if pretrained and not Path(pretrained).is_file():
            raise LinnaeaError(_explain_unused(name, pretrained))
        if not pretrained:
            return replace(load.load_folder(folder, device), name=name)
        # The new name keeps the folder's own labels from being taken for labels of these weights.
        return replace(load.load_folder(folder, device, Path(pretrained)), name=f"{name} with {pretrained}")
    if identifier.startswith(HUB):
        if pretrained:
            raise LinnaeaError(_explain_unused(name, pretrained))
        return load.load_hub(name, identifier, device)
    if identifier in load.list_architectures():
        return load.load_architecture(identifier, pretrained, device)
    raise LinnaeaError(_explain_unknown(name, load.list_architectures()))


def _explain_unused(name: str, pretrained: str) -> str:
    there = "" if Path(pretrained).is_file() else "not a file, and "
    return f"--pretrained {pretrained}: {there}{name} has weights of its own; leave --pretrained out"


def _explain_unknown(name: str, architectures: list[str]) -> str:
    if name.startswith(("local-dir:", ".", "/", "~")) or "\\" in name:
        return f"no model {name!r}: no such folder; give the folder that `linnaea train` left, or a name like bioclip"
    near = difflib.get_close_matches(name, [*bundled_models(), *HUB_MODELS, *architectures], n=3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "give a folder, hf-hub:ORG/NAME, bioclip, or an open_clip name"
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
