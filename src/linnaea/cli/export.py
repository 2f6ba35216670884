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
    """Export, and compare with the model on drawn pictures."""
    import numpy as np

    from linnaea.data.no_organism import KINDS, draw
    from linnaea.model.onnx import export_onnx
    from linnaea.model.open import load_model

    model = load_model(options.model, pretrained=options.pretrained, device="cpu")
    rng = np.random.default_rng(0)
    pictures = np.stack([model.preprocess.pixels(draw(kind.__name__, rng, 256)) for kind in KINDS])
    difference = export_onnx(model, options.output, int8=options.int8, check=pictures)
    n_bytes = sum(path.stat().st_size for path in options.output.glob("*.onnx"))
    print(f"{n_bytes / 1e6:.1f} MB, unit vectors within {difference:.1e} of the model's: {options.output}", flush=True)
    return DONE


COMMANDS: Commands = {"": (Export, export)}
