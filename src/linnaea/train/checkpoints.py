"""Checkpoints: everything a run needs to go on bit for bit, written whole or not at all."""

import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from linnaea.errors import LinnaeaError
from linnaea.storage import atomic_path

KEEP = 2
_NAME = re.compile(r"step-(\d{9})\.pt")


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write ``step-<step>.pt`` and remove all but the newest :data:`KEEP`.

    Raises:
        LinnaeaError: it cannot be written (full disk); the older checkpoints stay.
    """
    path = folder / f"step-{step:09d}.pt"
    with atomic_path(path) as partial:
        try:
            torch.save(dict(state), partial)
        except RuntimeError as error:  # torch's writer hides the operating system's reason
            raise LinnaeaError(f"{path}: cannot be written (is the disk full?); the last checkpoint is kept") from error
    for old in list_checkpoints(folder)[:-KEEP]:
        old.unlink()
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.name))


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or ``None`` where there is none at all; tensors on the CPU.

    Raises:
        LinnaeaError: there are checkpoints, and all of them are broken: starting over must be asked for.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        if (state := _load(path)) is not None:
            return state
    if paths:
        names = ", ".join(path.name for path in paths)
        raise LinnaeaError(f"{folder}: every checkpoint is broken ({names}); remove them to start from the beginning")
    return None


def _load(path: Path) -> dict[str, Any] | None:
    """The state in a checkpoint, or ``None`` if any byte of it is wrong (torch itself does not look)."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error):
        return None
    return state
