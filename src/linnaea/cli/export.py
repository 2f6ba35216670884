"""``linnaea export MODEL``: export both towers as ONNX, to run without PyTorch."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import tell
from linnaea.model.folders import DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class Export:
    """Export a model for ONNX Runtime; every command takes the folder as --model, without PyTorch."""

    model: tyro.conf.Positional[str] = DEFAULT_MODEL
    """Folder or name of the model."""
    output: Path
    """Folder to write: image.onnx, text.onnx, onnx.json, labels/."""
    int8: bool = False
    """Store weights in 8 bits, a quarter of the size; the difference between vectors is printed."""
    pretrained: str | None = None
    """open_clip's pretrained tag, if the model is the name of an architecture."""


def export(options: Export) -> int:
    """Export the model, and print how close it is to the original."""
    from linnaea.predict.pack import export

    exported = export(options.model, options.output, int8=options.int8, pretrained=options.pretrained)
    size, near = f"{exported.n_bytes / 1e6:.1f} MB", f"within {exported.difference:.1e} of the model's"
    tell(f"{size}, unit vectors {near}: {exported.folder}", flush=True)
    return DONE


COMMANDS: Commands = {"": (Export, export)}
