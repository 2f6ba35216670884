"""Load models of timm: image towers alone, without names to compare photographs with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.folders import TIMM
from linnaea.model.load import TaxonModel, explain_failure, measure_width
from linnaea.model.preprocess import Preprocess
from linnaea.model.untrusted import without_hub


class ImageOnly(torch.nn.Module):
    """A backbone with the one method of a CLIP model that images need."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """Return pooled features before any classifier, ``[B, E]``."""
        features: Tensor = self.backbone(image_BCHW)
        return features


def load_timm(name: str, pretrained: str | None, device: torch.device) -> TaxonModel:
    """Load ``timm:NAME`` with timm's weights or those in the file ``pretrained``, or ``timm:FOLDER`` as timm saves it.

    Pictures are prepared as timm's configuration says (size, mean, interpolation), except that the short side is
    resized to the input size. timm's usual crop of the middle 88 to 95 percent is left out, so that organisms at the
    edge are not cut off.

    Raises:
        LinnaeaError: there is no such model.
    """
    word = name.removeprefix(TIMM)
    with explain_failure(name):
        return _wrap_timm(name, _make_timm(name, word, pretrained), device)


def _make_timm(name: str, word: str, pretrained: str | None) -> torch.nn.Module:
    if Path(word).is_dir():
        if pretrained:
            raise LinnaeaError(f"--pretrained {pretrained}: {name} has weights of its own; leave --pretrained out")
        with without_hub():
            return timm.create_model(f"local-dir:{word}", pretrained=True, num_classes=0)
    if not timm.is_model(word):
        near = timm.list_models(f"*{word.split('_', maxsplit=1)[0]}*")[:3]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise LinnaeaError(f"model {name}: not a folder, and timm has no {word!r}{hint}")
    if pretrained:
        return timm.create_model(word, checkpoint_path=pretrained, num_classes=0)
    return timm.create_model(word, pretrained=True, num_classes=0)


def _wrap_timm(name: str, backbone: torch.nn.Module, device: torch.device) -> TaxonModel:
    preprocess = _timm_preprocess(resolve_model_data_config(backbone))  # type: ignore[no-untyped-call]
    clip = ImageOnly(backbone).eval()
    return TaxonModel(
        name=name,
        clip=clip.to(device),
        tokenizer=None,
        preprocess=preprocess,
        device=device,
        model_cfg={"embed_dim": measure_width(clip, preprocess.image_size), "timm_model_name": name.removeprefix(TIMM)},
        facts={"source": name},
    )


def _timm_preprocess(config: Mapping[str, Any]) -> Preprocess:
    _, height, width = config["input_size"]
    if height != width:
        raise LinnaeaError(f"the model takes pictures of {width} x {height} pixels; only square inputs work")
    bilinear = config["interpolation"] == "bilinear"
    return Preprocess(
        image_size=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if bilinear else "bicubic",
    )
