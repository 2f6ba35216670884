"""``linnaea export MODEL``: both towers as ONNX, to run without PyTorch."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.model.folders import DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model for ONNX Runtime; every command takes the folder for --model, without PyTorch."""

    model: tyro.conf.Positional[str] = DEFAULT_MODEL
    """Folder or name of the model."""
    output: Path
    """Folder to write: image.onnx, text.onnx, onnx.json, labels/."""
    int8: bool = False
    """Weights in 8 bits: a quarter of the size; the differences are printed."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""


def export(options: Export) -> int:
    """Export the model, and print how near it is to the original."""
    from linnaea.predict.pack import export

    exported = export(options.model, options.output, int8=options.int8, pretrained=options.pretrained)
    size, near = f"{exported.n_bytes / 1e6:.1f} MB", f"within {exported.difference:.1e} of the model's"
    print(f"{size}, unit vectors {near}: {exported.folder}", flush=True)
    return DONE


COMMANDS: Commands = {"": (Export, export)}
