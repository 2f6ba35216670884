"""The folder of a run: who it belongs to, what it was started with, and when it may be used again."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE, WEIGHTS_FILE
from linnaea.storage import explain_os_errors, write_atomically
from linnaea.train.checkpoints import list_checkpoints
from linnaea.train.locked import VIEWS_FOLDER
from linnaea.train.logs import LOG_FILE, TENSORBOARD_FOLDER
from linnaea.train.parallel import Peers, Spread
from linnaea.train.recipe import Recipe

RECIPE_FILE = "recipe.json"
_LEFT_BEHIND = (RECIPE_FILE, BPE_FILE, LOG_FILE, VIEWS_FOLDER, TENSORBOARD_FOLDER, "checkpoints")
"""What a run writes before its first checkpoint is whole."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What is trained on what, and in which folder."""

    recipe_name: str
    recipe: Recipe
    data_dir: Path
    run_dir: Path
    device: str = "auto"
    n_workers: int = 2
    spread: Spread = "ddp"
    wandb: str = ""

    @property
    def model_dir(self) -> Path:
        return self.run_dir / "model"

    @property
    def checkpoints_dir(self) -> Path:
        return self.run_dir / "checkpoints"

    @property
    def is_finished(self) -> bool:
        return (self.model_dir / WEIGHTS_FILE).exists()

    def describe(self) -> dict[str, Any]:
        """Return what the run is a function of, as ``recipe.json`` keeps it."""
        return {"recipe": self.recipe_name, "data": str(self.data_dir.resolve()), **asdict(self.recipe)}


def open_part(run: TrainingRun) -> DataSet:
    """Open the part of the data set that the recipe trains on."""
    return DataSet.open(run.data_dir).split(run.recipe.feed.split).sources(run.recipe.feed.sources)


@contextmanager
def claimed(run: TrainingRun, peers: Peers, *, resume: bool) -> Iterator[None]:
    """Hold the folder for this run: one that holds a run is refused, or with ``resume`` must hold this one.

    A new run that fails before its first checkpoint is whole leaves nothing behind, so that the corrected command can
    write to the same folder. One that is killed keeps its claim, and goes on with ``resume``.

    Raises:
        LinnaeaError: the folder holds another run, or none to resume.
    """
    peers.first_does(lambda: check_same_recipe(run) if resume else _claim(run))
    try:
        yield
    except Exception:
        if peers.is_first and not resume and not list_checkpoints(run.checkpoints_dir):
            _clear(run.run_dir)
        raise


def _claim(run: TrainingRun) -> None:
    if (run.run_dir / RECIPE_FILE).exists() or run.checkpoints_dir.exists():
        raise LinnaeaError(f"{run.run_dir}: holds a run already; --resume goes on with it, or choose another --output")
    _clear(run.run_dir)  # a vocabulary or vectors without a recipe would be taken for this run's
    write_atomically(run.run_dir / RECIPE_FILE, json.dumps(run.describe(), indent=1))


def _clear(run_dir: Path) -> None:
    """Remove what a run leaves that took no step, and the folder if nothing else is in it."""
    with explain_os_errors(run_dir):
        for name in _LEFT_BEHIND:
            if (path := run_dir / name).is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if run_dir.is_dir() and not any(run_dir.iterdir()):
            run_dir.rmdir()


def check_same_recipe(run: TrainingRun) -> None:
    """Check that the run in the folder was started with the same settings.

    Raises:
        LinnaeaError: it was not, or there is no run; the message names the settings that differ.
    """
    try:
        before = json.loads((run.run_dir / RECIPE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise LinnaeaError(f"{run.run_dir}: no run to resume ({RECIPE_FILE} is missing or broken)") from error
    now, plain = (json.loads(json.dumps(part)) for part in (run.describe(), asdict(Recipe())))
    changed = sorted(_iter_differences(_complete(before, plain), now))
    if changed:
        raise LinnaeaError(
            f"{run.run_dir}: was started with other settings ({'; '.join(changed)}); choose another --output"
        )


def _complete(before: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Add the settings that did not exist when the run was started, with the values that do nothing."""
    parts = {key: _complete(before[key], part) for key, part in plain.items() if isinstance(before.get(key), dict)}
    return plain | before | parts


def _iter_differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in {*before, *now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _iter_differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} -> {new}"
