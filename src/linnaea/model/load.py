"""One door to open_clip's models: a name or a folder in, model, preprocessing and tokenizer out; and back to disk.

A model folder is open_clip's own (``open_clip_config.json`` and ``open_clip_model.safetensors``), plus
``linnaea.json`` with what we know of it. open_clip loads it as ``local-dir:DIR``.
"""

import difflib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.factory import _get_hf_config
from open_clip.model import CLIP, get_model_preprocess_cfg, set_model_preprocess_cfg
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import ToTensor

from linnaea.errors import LinnaeaError
from linnaea.model.tokenizer import make_tokenizer, vocabulary_size
from linnaea.storage import atomic_path, write_atomically

CONFIG_FILE, WEIGHTS_FILE, FACTS_FILE, BPE_FILE = (
    "open_clip_config.json", "open_clip_model.safetensors", "linnaea.json", "bpe.txt.gz",
)  # fmt: skip

HUB_MODELS = {
    "bioclip": "hf-hub:imageomics/bioclip",
    "bioclip-2": "hf-hub:imageomics/bioclip-2",
    "bioclip-2.5": "hf-hub:imageomics/bioclip-2.5-vith14",
}
"""Our names for published weights. The hub's own cache pins what was downloaded once; works offline from it."""

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How a picture becomes the image tower's input: open_clip's evaluation transform."""

    image_size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"

    @cached_property
    def _steps(self) -> list[Any]:
        full = image_transform(
            self.image_size,
            is_train=False,
            mean=self.mean,
            std=self.std,
            resize_mode=self.resize_mode,
            interpolation=self.interpolation,
        ).transforms
        return list(full[: next(i for i, step in enumerate(full) if isinstance(step, ToTensor))])

    def pixels(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``[H, W, 3]`` RGB to ``[3, S, S]``, both uint8: open_clip's transform up to (not with) ``ToTensor``."""
        image: Any = Image.fromarray(picture)
        for step in self._steps:
            image = step(image)
        return np.ascontiguousarray(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1))

    def as_open_clip(self) -> dict[str, Any]:
        """``preprocess_cfg`` of ``open_clip_config.json``."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
        }


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
    """A causal text transformer, as CLIP's."""

    context_length: int = 64
    width: int = 128
    layers: int = 2
    heads: int = 4


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
        text = {**asdict(self.text), "vocab_size": vocab_size, "tokenizer_kwargs": {"bpe_path": BPE_FILE}}
        return {"embed_dim": self.embed_dim, "vision_cfg": vision, "text_cfg": text}


@dataclass(frozen=True, kw_only=True)
class TaxonModel:
    """A CLIP model with all that is needed to use it."""

    name: str
    clip: torch.nn.Module
    tokenizer: Any
    preprocess: Preprocess
    device: torch.device
    model_cfg: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What ``linnaea.json`` says: captions it was trained on, provenance."""
    bpe: bytes | None = None
    """The vocabulary file, where the model has one of its own."""

    @property
    def width(self) -> int:
        """E, the width of the joint space."""
        return int(self.model_cfg["embed_dim"])

    @property
    def logit_scale(self) -> float:
        """The factor on cosines (already exponentiated)."""
        return float(self.clip.logit_scale.detach().exp())  # type: ignore[operator]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of weights, preprocessing and vocabulary: equal models embed equally."""
        digest = hashlib.sha256(json.dumps([dict(self.model_cfg), asdict(self.preprocess)], sort_keys=True).encode())
        digest.update(self.bpe or b"")
        for name, value in sorted(self.clip.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.clip.parameters())


def choose_device(device: str = "auto") -> torch.device:
    """``"auto"`` is the first of CUDA, Apple's MPS, CPU that works."""
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError:
            raise LinnaeaError(f"--device {device}: no such device; try cpu, cuda or auto") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load_model(name: str, *, pretrained: str | None = None, device: str = "auto") -> TaxonModel:
    """Load a model: a folder, a name of ours (``bioclip``), ``hf-hub:org/repo``, or an open_clip architecture.

    An open_clip architecture needs ``pretrained``, one of its tags.

    Raises:
        LinnaeaError: there is no such model, it is broken, or it cannot be downloaded.
    """
    where = choose_device(device)
    identifier = HUB_MODELS.get(name, name)
    folder = Path(identifier.removeprefix("local-dir:"))
    if folder.is_dir():
        return _load_folder(folder / "model" if (folder / "model" / CONFIG_FILE).exists() else folder, where)
    if identifier.startswith("hf-hub:"):
        return _load_hub(name, identifier, where)
    if identifier in open_clip.list_models():
        return _load_architecture(identifier, pretrained, where)
    known = [*HUB_MODELS, *open_clip.list_models()]
    near = difflib.get_close_matches(identifier, known, n=3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "give a folder, hf-hub:ORG/NAME, bioclip, or an open_clip name"
    )
    raise LinnaeaError(f"no model {name!r}: no such folder or name; {hint}")


