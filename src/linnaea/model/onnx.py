"""Models that run without PyTorch: in ONNX Runtime. :mod:`linnaea.model.onnx_export` writes them.

An exported folder holds ``image.onnx`` (uint8 pixels ``[B, 3, S, S]`` to vectors, normalisation included),
``text.onnx`` (tokens ``[B, T]`` to vectors) if there is a text tower, ``onnx.json``, and the model's label bank.

A model folder whose image tower is also a graph holds ``image.onnx`` (pixels between 0 and 255 as float32), which reads
its weights from ``open_clip_model.safetensors`` beside it, and ``image.json``.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea.arrays import to_unit
from linnaea.data.engine import count_cores
from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder
from linnaea.model.folders import (
    BPE_FILE,
    CONFIG_FILE,
    FACTS_FILE,
    GRAPH_FACTS_FILE,
    IMAGE_FILE,
    INT8_FILE,
    ONNX_FACTS_FILE,
    TEXT_FILE,
    WEIGHTS_FILE,
)
from linnaea.model.preprocess import Pixels, Preprocess
from linnaea.model.runtimes import AT_ONCE, Run, open_onnxruntime, open_runtime
from linnaea.progress import announce
from linnaea.storage import Facts, read_json, read_regular, sha256_of_file

if TYPE_CHECKING:
    from linnaea.model.load import TaxonModel

_AT_ONCE = 64
_OPENING = threading.Lock()
_SMALL_BYTES = 100_000_000
"""A folder smaller than this has a tower that takes milliseconds for a photograph on one core. Each core then encodes
photographs of its own: cores that share a batch wait for one another while others decode."""


@dataclass(frozen=True, kw_only=True)
class _GraphEncoder(Encoder):
    """A folder with a graph of the image tower, and a file with the facts about the model that callers need."""

    name: str
    folder: Path
    preprocess: Preprocess
    facts: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The contents of ``onnx.json`` or of ``image.json``."""
    makers: Preprocess | None = field(default=None, repr=False)
    """The model's own preprocessing, if ``preprocess`` is another one (:func:`linnaea.model.open.see_as`)."""

    @property
    def fingerprint(self) -> str:
        return str(self.about["fingerprint"])

    @property
    def width(self) -> int:
        return int(self.about["width"])

    @property
    def logit_scale(self) -> float:
        return float(self.about["logit_scale"])


