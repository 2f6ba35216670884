"""Distillation: keep another image tower's view of the pictures while a tower learns its own task.

A tower that is trained on the names of a few groups forgets what it was given for all others. Which pictures of a batch
are alike is therefore compared with what the other tower sees (similarity-preserving distillation: Tung and Mori, ICCV
2019; Park et al., "Relational Knowledge Distillation", CVPR 2019). The vectors of the two towers may differ in width.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from linnaea.errors import LinnaeaError
from linnaea.model.create import load_backbone
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.model.preprocess import Preprocess
from linnaea.model.transfer import normalise

_WEIGHT_FILES = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class ImageTeacher:
    """An image tower whose view of the pictures is kept; its own weights never change."""

    tower: nn.Module = field(repr=False)
    preprocess: Preprocess
    """The preprocessing of the tower. Pixels are resized to its input size, unless it takes any size."""
    takes_any_size: bool
    precision: str

    @torch.no_grad()
    def encode(self, pixels_BCHW: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Return the tower's vectors of pictures that are on its device."""
        images_BCHW = normalise(pixels_BCHW, self.preprocess, torch.float32)
        size = self.preprocess.image_size
        if not self.takes_any_size and images_BCHW.shape[-1] != size:
            images_BCHW = interpolate(images_BCHW, size=(size, size), mode="bicubic", antialias=True)
        device = pixels_BCHW.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            vectors: Tensor = self.tower(images_BCHW.contiguous(memory_format=torch.channels_last))
        return vectors.float()


def load_teacher(
    given: str, model: TaxonModel, precision: str, load: Callable[..., TaxonModel] = load_model
) -> ImageTeacher:
    """Load the tower of ``--distil-from``: of a model, or the backbone of ``model`` with the weights of a file.

    Raises:
        LinnaeaError: There is no such model or file, or the file holds the weights of another architecture.
    """
    if not (Path(given).is_file() or Path(given).suffix in _WEIGHT_FILES):
        other = load(given, device=str(model.device))
        return ImageTeacher(
            tower=_frozen(other.clip.visual), preprocess=other.preprocess, takes_any_size=False, precision=precision
        )
    own: Any = getattr(model.clip.visual, "trunk", None)
    if own is None:
        raise LinnaeaError(f"{given}: weights need a model with a timm backbone; give --distil-from a model instead")
    trunk = copy.deepcopy(own)
    load_backbone(trunk, Path(given))
    return ImageTeacher(tower=_frozen(trunk), preprocess=model.preprocess, takes_any_size=True, precision=precision)


def _frozen(tower: Any) -> nn.Module:
    frozen: nn.Module = tower.eval().requires_grad_(requires_grad=False)
    return frozen


def blend_towers(model: TaxonModel, other: ImageTeacher, share: float) -> None:
    """Replace the image tower's weights in place by their mean with another's, which gets ``share`` of the weight.

    BatchNorm's statistics are blended like weights (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR
    2022).

    Raises:
        LinnaeaError: The other tower has another architecture.
    """
    visual: Any = model.clip.visual
    tower = visual.trunk if other.takes_any_size else visual
    own, theirs = tower.state_dict(), other.tower.state_dict()
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in theirs.items()}:
        raise LinnaeaError("blend: the image tower of --distil-from has another architecture than the start's")
    for name, value in own.items():
        if value.is_floating_point():
            value.lerp_(theirs[name].to(value), share)


def similarity_loss(image_BE: Float[Tensor, "B E"], taught_BF: Float[Tensor, "B F"]) -> Float[Tensor, ""]:
    """Return 1 - the correlation of the pictures' similarities (cosines about the mean) in the two towers, 0 to 2."""
    pairs = torch.triu_indices(len(image_BE), len(image_BE), offset=1, device=image_BE.device)
    own, taught = (_similarities(vectors)[pairs[0], pairs[1]] for vectors in (image_BE, taught_BF))
    own, taught = own - own.mean(), taught - taught.mean()
    correlation: Tensor = (own * taught).sum() / (own.norm() * taught.norm()).clamp(min=1e-12)
    return 1 - correlation


def _similarities(vectors_BE: Float[Tensor, "B E"]) -> Float[Tensor, "B B"]:
    unit_BE = normalize(vectors_BE - vectors_BE.mean(dim=0), dim=-1)
    return unit_BE @ unit_BE.T
