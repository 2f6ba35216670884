"""New models and new towers, at random: their shapes in open_clip's words, their vocabulary beside them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from open_clip.model import CLIP, set_model_preprocess_cfg

from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE
from linnaea.model.load import TaxonModel
from linnaea.model.preprocess import Preprocess
from linnaea.model.tokenizer import make_tokenizer, vocabulary_size


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """A vision transformer, or any timm backbone by name; randomly initialised."""

    image_size: int = 64
    layers: int = 4
    width: int = 128
    patch_size: int = 8
    head_width: int = 32
    timm_model_name: str = ""
    """Where given, timm's architecture of this name; the transformer's numbers are ignored."""


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """A text transformer, as CLIP's."""

    context_length: int = 64
    width: int = 128
    layers: int = 2
    heads: int = 4
    no_causal_mask: bool = False
    """Bidirectional, padding and all; such a tower always needs its full context."""

    def as_open_clip(self, vocab_size: int) -> dict[str, Any]:
        """``text_cfg`` of ``open_clip_config.json``, with a vocabulary beside it."""
        return {**asdict(self), "vocab_size": vocab_size, "tokenizer_kwargs": {"bpe_path": BPE_FILE}}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A small CLIP of our own, with a vocabulary of its own."""

    embed_dim: int = 128
    image: ImageTower = field(default_factory=ImageTower)
    text: TextTower = field(default_factory=TextTower)
    n_merges: int = 1000
    """Merges of the byte-pair vocabulary that is trained on the data set's names."""

    def as_open_clip(self, vocab_size: int) -> dict[str, Any]:
        """``model_cfg`` of ``open_clip_config.json``."""
        image = asdict(self.image)
        if self.image.timm_model_name:
            vision = {
                "image_size": self.image.image_size,
                "timm_model_name": self.image.timm_model_name,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
            }
        else:
            vision = {key: value for key, value in image.items() if key != "timm_model_name"}
        return {"embed_dim": self.embed_dim, "vision_cfg": vision, "text_cfg": self.text.as_open_clip(vocab_size)}


def make_model(config: ModelConfig, bpe: bytes, *, seed: int = 0, preprocess: Preprocess | None = None) -> TaxonModel:
    """A randomly initialised model; the same seed gives the same weights."""
    model_cfg = config.as_open_clip(vocabulary_size(bpe))
    preprocess = preprocess or Preprocess(image_size=config.image.image_size)
    clip = _new_clip(model_cfg, seed)
    set_model_preprocess_cfg(clip, {**preprocess.as_open_clip(), "size": config.image.image_size})
    return TaxonModel(
        name="new",
        clip=clip,
        tokenizer=make_tokenizer(bpe, config.text.context_length),
        preprocess=preprocess,
        device=torch.device("cpu"),
        model_cfg=model_cfg,
        bpe=bpe,
    )


def renew_text(model: TaxonModel, text: TextTower, bpe: bytes, *, seed: int = 0) -> TaxonModel:
    """The same image tower and logit scale with a new text tower and vocabulary; the same seed gives the same weights.

    Raises:
        LinnaeaError: the model is none of open_clip's CLIP.
    """
    if not isinstance(model.clip, CLIP):
        raise LinnaeaError(f"{model.name}: only a plain CLIP model can have a new text tower")
    model_cfg = {**model.model_cfg, "text_cfg": text.as_open_clip(vocabulary_size(bpe))}
    clip = _new_clip(model_cfg, seed)
    clip.visual, clip.logit_scale = model.clip.visual, model.clip.logit_scale
    set_model_preprocess_cfg(clip, {**model.preprocess.as_open_clip(), "size": model.preprocess.image_size})
    tokenizer = make_tokenizer(bpe, text.context_length)
    return replace(model, clip=clip.to(model.device), tokenizer=tokenizer, model_cfg=model_cfg, bpe=bpe)


def _new_clip(model_cfg: Mapping[str, Any], seed: int) -> CLIP:
    """open_clip's model with weights that are a function of the seed; it keeps none of the configuration's parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**{key: dict(part) if isinstance(part, dict) else part for key, part in model_cfg.items()})
