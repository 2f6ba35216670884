"""One door to open_clip's models: a name or a folder in, model, preprocessing and tokenizer out; and back to disk.

A model folder is open_clip's own (``open_clip_config.json`` and ``open_clip_model.safetensors``), plus
``linnaea.json`` with what we know of it. open_clip loads it as ``local-dir:DIR``.
"""

import dataclasses
import difflib
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

import open_clip
import torch
from huggingface_hub import hf_hub_download
from jaxtyping import Float32, UInt8
from numpy import ndarray
from open_clip.model import get_model_preprocess_cfg
from open_clip.pretrained import download_pretrained_from_hf, get_pretrained_cfg
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder
from linnaea.model.folders import (
    BPE_FILE,
    CONFIG_FILE,
    FACTS_FILE,
    WEIGHTS_FILE,
    Precision,
    bundled_models,
    find_model_folder,
)
from linnaea.model.forward import captions_to_vectors, pixels_to_vectors
from linnaea.model.last_block import end_with_class_token
from linnaea.model.pointwise import is_worth_it, multiply_pointwise
from linnaea.model.precision import choose_precision, lower_to_bf16
from linnaea.model.preprocess import Preprocess as Preprocess  # noqa: PLC0414  (offered here too)
from linnaea.model.tokenizer import DEFAULT_VOCABULARY_SIZE, make_tokenizer, vocabulary_size
from linnaea.storage import atomic_path, write_atomically

_WEIGHTS_ENDINGS = (".safetensors", ".bin", ".pth")
"""What open_clip reads as weights. Without any it would go on with random ones, and warn."""

HUB = "hf-hub:"
TIMM = "timm:"
HUB_MODELS = {
    "bioclip": "hf-hub:imageomics/bioclip",
    "bioclip-2": "hf-hub:imageomics/bioclip-2",
    "bioclip-2.5": "hf-hub:imageomics/bioclip-2.5-vith14",
}
"""Our names for published weights.

``hf-hub:ORG/NAME@REVISION`` pins a commit. These carry no ``@REVISION`` yet: their commits could not be looked up where
this was written (no network), and a guessed one would be worse than none. ``facts["revision"]`` of a loaded model
says which commit it is.
"""

HUB_ARCHITECTURES = {"bioclip": "ViT-B-16", "bioclip-2": "ViT-L-14", "bioclip-2.5": "ViT-H-14"}
"""open_clip's names of their architectures: what can be known of them without their weights."""


@dataclass(frozen=True, kw_only=True)
class TaxonModel(Encoder):
    """A CLIP model with all that is needed to use it."""

    name: str
    clip: torch.nn.Module = field(repr=False)
    tokenizer: Any
    preprocess: Preprocess
    device: torch.device
    model_cfg: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What ``linnaea.json`` says: captions it was trained on, provenance."""
    bpe: bytes | None = field(default=None, repr=False)
    """The vocabulary file, where the model has one of its own."""
    precision: str = "float32"
    known_as: str = field(default="", repr=False)
    """The fingerprint of the weights in float32, where these were rounded since: banks and indexes know that."""

    @property
    def width(self) -> int:
        """E, the width of the joint space."""
        return int(self.model_cfg["embed_dim"])

    @property
    def has_text(self) -> bool:
        """Whether it encodes captions; a model of images alone has no zero-shot."""
        return self.tokenizer is not None

    @property
    def logit_scale(self) -> float:
        """The factor on cosines (already exponentiated)."""
        return float(self.clip.logit_scale.detach().exp())  # type: ignore[operator]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of weights, preprocessing and vocabulary: equal models embed equally."""
        if self.known_as:
            return self.known_as
        digest = hashlib.sha256(json.dumps([dict(self.model_cfg), asdict(self.preprocess)], sort_keys=True).encode())
        digest.update(self.bpe or b"")
        for name, value in sorted(self.clip.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def encode_pixels(self, pixels_BCHW: UInt8[ndarray, "B 3 S S"], *, unit: bool = True) -> Float32[ndarray, "B E"]:
        return pixels_to_vectors(self.clip, self.preprocess, self.device, pixels_BCHW, unit=unit)

    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        return captions_to_vectors(self.clip, self.tokenizer, captions, self.width, on_progress)

    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.clip.parameters())


