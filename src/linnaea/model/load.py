"""Load a PyTorch model with its preprocessing and tokenizer from a folder, the hub or open_clip, and save it.

A model folder is open_clip's own (``open_clip_config.json`` and ``open_clip_model.safetensors``), plus
``linnaea.json`` with the facts that Linnaea adds. open_clip loads it as ``local-dir:DIR``.
"""

import errno
import hashlib
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float32
from numpy import ndarray
from open_clip.model import get_model_preprocess_cfg
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder
from linnaea.model.folders import BPE_FILE, CONFIG_FILE, FACTS_FILE, HUB, WEIGHTS_ENDINGS, WEIGHTS_FILE
from linnaea.model.hub import fetch_config, fetch_file, fetch_weights
from linnaea.model.load_tokenizer import (
    check_transformers,
    context_length_of,
    fetch_tokenizer,
    load_hf_tokenizer,
    load_tokenizer,
    names_vocabulary,
    without_second_tokenizer,
)
from linnaea.model.preprocess import Pixels, Preprocess
from linnaea.model.text import iter_encoded_tree
from linnaea.model.tokenizer import tokenize_ragged
from linnaea.model.tokenizer_files import make_tokenizer_files
from linnaea.model.untrusted import check_config, without_hub
from linnaea.storage import atomic_path, read_json, write_atomically

CPU_IMAGES_AT_ONCE = 16
"""Images that go through a tower together on a CPU. With 8 EfficientNet-Lite1 is a tenth slower, with 32 it needs more
memory; ViTs show no difference."""


@dataclass(frozen=True, kw_only=True)
class TaxonModel(Encoder):
    """A CLIP model with everything that is needed to use it."""

    name: str
    clip: torch.nn.Module = field(repr=False)
    tokenizer: Any
    preprocess: Preprocess
    device: torch.device
    model_cfg: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The contents of ``linnaea.json``: the captions it was trained on, provenance."""
    bpe: bytes | None = field(default=None, repr=False)
    """The vocabulary file, if the model has its own."""
    precision: str = "float32"
    known_as: str = field(default="", repr=False)
    """The fingerprint of the float32 weights, if they were rounded later; banks and indexes know the model by it."""
    makers: Preprocess | None = field(default=None, repr=False)
    """The model's own preprocessing, if ``preprocess`` is another one (:func:`linnaea.model.open.see_as`)."""

    @property
    def width(self) -> int:
        """Return E, the width of the joint space."""
        return int(self.model_cfg["embed_dim"])

    @property
    def has_text(self) -> bool:
        """Tell whether the model encodes captions. A model without a text tower has no zero-shot predictions."""
        return self.tokenizer is not None

    @property
    def logit_scale(self) -> float:
        """Return the factor on cosines (already exponentiated)."""
        return float(self.clip.logit_scale.detach().exp())  # type: ignore[operator]

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of weights, preprocessing and vocabulary; equal models give equal vectors."""
        if self.known_as:
            return self.known_as
        digest = hashlib.sha256(json.dumps([dict(self.model_cfg), asdict(self.preprocess)], sort_keys=True).encode())
        digest.update(self.bpe or b"")
        for name, value in sorted(self.clip.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def image_tower(self) -> torch.nn.Module:
        """Return the image tower, or the whole model if it has only one tower."""
        tower: torch.nn.Module = getattr(self.clip, "visual", self.clip)
        return tower

    @torch.inference_mode()
    def encode_pixels(self, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
        clip: Any = self.clip.eval()
        mean = torch.tensor(self.preprocess.mean, device=self.device).view(3, 1, 1)
        std = torch.tensor(self.preprocess.std, device=self.device).view(3, 1, 1)
        at_once = CPU_IMAGES_AT_ONCE if self.device.type == "cpu" else len(pixels_BCHW)
        parts = []
        for start in range(0, len(pixels_BCHW), at_once):
            images = torch.from_numpy(pixels_BCHW[start : start + at_once]).to(self.device).float()
            images = images.div(255).sub(mean).div(std).contiguous(memory_format=torch.channels_last)
            features = clip.encode_image(images)
            parts.append((normalize(features.float(), dim=-1) if unit else features.float()).cpu())
        return np.asarray(torch.cat(parts).numpy())

    @torch.inference_mode()
    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        vectors = np.empty((len(captions), self.width), np.float32)
        done = 0
        for rows, features in iter_encoded_tree(self.clip.eval(), tokenize_ragged(self.tokenizer, list(captions))):
            vectors[rows] = normalize(features.float(), dim=-1).cpu().numpy()
            done += len(rows)
            on_progress(done, len(captions))
        return vectors

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.clip.parameters())


def choose_device(device: str = "auto") -> torch.device:
    """Return the device; ``"auto"`` is the first of CUDA, Apple's MPS and CPU that works."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):
        raise LinnaeaError(f"--device {device}: this machine has no such device; try cpu or auto") from None
    return chosen


