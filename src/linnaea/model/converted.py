"""Image towers in bf16 and int8 for models without a graph: made on first use, kept in the cache folder.

Models of the hub and of `linnaea train` come as weights for PyTorch. A CPU computes a graph of them in lower precision
faster than PyTorch does. A graph is kept by the checksum of configuration, weights and vocabulary. In bf16 its weights
are rounded, as the processor would round them, and take half the space.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linnaea.model import runtimes
from linnaea.model.folders import (
    BPE_FILE,
    CONFIG_FILE,
    FACTS_FILE,
    GRAPH_FACTS_FILE,
    HUB,
    IMAGE_FILE,
    INT8_FILE,
    ONNX_FACTS_FILE,
    WEIGHTS_ENDINGS,
    Precision,
    find_model_folder,
)
from linnaea.model.hub import PUBLISHED, fetch_config, fetch_weights
from linnaea.model.onnx import GraphModel, load_graph
from linnaea.progress import announce
from linnaea.storage import cache_dir, read_json, sha256_of_file, write_atomically

if TYPE_CHECKING:
    from linnaea.model.load import TaxonModel

FEWEST_PHOTOGRAPHS = 40
"""The fewest photographs from which a model gets a form in 8 bits."""
_FORM = "2"
"""Changes where graphs are to be made anew."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model without a graph in int8 or bf16: its files, and the folder in the cache for its graphs."""

    name: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The facts of a hub model; a folder has its own."""

    @cached_property
    def cached(self) -> Path:
        """Return the folder in the cache, which is named after the model and the checksum of its files."""
        digest = hashlib.sha256(_FORM.encode())
        files = [self.folder / CONFIG_FILE, self.folder / BPE_FILE, *_weights_of(self.folder)]
        for path in files:
            digest.update(path.name.encode())
            digest.update(_checksum(path).encode())
        word = re.sub(r"[^\w.-]+", "-", self.name.removeprefix(HUB).partition("@")[0]).strip("-.")[-40:]
        return cache_dir() / "towers" / f"{word}-{digest.hexdigest()[:16]}"

    def load(self) -> "TaxonModel":
        """Load the model in PyTorch, in float32 and on the CPU, with the form of its image tower that is exported."""
        from linnaea.model.fast import end_with_class_token
        from linnaea.model.load import choose_device, load_folder, load_hub

        device = choose_device("cpu")
        loaded = load_hub(self.name, device) if self.facts else load_folder(self.folder, device)
        end_with_class_token(loaded.image_tower)
        return replace(loaded, name=self.name)

    def open(self, precision: str) -> GraphModel:
        """Open the graph of a precision.

        Raises:
            LinnaeaError: it is missing or broken.
        """
        facts: Mapping[str, Any] = self.facts
        if not facts and (self.folder / FACTS_FILE).exists():
            facts = read_json(self.folder / FACTS_FILE, kind="the description of a model")
        model = load_graph(self.cached, self.name)
        return replace(model, precision=precision, facts=facts, load=self.load)

    @property
    def refused(self) -> str:
        """Return why the form in 8 bits was refused, or an empty string if it was not."""
        path = self.cached / GRAPH_FACTS_FILE
        return str(read_json(path, kind="the description of a graph").get("refused", "")) if path.exists() else ""

    def keep_int8(self, made: Path) -> None:
        """Move the form in 8 bits and its facts from the folder ``made`` into the cache."""
        self.cached.mkdir(parents=True, exist_ok=True)
        for name in (GRAPH_FACTS_FILE, INT8_FILE):
            (made / name).replace(self.cached / name)

    def refuse(self, made: Path, reason: str) -> None:
        """Remember why the model has no form in 8 bits."""
        facts = read_json(made / GRAPH_FACTS_FILE, kind="the description of a graph") | {"refused": reason}
        write_atomically(self.cached / GRAPH_FACTS_FILE, json.dumps(facts, indent=1))


def find_source(name: str) -> Source | None:
    """Return the files of a folder's or a hub model, which is fetched; ``None`` if the name is of neither.

    Raises:
        LinnaeaError: the hub does not give the model.
    """
    if folder := find_model_folder(name):
        source = Source(name=name, folder=folder)
    elif name in PUBLISHED or name.startswith(HUB):
        config, repo, commit = fetch_config(name)
        fetch_weights(repo, commit)
        source = Source(name=name, folder=config.parent, facts={"source": f"{HUB}{repo}", "revision": commit})
    else:
        return None
    return source if (source.folder / CONFIG_FILE).exists() and _weights_of(source.folder) else None


def find_without_int8(name: str) -> Source | None:
    """Return the files of a model if it has no form in 8 bits, in its folder or in the cache, and may have one."""
    folder = find_model_folder(name)
    if folder is not None and ((folder / INT8_FILE).exists() or (folder / ONNX_FACTS_FILE).exists()):
        return None
    source = find_source(name)
    return None if source is None or (source.cached / INT8_FILE).exists() or source.refused else source


def open_converted(name: str, precision: Precision) -> tuple[GraphModel | None, Precision]:
    """Return the model with its graph in bf16 or int8, or ``None`` and the precision that PyTorch is to compute in.

    A graph in bf16 is made if OpenVINO is installed and the processor multiplies bfloat16, and used if it is faster
    than PyTorch. One in int8 must be there (:func:`linnaea.predict.rounding.make_int8`).
    """
    if precision == "auto" and not runtimes.has_bf16():
        return None, "float32"
    can_bf16 = runtimes.has_openvino() and runtimes.has_bf16()
    source = find_source(name) if precision == "int8" or can_bf16 else None
    if source is None:
        return None, precision
    return _open_int8(source) if precision == "int8" else (_open_bf16(source), precision)


def _open_int8(source: Source) -> tuple[GraphModel | None, Precision]:
    if (source.cached / INT8_FILE).exists():
        return _open(source, "int8"), "auto"
    if reason := source.refused:
        announce(f"{source.name}: {reason}; PyTorch encodes the photographs")
        return None, "auto"
    return None, "int8"  # an error that says how to make it


def _open(source: Source, precision: str) -> GraphModel | None:
    """Return the model if its graph can be opened here; else say why."""
    try:
        model = source.open(precision)
        model.open()
    except Exception as error:  # whatever a runtime raises for a graph or a processor that it does not know
        announce(f"{source.name}: {precision} is left to PyTorch ({_first_line(error)})")
        return None
    return model


def _open_bf16(source: Source) -> GraphModel | None:
    path = source.cached / IMAGE_FILE
    faster = runtimes.is_faster(path, "bf16") if path.exists() else None
    if faster is None:  # no graph, or not timed on this machine
        try:
            faster = _make_bf16(source)
        except Exception as error:  # whatever an exporter or a runtime raises
            announce(f"{source.name}: bf16 is left to PyTorch ({_first_line(error)})")
            return None
    return _open(source, "bf16") if faster else None


def _make_bf16(source: Source) -> bool:
    """Make the graph if there is none, and time it against PyTorch; return whether it is faster."""
    from linnaea.model.fast import lower_to_bf16
    from linnaea.model.onnx_export import describe_graph, write_bf16

    loaded = source.load()
    if not (source.cached / IMAGE_FILE).exists():
        announce(f"{source.name}: making its form in bf16 for OpenVINO, once for this machine")
        if not (source.cached / GRAPH_FACTS_FILE).exists():
            describe_graph(loaded, source.cached)
        write_bf16(loaded, source.cached)
    lower_to_bf16(loaded.image_tower)
    return runtimes.compare(source.cached / IMAGE_FILE, "bf16", loaded.preprocess.image_size,
                   lambda values: loaded.encode_pixels(values, unit=False))  # fmt: skip


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__


def _weights_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS_ENDINGS)


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; the hub's cache names files by it."""
    if not path.exists():
        return ""
    real = path.resolve()
    if real.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", real.name):
        return real.name
    return sha256_of_file(path)
