"""Models that know images and no captions: timm's, for few-shot classification, search and probes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.load import TIMM, TaxonModel
from linnaea.model.preprocess import Preprocess


class ImageOnly(torch.nn.Module):
    """A backbone behind the one method of a CLIP model that images need."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def encode_image(self, image_BCHW: Tensor) -> Tensor:
        """Pooled features before any classifier, ``[B, E]``."""
        features: Tensor = self.backbone(image_BCHW)
        return features


def load_timm(name: str, pretrained: str | None, device: torch.device) -> TaxonModel:
    """``timm:NAME`` with timm's weights (or those in the file ``pretrained``), or ``timm:FOLDER`` as timm saves it.

    Pictures go in as timm's configuration says (size, mean, interpolation), but the short side is resized to the
    input itself: timm's usual crop of the middle 88 to 95 in a hundred is left out, so that no organism at the edge is.

    Raises:
        LinnaeaError: there is no such model.
    """
    word = name.removeprefix(TIMM)
    if Path(word).is_dir():
        backbone = timm.create_model(f"local-dir:{word}", pretrained=True, num_classes=0)
    elif not timm.is_model(word):
        near = timm.list_models(f"*{word.split('_')[0]}*")[:3]
        hint = f"; there are {', '.join(near)}" if near else ""
        raise LinnaeaError(f"model {name}: timm has no {word!r} and there is no such folder{hint}")
    elif pretrained:
        backbone = timm.create_model(word, checkpoint_path=pretrained, num_classes=0)
    else:
        backbone = timm.create_model(word, pretrained=True, num_classes=0)
    width = int(backbone.num_features)  # type: ignore[arg-type]
    config = resolve_model_data_config(backbone)  # type: ignore[no-untyped-call]
    return TaxonModel(
        name=name,
        clip=ImageOnly(backbone).eval().to(device),
        tokenizer=None,
        preprocess=_preprocess(config),
        device=device,
        model_cfg={"embed_dim": width, "timm_model_name": word},
        facts={"source": name},
    )


def _preprocess(config: Mapping[str, Any]) -> Preprocess:
    _, height, width = config["input_size"]
    if height != width:
        raise LinnaeaError(f"the model wants pictures of {width} x {height} pixels; only square ones work")
    bilinear = config["interpolation"] == "bilinear"
    return Preprocess(
        image_size=height,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if bilinear else "bicubic",
    )