def choose_device(device: str = "auto") -> torch.device:
    """``"auto"`` is the first of CUDA, Apple's MPS, CPU that works."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError):
        raise LinnaeaError(f"--device {device}: there is no such device here; try cpu or auto") from None
    return chosen


def load_model(
    name: str, *, pretrained: str | None = None, device: str = "auto", precision: Precision = "float32"
) -> TaxonModel:
    """Load a model: a folder, a name of ours (``nano``, which comes with the package, or ``bioclip``),
    ``hf-hub:org/repo``, or an open_clip architecture.

    An open_clip architecture needs ``pretrained``: one of its tags, or a file of weights. A hub model may be pinned,
    ``hf-hub:org/repo@revision``; it comes from the hub's cache where it lies there, also offline. ``timm:NAME`` and
    ``timm:FOLDER`` are models of images alone (:mod:`linnaea.model.image_only`).

    Raises:
        LinnaeaError: there is no such model, it is broken, or it cannot be downloaded.
    """
    return _lower(_load(name, pretrained, choose_device(device)), precision)


def _lower(model: TaxonModel, precision: Precision) -> TaxonModel:
    """The model with its image tower, which is changed, at that precision."""
    chosen = choose_precision(precision, model.device)
    if chosen == model.precision:
        return model
    known_as = model.fingerprint
    lower_to_bf16(getattr(model.clip, "visual", model.clip))
    return dataclasses.replace(model, precision=chosen, known_as=known_as)


def prepare_for_photographs(model: TaxonModel) -> TaxonModel:
    """The model with the fastest products that its processor has for photographs; its image tower is changed in place.

    Vectors stay the same but for the rounding of float32 sums. Training and evaluation go without.
    """
    tower = getattr(model.clip, "visual", model.clip)
    end_with_class_token(tower)
    if model.precision == "float32" and is_worth_it(model.device):
        multiply_pointwise(tower)
    return model


def _load(name: str, pretrained: str | None, where: torch.device) -> TaxonModel:
    if name.startswith(TIMM):
        from linnaea.model.image_only import load_timm

        with _explain_failure(name):
            return load_timm(name, pretrained, where)
    identifier = HUB_MODELS.get(name, name)
    if folder := find_model_folder(identifier):
        return dataclasses.replace(_load_folder(folder, where), name=name)
    if identifier.startswith(HUB):
        return _load_hub(name, identifier, where)
    if identifier in open_clip.list_models():
        return _load_architecture(identifier, pretrained, where)
    raise LinnaeaError(_explain_unknown(name))


def _explain_unknown(name: str) -> str:
    if name.startswith(("local-dir:", ".", "/", "~")) or "\\" in name:
        return f"no model {name!r}: no such folder; give the folder that `linnaea train` left, or a name like bioclip"
    near = difflib.get_close_matches(name, [*bundled_models(), *HUB_MODELS, *open_clip.list_models()], n=3)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "give a folder, hf-hub:ORG/NAME, bioclip, or an open_clip name"
    )
    return f"no model {name!r}: no such folder or name; {hint}"


def save_model(model: TaxonModel, directory: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a folder that open_clip loads as ``local-dir:DIRECTORY``; the weights come last.

    Without ``dtype`` the weights keep theirs, and loading gives them back bit for bit. ``torch.float16`` halves the
    folder; what would overflow stays as it is.

    Raises:
        LinnaeaError: the folder cannot be written.
    """
    config = {"model_cfg": dict(model.model_cfg), "preprocess_cfg": model.preprocess.as_open_clip()}
    write_atomically(directory / CONFIG_FILE, json.dumps(config, indent=1))
    write_atomically(directory / FACTS_FILE, json.dumps(dict(model.facts), indent=1, ensure_ascii=False))
    if model.bpe is not None:
        write_atomically(directory / BPE_FILE, model.bpe)
    elif isinstance(model.tokenizer, HFTokenizer):  # open_clip looks for its files in the folder
        model.tokenizer.save_pretrained(str(directory))
    weights = {name: _shrink(value.detach().cpu(), dtype) for name, value in model.clip.state_dict().items()}
    with atomic_path(directory / WEIGHTS_FILE) as partial:
        try:
            save_file(weights, partial)
        except SafetensorError as error:  # says "... (os error 28)", and is no OSError
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
        partial.chmod((directory / CONFIG_FILE).stat().st_mode)  # safetensors gives files to their owner alone