def make_model(config: ModelConfig, bpe: bytes, *, seed: int = 0, preprocess: Preprocess | None = None) -> TaxonModel:
    """A randomly initialised model; the same seed gives the same weights."""
    model_cfg = config.as_open_clip(vocabulary_size(bpe))
    preprocess = preprocess or Preprocess(image_size=config.image.image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = CLIP(**{key: dict(part) if isinstance(part, dict) else part for key, part in model_cfg.items()})
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


def save_model(model: TaxonModel, directory: Path) -> None:
    """Write a folder that open_clip loads bit for bit as ``local-dir:DIRECTORY``; the weights come last.

    Raises:
        LinnaeaError: the folder cannot be written.
    """
    config = {"model_cfg": dict(model.model_cfg), "preprocess_cfg": model.preprocess.as_open_clip()}
    write_atomically(directory / CONFIG_FILE, json.dumps(config, indent=1))
    write_atomically(directory / FACTS_FILE, json.dumps(dict(model.facts), indent=1, ensure_ascii=False))
    if model.bpe is not None:
        write_atomically(directory / BPE_FILE, model.bpe)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.clip.state_dict().items()}
    with atomic_path(directory / WEIGHTS_FILE) as partial:
        save_file(weights, partial)


def _load_folder(folder: Path, device: torch.device) -> TaxonModel:
    if not (folder / CONFIG_FILE).exists():
        raise LinnaeaError(
            f"{folder}: is no model folder (no {CONFIG_FILE}); give the folder that `linnaea train` left"
        )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        facts = json.loads((folder / FACTS_FILE).read_text()) if (folder / FACTS_FILE).exists() else {}
        model_cfg = config["model_cfg"]
    except (ValueError, KeyError) as error:
        raise LinnaeaError(f"{folder}: its configuration cannot be read ({error})") from error
    with _explain_failure(str(folder)):
        clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}", device=device)
        bpe_path = folder / (model_cfg.get("text_cfg", {}).get("tokenizer_kwargs") or {}).get("bpe_path", BPE_FILE)
        bpe = bpe_path.read_bytes() if bpe_path.exists() else None
        context_length = model_cfg["text_cfg"].get("context_length", 77)
        # open_clip 3.3 does not look for the vocabulary beside the configuration; we do.
        tokenizer = make_tokenizer(bpe, context_length) if bpe else open_clip.get_tokenizer(f"local-dir:{folder}")
    return _wrap(str(folder), clip, tokenizer, model_cfg, device, facts, bpe)


def _load_hub(name: str, identifier: str, device: torch.device) -> TaxonModel:
    with _explain_failure(name):
        clip, _, _ = open_clip.create_model_and_transforms(identifier, device=device)
        tokenizer = open_clip.get_tokenizer(identifier)
        model_cfg = _get_hf_config(identifier.removeprefix("hf-hub:"))["model_cfg"]
    return _wrap(name, clip, tokenizer, model_cfg, device, {"source": identifier}, None)


def _load_architecture(name: str, pretrained: str | None, device: torch.device) -> TaxonModel:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        listing = f"one of {', '.join(tags)}" if tags else "the path of its weights"
        raise LinnaeaError(f"{name} is an architecture without weights; give --pretrained, {listing}")
    if pretrained not in tags and not Path(pretrained).exists():
        raise LinnaeaError(f"{name} has no weights {pretrained!r}; there are {', '.join(tags) or 'none'}")
    with _explain_failure(f"{name} {pretrained}"):
        clip, _, _ = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(name)
    model_cfg = open_clip.get_model_config(name)
    return _wrap(f"{name}/{pretrained}", clip, tokenizer, model_cfg, device, {"source": f"open_clip {name}"}, None)


def _wrap(
    name: str,
    clip: torch.nn.Module,
    tokenizer: Any,
    model_cfg: Mapping[str, Any],
    device: torch.device,
    facts: Mapping[str, Any],
    bpe: bytes | None,
) -> TaxonModel:  # one place that knows what a loaded model is
    cfg = get_model_preprocess_cfg(clip)
    size = cfg["size"][0] if isinstance(cfg["size"], list | tuple) else cfg["size"]
    preprocess = Preprocess(
        image_size=size,
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=cfg.get("interpolation", "bicubic"),
        resize_mode=cfg.get("resize_mode", "shortest"),
    )
    return TaxonModel(
        name=name,
        clip=clip.eval(),
        tokenizer=tokenizer,
        preprocess=preprocess,
        device=device,
        model_cfg=model_cfg,
        facts=facts,
        bpe=bpe,
    )


@contextmanager
def _explain_failure(name: str) -> Iterator[None]:
    """open_clip and the hub fail in many ways; a user gets one line."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    except LinnaeaError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        offline = any(
            word in f"{type(error).__name__} {text}" for word in ("LocalEntryNotFound", "Offline", "onnect", "resolve")
        )
        hint = (
            "it is not in the hub's cache and cannot be downloaded; go online once, or give a folder"
            if offline
            else text
        )
        raise LinnaeaError(f"model {name}: {hint}") from error
    finally:
        logging.root.setLevel(level)
