"""Where a model's files lie: in a folder of the user's, in the folder of a run, or in this package.

And the words that say how to load one. No torch here, and no NumPy: ``linnaea --help`` reads this.
"""

from pathlib import Path
from typing import Literal, TypeAlias

CONFIG_FILE, WEIGHTS_FILE, FACTS_FILE, BPE_FILE = (
    "open_clip_config.json", "open_clip_model.safetensors", "linnaea.json", "bpe.txt.gz",
)  # fmt: skip
ONNX_FACTS_FILE = "onnx.json"
"""Of an exported model (:mod:`linnaea.model.onnx`)."""
HUB, TIMM = "hf-hub:", "timm:"
"""What the names of the hub's models and of timm's begin with."""
DEFAULT_MODEL = "nano"
"""The model that comes with the package (docs/nano.md)."""
Precision: TypeAlias = Literal["auto", "float32", "bf16"]
"""What the image tower multiplies in. ``auto``: bf16 where the device does so natively, float32 elsewhere."""
LABELS_FOLDER = "labels"
"""A model's own label bank, where it brings one."""

_BUNDLED = {"nano": Path(__file__).parent / "nano"}


def bundled_models() -> dict[str, Path]:
    """Name and folder of the models that came with this installation."""
    return {name: folder for name, folder in _BUNDLED.items() if folder.is_dir()}


def find_model_folder(name: str) -> Path | None:
    """The folder with the files of a model: bundled, a folder, or the ``model/`` of a run; ``None`` if it is no folder.

    A folder of the user's that bears a bundled model's name is the user's.
    """
    folder = Path(name.removeprefix("local-dir:"))
    if not folder.is_dir():
        return bundled_models().get(name)
    inner = folder / "model"
    return inner if (inner / CONFIG_FILE).exists() else folder