def _shrink(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not value.is_floating_point():
        return value.contiguous()
    small = value.to(dtype)
    return (small if torch.equal(small.isfinite(), value.isfinite()) else value).contiguous()


def _load_folder(folder: Path, device: torch.device) -> TaxonModel:
    if not (folder / CONFIG_FILE).exists():
        raise LinnaeaError(
            f"{folder}: is no model folder (no {CONFIG_FILE}); give the folder that `linnaea train` left"
        )
    return _load_files(folder, str(folder), device, _read_json(folder / FACTS_FILE, missing={}))


def _load_files(folder: Path, name: str, device: torch.device, facts: Mapping[str, Any]) -> TaxonModel:
    """A model from the files of a folder, be it the user's or the hub's cache."""
    model_cfg = _read_json(folder / CONFIG_FILE).get("model_cfg")
    if not isinstance(model_cfg, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model_cfg.keys():
        raise LinnaeaError(f"{folder / CONFIG_FILE}: describes no CLIP model (model_cfg is missing or incomplete)")
    if not any(path.suffix in _WEIGHTS_ENDINGS for path in folder.iterdir()):
        raise LinnaeaError(f"{folder}: has no weights ({WEIGHTS_FILE} is missing); copy the whole folder again")
    with _explain_failure(name):
        clip, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}", device=device)
        tokenizer, bpe = _load_tokenizer(folder, model_cfg)
    return _wrap(name, clip, tokenizer, model_cfg, device, facts, bpe)


def _load_tokenizer(folder: Path, model_cfg: Mapping[str, Any]) -> tuple[Any, bytes | None]:
    """The tokenizer of a folder, and the bytes of its vocabulary where that is its own.

    open_clip 3.3 looks for the vocabulary in the working directory, or takes its default; we look beside the weights.
    """
    text_cfg = model_cfg["text_cfg"]
    named = (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path")
    path = folder / (named or BPE_FILE)
    if not path.exists():
        if named:
            raise LinnaeaError(f"{folder}: its vocabulary {named} is missing; copy the whole folder again")
        return open_clip.get_tokenizer(f"local-dir:{folder}"), None
    bpe = path.read_bytes()
    has, wants = vocabulary_size(bpe), text_cfg.get("vocab_size", DEFAULT_VOCABULARY_SIZE)
    if has != wants:
        raise LinnaeaError(f"{path}: has {has:,} pieces, the model wants {wants:,}; it is another model's vocabulary")
    return make_tokenizer(bpe, text_cfg.get("context_length", DEFAULT_CONTEXT_LENGTH)), bpe


def _load_hub(name: str, identifier: str, device: torch.device) -> TaxonModel:
    repo, _, revision = identifier.removeprefix(HUB).partition("@")
    if repo.count("/") != 1:
        raise LinnaeaError(f"model {name!r}: a hub model is written hf-hub:ORG/NAME")
    with _explain_failure(name):
        folder = Path(hf_hub_download(repo, CONFIG_FILE, revision=revision or None)).parent
        commit = folder.name  # so that all files are of one commit, whatever is pushed meanwhile
        text_cfg = _read_json(folder / CONFIG_FILE).get("model_cfg", {}).get("text_cfg", {})
        download_pretrained_from_hf(repo, revision=commit)
        if bpe_path := (text_cfg.get("tokenizer_kwargs") or {}).get("bpe_path"):
            hf_hub_download(repo, bpe_path, revision=commit)
    return _load_files(folder, name, device, {"source": f"{HUB}{repo}", "revision": commit})


def _load_architecture(name: str, pretrained: str | None, device: torch.device) -> TaxonModel:
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        listing = f"one of {', '.join(tags)}" if tags else "the path of its weights"
        raise LinnaeaError(f"{name} is an architecture without weights; give --pretrained, {listing}")
    if pretrained not in tags and not Path(pretrained).is_file():
        raise LinnaeaError(f"{name} has no weights {pretrained!r}; there are {', '.join(tags) or 'none'}")
    # OpenAI's and some others' weights want another GELU than the architecture of that name; open_clip only warns.
    quick_gelu = bool((get_pretrained_cfg(name, pretrained) or {}).get("quick_gelu", False))
    with _explain_failure(f"{name} {pretrained}"):
        clip, _, _ = open_clip.create_model_and_transforms(
            name, pretrained=pretrained, device=device, force_quick_gelu=quick_gelu
        )
        tokenizer = open_clip.get_tokenizer(name)
    model_cfg = open_clip.get_model_config(name) | ({"quick_gelu": True} if quick_gelu else {})
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LinnaeaError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise LinnaeaError(f"{path}: is no JSON object")
    return content


_UNREACHABLE = ("LocalEntryNotFound", "Offline", "onnect", "resolve host", "outgoing traffic")
_NOT_THERE = ("RepositoryNotFound", "Repository Not Found", "401 Client", "404 Client")


@contextmanager
def _explain_failure(name: str) -> Iterator[None]:
    """open_clip and the hub fail in many ways, and talk; a user gets one line."""
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
        if any(word in text for word in _UNREACHABLE):
            hint = "it is not in the hub's cache and cannot be downloaded; go online once, or give a folder"
        elif any(word in text for word in _NOT_THERE):
            hint = "the hub has no such model (or it is private: log in to the hub first)"
        else:
            hint = f"cannot be loaded ({text[:300]})"
        raise LinnaeaError(f"model {name}: {hint}") from error
    finally:
        logging.root.setLevel(level)