@dataclass(frozen=True, kw_only=True)
class OnnxModel(_GraphEncoder):
    """An exported model. It has the fingerprint of the model that it was exported from."""

    @property
    def has_text(self) -> bool:
        return self.about.get("context_length") is not None

    @property
    def takes_fractions(self) -> bool:
        return False

    @cached_property
    def _image(self) -> Run:
        return open_onnxruntime(self.folder / IMAGE_FILE)

    @cached_property
    def _text(self) -> Run:
        return open_onnxruntime(self.folder / TEXT_FILE)

    def encode_pixels(self, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
        parts = [self._image(pixels_BCHW[start : start + _AT_ONCE]) for start in range(0, len(pixels_BCHW), _AT_ONCE)]
        return to_unit(np.concatenate(parts)) if unit else np.concatenate(parts)

    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        """Encode distinct captions as unit vectors.

        Raises:
            LinnaeaError: the tokenizer is missing; open_clip's needs PyTorch.
        """
        try:
            from linnaea.model.tokenizer import make_tokenizer
        except ImportError as error:
            raise LinnaeaError(
                f"{self.name}: new names need a tokenizer; install PyTorch for it, or use the labels in the folder"
            ) from error
        if not (self.folder / BPE_FILE).exists():
            raise LinnaeaError(f"{self.name}: was exported without a vocabulary; use the labels in the folder")
        tokenizer = make_tokenizer(read_regular(self.folder / BPE_FILE), int(self.about["context_length"]))
        vectors = np.empty((len(captions), self.width), np.float32)
        for start in range(0, len(captions), _AT_ONCE):
            some = captions[start : start + _AT_ONCE]
            vectors[start : start + len(some)] = self._text(tokenizer(list(some)).numpy())
            on_progress(start + len(some), len(captions))
        return to_unit(vectors)


def load_onnx(folder: Path) -> OnnxModel:
    """Open an exported folder.

    Raises:
        LinnaeaError: the folder is incomplete.
    """
    try:
        about = read_json(folder / ONNX_FACTS_FILE, kind="the description of an exported model")
        preprocess = Preprocess.of_json(dict(about["preprocess"]), str(folder / ONNX_FACTS_FILE))
        facts = Facts(about["facts"], folder / ONNX_FACTS_FILE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinnaeaError(f"{folder / ONNX_FACTS_FILE}: not that of an export; export the model again") from error
    if not (folder / IMAGE_FILE).exists():
        raise LinnaeaError(f"{folder}: {IMAGE_FILE} is missing; export the model again")
    return OnnxModel(name=str(folder), folder=folder, preprocess=preprocess, facts=facts, about=about)


@dataclass(frozen=True, kw_only=True)
class GraphModel(_GraphEncoder):
    """A model folder whose photographs are encoded by its graph. Captions are encoded in PyTorch, loaded for them."""

    precision: str = "float32"
    n_callers: int = 1
    """Threads that encode pixels at once, each on one core; with 1, a call uses every core."""
    load: "Callable[[], TaxonModel] | None" = field(default=None, repr=False, compare=False)
    """The function that loads the model in PyTorch, if its files are not in the folder of its graph."""
    opened: dict[tuple[str, int], Run] = field(default_factory=dict, repr=False, compare=False)
    """The graph in a runtime by ``precision`` and ``n_callers``. Copies of the model share the open graphs."""

    @property
    def has_text(self) -> bool:
        return bool(self.about["has_text"])

    def for_photographs(self, n: int) -> "GraphModel":
        # To open a graph again takes longer than a photograph on one core.
        return replace(self, n_callers=1) if n == 1 and not self.opened else self

    def open(self) -> Run:
        """Open the graph in the runtime that is faster on this machine, once.

        Raises:
            LinnaeaError: the graph cannot be opened.
        """
        with _OPENING:  # not once for each thread
            key = self.precision, self.n_callers
            if key not in self.opened:
                path = self.folder / (INT8_FILE if self.precision == "int8" else IMAGE_FILE)
                side = self.preprocess.image_size
                self.opened[key] = open_runtime(path, self.precision, side, n_callers=self.n_callers)
            return self.opened[key]

    @cached_property
    def whole(self) -> "TaxonModel":
        """Return the model in PyTorch, which is loaded when it is first needed."""
        from linnaea.model.fast import prepare_for_photographs

        whole = self._load()
        prepare_for_photographs(whole.image_tower, whole.device, whole.precision)
        return whole

    @cached_property
    def _without_tower(self) -> "TaxonModel":
        """Return the model in PyTorch without its image tower, whose weights the runtime holds."""
        from torch.nn import Identity

        loaded = self._load()
        if hasattr(loaded.clip, "visual"):
            loaded.clip.visual = Identity()
        return loaded

    def _load(self) -> "TaxonModel":
        from linnaea.model.load import choose_device, load_folder

        loaded = self.load() if self.load else load_folder(self.folder, choose_device("cpu"))
        return replace(loaded, name=self.name, preprocess=self.preprocess, makers=self.makers,
                       known_as=self.fingerprint)  # fmt: skip

    def encode_pixels(self, pixels_BCHW: Pixels, *, unit: bool = True) -> Float32[ndarray, "B E"]:
        run = self.open()
        parts = [
            run(pixels_BCHW[start : start + AT_ONCE].astype(np.float32))
            for start in range(0, len(pixels_BCHW), AT_ONCE)
        ]
        return to_unit(np.concatenate(parts)) if unit else np.concatenate(parts)

    def encode_captions(
        self, captions: Sequence[str], on_progress: Callable[[int, int | None], None]
    ) -> Float32[ndarray, "K E"]:
        return self._without_tower.encode_captions(captions, on_progress)


def find_graph(folder: Path, name: str) -> GraphModel | None:
    """Return the model of a folder with a graph; ``None`` if it has none, or one of other weights."""
    if not (folder / GRAPH_FACTS_FILE).exists() or not (folder / IMAGE_FILE).exists():
        return None
    try:
        model = load_graph(folder, name)
        if model.about["made_from"] == hash_sources(folder):
            return model
        reason = "belongs to other weights"
    except (LinnaeaError, OSError, KeyError) as error:
        reason = f"cannot be used ({error})"
    announce(f"{folder / IMAGE_FILE}: {reason}; PyTorch encodes the photographs, and `linnaea pack` makes it again")
    return None


def load_graph(folder: Path, name: str) -> GraphModel:
    """Open the graph of a model folder.

    Raises:
        LinnaeaError: its facts cannot be read.
    """
    try:
        about = read_json(folder / GRAPH_FACTS_FILE, kind="the description of a graph")
        preprocess = Preprocess.of_json(dict(about["preprocess"]), str(folder / GRAPH_FACTS_FILE))
        has_facts = (folder / FACTS_FILE).exists()
        facts = read_json(folder / FACTS_FILE, kind="the description of a model") if has_facts else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LinnaeaError(f"{folder / GRAPH_FACTS_FILE}: not that of a graph; pack the model again") from error
    is_small = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < _SMALL_BYTES
    return GraphModel(name=name, folder=folder, preprocess=preprocess, facts=facts, about=about,
                      n_callers=count_cores() if is_small else 1)  # fmt: skip


def hash_sources(folder: Path) -> dict[str, str]:
    """Return the hashes of the files of a model folder that decide its vectors."""
    found = {}
    for name in (CONFIG_FILE, WEIGHTS_FILE, BPE_FILE):
        if (folder / name).exists():
            found[name] = sha256_of_file(folder / name)
    return found
