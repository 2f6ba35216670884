"""Find a model's files: in a user's folder, in the folder of a run, or in this package.

The module imports neither torch nor NumPy, since ``linnaea --help`` reads it.
"""

from pathlib import Path
from typing import Literal, TypeAlias

CONFIG_FILE, WEIGHTS_FILE, FACTS_FILE, BPE_FILE = (
    "open_clip_config.json", "open_clip_model.safetensors", "linnaea.json", "bpe.txt.gz",
)  # fmt: skip
ONNX_FACTS_FILE = "onnx.json"
"""The facts of an exported model (:mod:`linnaea.model.onnx`)."""
IMAGE_FILE, TEXT_FILE, GRAPH_FACTS_FILE = "image.onnx", "text.onnx", "image.json"
"""The towers of an exported model; in a model folder, the graph of its image tower, and its facts."""
INT8_FILE = "image.int8.onnx"
"""The image tower of a model folder in 8 bits."""
WEIGHTS_ENDINGS = (".safetensors", ".bin", ".pth")
"""The endings of files of weights that open_clip loads. Without such a file, it warns and uses random weights."""
HUB, TIMM = "hf-hub:", "timm:"
"""The prefixes of the names of hub models and timm models."""
DEFAULT_MODEL = "nano"
"""The model that comes with the package (docs/nano.md)."""
Precision: TypeAlias = Literal["auto", "float32", "bf16", "int8"]
"""The number format of the image tower. ``auto``: bf16 where the device multiplies it natively, float32 elsewhere.
``int8``: the form in 8 bits, on a CPU; nano and folders of `linnaea pack --int8-photographs` have it, and other models
get it from photographs (:mod:`linnaea.model.converted`)."""
RECIPE_FILE = "recipe.json"
"""The settings of a run, in its folder."""
LABELS_FOLDER = "labels"
"""The folder of a model's own label bank, if it has one."""

_BUNDLED = {"nano": Path(__file__).parent / "nano"}


def bundled_models() -> dict[str, Path]:
    """Return the name and folder of each model that comes with this installation."""
    return {name: folder for name, folder in _BUNDLED.items() if folder.is_dir()}


def find_model_folder(name: str) -> Path | None:
    """Return the folder with a model's files, or ``None`` if the name does not lead to a folder.

    The folder is the user's, the ``model/`` of a run, or a bundled model's. A user's folder hides a bundled model of
    the same name.
    """
    folder = Path(name.removeprefix("local-dir:"))
    if not folder.is_dir():
        return bundled_models().get(name)
    inner = folder / "model"
    return inner if (inner / CONFIG_FILE).exists() else folder


def short_name(name: str) -> str:
    """Return a model's name without the folders of this machine: ``runs/mine/model`` becomes ``mine``."""
    if name.startswith(HUB):
        return name
    parts = [part for part in Path(name).parts if part != "model"]
    return parts[-1] if parts else name