def save_model(model: TaxonModel, directory: Path, *, dtype: torch.dtype | None = None, repo: str = "") -> None:
    """Write a model folder that open_clip loads as ``local-dir:DIRECTORY``; the weights are written last.

    Without ``dtype`` the weights keep their format, and loading restores them bit for bit. ``torch.float16`` halves
    the folder; tensors that would overflow keep their format. ``repo`` is the repository of the hub that the folder is
    for, where open_clip looks for the tokenizer of ``hf-hub:REPO``.

    Raises:
        LinnaeaError: the folder cannot be written.
    """
    model_cfg = dict(model.model_cfg)
    text_cfg = model_cfg.get("text_cfg", {})
    if names_vocabulary(text_cfg):
        model_cfg["text_cfg"] = {**text_cfg, "hf_tokenizer_name": repo or f"local-dir:{directory.name}"}
    config = {"model_cfg": model_cfg, "preprocess_cfg": model.own_preprocess.as_open_clip()}
    write_atomically(directory / CONFIG_FILE, json.dumps(config, indent=1))
    write_atomically(directory / FACTS_FILE, json.dumps(dict(model.facts), indent=1, ensure_ascii=False))
    if model.bpe is not None:
        write_atomically(directory / BPE_FILE, model.bpe)
        for name, text in make_tokenizer_files(model.bpe, context_length_of(text_cfg)).items():
            write_atomically(directory / name, text)
    elif isinstance(model.tokenizer, HFTokenizer):  # open_clip looks for its files in the folder
        model.tokenizer.save_pretrained(str(directory))
    weights = {name: _shrink(value.detach().cpu(), dtype) for name, value in model.clip.state_dict().items()}
    with atomic_path(directory / WEIGHTS_FILE) as partial:
        try:
            save_file(weights, partial)
        except SafetensorError as error:  # says "... (os error 28)", and is not an OSError
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
        partial.chmod((directory / CONFIG_FILE).stat().st_mode)  # safetensors makes files readable by their owner only


