"""The folder of a run: its recipe, its claim on the folder, and the checks before it is resumed."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from linnaea.data.shards import DataSet, read_manifest
from linnaea.errors import LinnaeaError
from linnaea.model.folders import BPE_FILE, RECIPE_FILE, WEIGHTS_FILE
from linnaea.predict.labels import hash_taxa
from linnaea.storage import explain_os_errors, read_json, write_atomically
from linnaea.train.checkpoints import list_checkpoints
from linnaea.train.locked import VIEWS_FOLDER
from linnaea.train.logs import LOG_FILE, TENSORBOARD_FOLDER
from linnaea.train.parallel import Peers, Spread
from linnaea.train.recipe import Recipe, read_recipe

COMPILED_FOLDER = "compiled"
_LEFT_BEHIND = (RECIPE_FILE, BPE_FILE, LOG_FILE, VIEWS_FOLDER, TENSORBOARD_FOLDER, COMPILED_FOLDER, "checkpoints")
"""Files and folders that a run writes before its first checkpoint is complete."""
_FREE = "descent.compile:"
"""The setting that a resumed run may change."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A recipe, a data set, and the folder of the run."""

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
        """Return the settings that determine the run, as stored in ``recipe.json``."""
        return {
            "recipe": self.recipe_name,
            "data": str(self.data_dir.resolve()),
            DATA_KEY: checksum_of(self.data_dir),
            **asdict(self.recipe),
        }


DATA_KEY = "data_sha256"


def checksum_of(data_dir: Path) -> str:
    """Return the checksum of a data set: of its manifest's checksums of all shards, its splits, and its names.

    Raises:
        LinnaeaError: The folder is not a data set.
    """
    manifest = read_manifest(data_dir)
    decisive = [manifest.get("shards"), manifest.get("splits"), hash_taxa(DataSet.open(data_dir).taxa)]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def open_part(run: TrainingRun) -> DataSet:
    """Open the split and sources of the data set that the recipe trains on."""
    return DataSet.open(run.data_dir).split(run.recipe.feed.split).sources(run.recipe.feed.sources)


@contextmanager
def claimed(run: TrainingRun, peers: Peers, *, resume: bool) -> Iterator[None]:
    """Claim the folder for this run: it must not hold a run, or with ``resume`` must hold this one.

    A new run that fails before its first checkpoint is complete leaves nothing behind, so that the corrected command
    can use the same folder. A run that is killed keeps its claim, and ``resume`` continues it.

    Raises:
        LinnaeaError: The folder holds another run, or there is no run to resume.
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
        raise LinnaeaError(f"{run.run_dir}: holds a run already; continue it with --resume, or choose another --output")
    _clear(run.run_dir)  # this run would otherwise use a vocabulary or vectors left without a recipe
    write_atomically(run.run_dir / RECIPE_FILE, json.dumps(run.describe(), indent=1))


def _clear(run_dir: Path) -> None:
    """Remove the files of a run without checkpoints, and the folder if it is then empty."""
    with explain_os_errors(run_dir):
        for name in _LEFT_BEHIND:
            if (path := run_dir / name).is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if run_dir.is_dir() and not any(run_dir.iterdir()):
            run_dir.rmdir()


def read_started(run_dir: Path) -> TrainingRun:
    """Return the run that was started in a folder.

    Raises:
        LinnaeaError: There is no run.
    """
    before = _complete(_read_settings(run_dir), asdict(Recipe()))
    try:
        return TrainingRun(recipe_name=before["recipe"], recipe=read_recipe(before), data_dir=Path(before["data"]),
                           run_dir=run_dir)  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise LinnaeaError(f"{run_dir}: {RECIPE_FILE} is not a recipe of this version ({error})") from error


def _read_settings(run_dir: Path) -> dict[str, Any]:
    try:
        return read_json(run_dir / RECIPE_FILE, kind="the recipe of a run")
    except LinnaeaError as error:
        raise LinnaeaError(f"{run_dir}: no run to resume ({RECIPE_FILE} is missing or broken)") from error


def check_same_recipe(run: TrainingRun) -> None:
    """Check that the run in the folder was started with the same settings, except for whether towers are compiled.

    Raises:
        LinnaeaError: The settings differ (the message names them), or there is no run.
    """
    before = _read_settings(run.run_dir)
    now, plain = (json.loads(json.dumps(part)) for part in (run.describe(), asdict(Recipe())))
    was = before.get(DATA_KEY, now[DATA_KEY])  # runs that were started before the checksum was kept have none
    if was != now[DATA_KEY]:
        raise LinnaeaError(
            f"{run.run_dir}: was started on another data set than the one in {run.data_dir} now (the manifests differ);"
            " put the old one back, or start a new run with another --output"
        )
    before = {**before, DATA_KEY: was}
    differences = _iter_differences(_complete(before, plain), now)
    changed = sorted(line for line in differences if not line.startswith(_FREE))
    if changed:
        raise LinnaeaError(
            f"{run.run_dir}: was started with other settings ({'; '.join(changed)}); choose another --output"
        )


def _complete(before: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Add settings that did not exist when the run was started, with default values that have no effect."""
    parts = {key: _complete(before[key], part) for key, part in plain.items() if isinstance(before.get(key), dict)}
    return plain | before | parts


def _iter_differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in {*before, *now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _iter_differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} -> {new}"