def _shrink(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not value.is_floating_point():
        return value.contiguous()
    small = value.to(dtype)
    return (small if torch.equal(small.isfinite(), value.isfinite()) else value).contiguous()


def load_folder(folder: Path, device: torch.device, weights: Path | None = None) -> TaxonModel:
    """Load the model from a folder; ``weights``, if given, is a file that replaces the folder's own weights."""
    if not (folder / CONFIG_FILE).exists():
        is_bank = (folder / "bank.json").exists()  # of linnaea.predict.labels
        found, give = ("labels, not a model", f"--labels {folder}") if is_bank else (
            f"not a model folder (no {CONFIG_FILE})", "the folder that `linnaea train` left")  # fmt: skip
        raise LinnaeaError(f"{folder}: {found}; give {give}")
    # The facts about the folder's weights (calibration, provenance) do not apply to other weights.
    facts = {"source": str(weights)} if weights else _read_json(folder / FACTS_FILE, missing={})
    with without_hub():
        return _load_files(folder, str(folder), device, facts, weights)


def _load_files(
    folder: Path,
    name: str,
    device: torch.device,
    facts: Mapping[str, Any],
    weights: Path | None = None,
    *,
    tokenizer_folder: Path | None = None,
) -> TaxonModel:
    """Return a model from the files of a folder, which is the user's or in the hub's cache.

    A Hugging Face tokenizer is in ``tokenizer_folder``, by default in the same.
    """
    model_cfg = _read_json(folder / CONFIG_FILE).get("model_cfg")
    if not isinstance(model_cfg, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model_cfg.keys():
        raise LinnaeaError(f"{folder / CONFIG_FILE}: not a CLIP configuration (model_cfg is missing or incomplete)")
    if not all(isinstance(model_cfg[part], dict) for part in ("vision_cfg", "text_cfg")):
        raise LinnaeaError(f"{folder / CONFIG_FILE}: not a CLIP configuration (its towers are not objects)")
    check_config(folder, model_cfg)
    model_cfg = without_second_tokenizer(model_cfg)
    if weights is None and not any(path.suffix in WEIGHTS_ENDINGS for path in folder.iterdir()):
        raise LinnaeaError(f"{folder}: has no weights ({WEIGHTS_FILE} is missing); copy the whole folder again")
    text_cfg = model_cfg["text_cfg"]
    if text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name"):
        check_transformers(name)
    with explain_failure(f"{name} with {weights}" if weights else name):
        clip, _, _ = open_clip.create_model_and_transforms(
            f"local-dir:{folder}", device=device, load_weights=weights is None
        )
        if weights is not None:
            open_clip.load_checkpoint(clip, str(weights))
        if tokenizer_folder is None:
            tokenizer, bpe = load_tokenizer(folder, model_cfg)
        else:
            tokenizer, bpe = load_hf_tokenizer(tokenizer_folder, text_cfg), None
    return _wrap(name, clip, tokenizer, model_cfg, device, facts, bpe)


def load_hub(name: str, device: torch.device) -> TaxonModel:
    """Load a published model, ``hf-hub:ORG/NAME`` or ``hf-hub:ORG/NAME@REVISION``, from the hub's cache if it is there.

    A published model without ``@REVISION`` is of its pinned revision. All files are of one commit, even if someone
    pushes in the meantime.
    """
    config, repo, commit = fetch_config(name)
    text_cfg = _read_json(config).get("model_cfg", {}).get("text_cfg", {})
    tokenizer_folder = None
    if bpe_path := names_vocabulary(text_cfg):
        fetch_file(repo, bpe_path, commit)
    else:
        tokenizer_folder = fetch_tokenizer(repo, commit, text_cfg)
    fetch_weights(repo, commit)
    facts = {"source": f"{HUB}{repo}", "revision": commit}
    return _load_files(config.parent, name, device, facts, tokenizer_folder=tokenizer_folder)


def list_architectures() -> list[str]:
    """Return the names of open_clip's architectures."""
    names: list[str] = open_clip.list_models()
    return names


def load_architecture(name: str, pretrained: str | None, device: torch.device) -> TaxonModel:
    """Load open_clip's architecture ``name`` with the weights of one of its tags, or of a file."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        listing = f"one of {', '.join(tags)}" if tags else "the path of its weights"
        raise LinnaeaError(f"{name} is an architecture without weights; give --pretrained, {listing}")
    if pretrained not in tags and not Path(pretrained).is_file():
        raise LinnaeaError(f"{name} has no weights {pretrained!r}; available: {', '.join(tags) or 'none'}")
    # OpenAI's and some other weights need another GELU than the architecture of that name; open_clip only warns.
    quick_gelu = bool((get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu", False))
    with explain_failure(f"{name} {pretrained}"):
        clip, _, _ = open_clip.create_model_and_transforms(
            name, pretrained=pretrained, device=device, force_quick_gelu=quick_gelu
        )
        tokenizer = open_clip.get_tokenizer(name)
    model_cfg = open_clip.get_model_config(name) | ({"quick_gelu": True} if quick_gelu else {})
    return _wrap(f"{name}/{pretrained}", clip, tokenizer, model_cfg, device, {"source": f"open_clip {name}"}, None)


@torch.inference_mode()
def measure_width(clip: Any, image_size: int) -> int:
    """Return the width of the vectors that a model gives for photographs, by one forward pass in evaluation mode.

    timm's ``num_features`` is not that of the output where the head has a hidden layer (MobileNetV3, MobileNetV4).

    Raises:
        LinnaeaError: the model does not take such photographs, or gives no vectors.
    """
    was_training = clip.training
    device = next(clip.parameters()).device
    try:
        features: Tensor = clip.eval().encode_image(torch.zeros(1, 3, image_size, image_size, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        why = " ".join(str(error).split())[:150]
        raise LinnaeaError(f"the image tower cannot encode pictures of {image_size} pixels ({why})") from error
    finally:
        clip.train(was_training)
    if features.ndim != 2:
        raise LinnaeaError(f"the image tower gives {features.ndim - 1}-dimensional features, not a vector a picture")
    return features.shape[1]


def _wrap(
    name: str,
    clip: torch.nn.Module,
    tokenizer: Any,
    model_cfg: Mapping[str, Any],
    device: torch.device,
    facts: Mapping[str, Any],
    bpe: bytes | None,
) -> TaxonModel:  # the one place that knows what a loaded model consists of
    return TaxonModel(
        name=name,
        clip=clip.eval(),
        tokenizer=tokenizer,
        preprocess=Preprocess.of_open_clip(get_model_preprocess_cfg(clip)),
        device=device,
        model_cfg=model_cfg,
        facts=facts,
        bpe=bpe,
    )


def _read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.exists():
        return missing
    return read_json(path, kind="the description of a model")


_UNREACHABLE = ("LocalEntryNotFound", "Offline", "onnect", "resolve host", "outgoing traffic")
_HOLDS_CODE = ("weights_only", "WeightsUnpickler", "Weights only load", "UnpicklingError")
_NOT_THERE = ("RepositoryNotFound", "Repository Not Found", "401 Client", "404 Client")


@contextmanager
def explain_failure(name: str) -> Iterator[None]:
    """Turn the many ways in which open_clip and the hub fail into one line for the user."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LinnaeaError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if any(word in text for word in _HOLDS_CODE):
            hint = "its weights file holds more than numbers and could run code; ask for it as .safetensors"
        elif any(word in text for word in _UNREACHABLE) and Path(name.partition(" with ")[0]).is_dir():
            hint = "the folder refers to files on a hub; give a folder that holds everything"
        elif any(word in text for word in _UNREACHABLE):
            hint = "it is not in the hub's cache and cannot be downloaded; go online once, or give a folder"
        elif any(word in text for word in _NOT_THERE):
            hint = "the hub has no such model (or it is private: log in to the hub first)"
        else:
            hint = f"cannot be loaded ({text[:300]})"
        raise LinnaeaError(f"model {name}: {hint}") from error
    finally:
        logging.root.setLevel(level)
