"""Checkpoints: everything a run needs to continue bit for bit, written atomically.

A checkpoint is a folder ``step-<step>`` in PyTorch's distributed format: every process writes its part, and any
number of processes can read it. Processes write while training continues. A folder is valid once it holds
``complete.json``, which the first process writes last and atomically, with the size and checksum of every file.
"""

import contextlib
import errno
import json
import pickle
import re
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from linnaea.errors import LinnaeaError
from linnaea.storage import explain_os_errors, open_regular, read_json, resolve_inside, write_atomically
from linnaea.train.checkpoint_reader import CheckpointReader, PlainLoadPlanner
from linnaea.train.parallel import ALONE, Peers

# A single process needs no process group. PyTorch warns about that from a thread, at any later time.
warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)

KEEP = 2
MARK = "complete.json"
_NAME = re.compile(r"step-(\d{9})")
_BLOCK = 1 << 22


class Checkpoints:
    """The checkpoints of a run; at most one at a time is being written while training continues."""

    def __init__(self, folder: Path, peers: Peers = ALONE) -> None:
        self.folder, self.peers = folder, peers
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *failure: object) -> None:
        """Finish the pending checkpoint if possible, without hiding the exception that ended the block."""
        with contextlib.suppress(Exception, SystemExit):
            self.finish()
        self._pool.shutdown()

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy ``state`` now and write it in the background, after waiting for the previous checkpoint.

        Raises:
            LinnaeaError: The previous checkpoint could not be written (full disk); older ones are kept.
        """
        self.finish()
        path = self.folder / f"step-{step:09d}"
        self.peers.first_does(lambda: _make_room(path))
        written = async_save(dict(state), checkpoint_id=path, process_group=self.peers.background)
        self._pending = self._pool.submit(self._complete, path, step, written)

    def _complete(self, path: Path, step: int, written: Any) -> None:
        written.result()
        if self.peers.is_first:  # async_save ends on the first process after all others
            files = {file.name: [file.stat().st_size, checksum(file)] for file in _files(path)}
            facts = {"step": step, "processes": self.peers.size, "files": files}
            write_atomically(path / MARK, json.dumps(facts))
            for old in list_checkpoints(self.folder)[:-KEEP]:
                (old / MARK).unlink()
                shutil.rmtree(old, ignore_errors=True)

    @property
    def failed(self) -> bool:
        """Return whether writing the pending checkpoint has failed."""
        return self._pending is not None and self._pending.done() and self._pending.exception() is not None

    def finish(self) -> None:
        """Wait for the pending checkpoint.

        Raises:
            LinnaeaError: It could not be written; the message names the last complete one.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (OSError, RuntimeError, LinnaeaError, CheckpointException) as error:
            raise self.peers.stop(self._explain(error)) from error

    def _explain(self, error: BaseException) -> str:
        causes = list(_causes(error))
        full = any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in causes)
        reason = "the disk is full" if full else f"it cannot be written (is the disk full?): {causes[-1]}"
        whole = list_checkpoints(self.folder)
        last = f"the last one, {whole[-1].name}, is intact" if whole else "there is none before it"
        return f"{self.folder}: a checkpoint was not saved, {reason}; {last}; free some space and use --resume"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, from all processes."""
    yield error
    if isinstance(error, CheckpointException):
        for inner, _ in error.failures.values():
            yield from _causes(inner)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _make_room(path: Path) -> None:
    with explain_os_errors(path):
        if path.exists():  # partly written by a run that died
            (path / MARK).unlink(missing_ok=True)
            shutil.rmtree(path)
        path.mkdir(parents=True)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.name != MARK and not file.name.startswith(f".{MARK}"))


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with open_regular(path) as stream:
        while block := stream.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and (path / MARK).exists())


def find_newest(folder: Path) -> tuple[int, Path] | None:
    """Return step and folder of the newest checkpoint with correct checksums, or ``None`` if there are no checkpoints.

    Raises:
        LinnaeaError: All checkpoints are broken; the user must ask to start over.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        if (step := _verify(path)) is not None:
            return step, path
    if paths:
        names = ", ".join(path.name for path in paths)
        raise LinnaeaError(f"{folder}: every checkpoint is broken ({names}); remove them to start from the beginning")
    return None


def _verify(path: Path) -> int | None:
    try:
        facts = read_json(path / MARK, kind="the mark of a checkpoint")
        places = {resolve_inside(path, name): stated for name, stated in facts["files"].items()}
        right = all(place.stat().st_size == size and checksum(place) == crc for place, (size, crc) in places.items())
        return int(facts["step"]) if right and facts["files"] else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LinnaeaError):
        return None


def restore_newest(folder: Path, make_state: Callable[[], dict[str, Any]], peers: Peers = ALONE) -> int:
    """Read the newest checkpoint into the tensors of ``make_state()``, in place; return its step, or 0 without one.

    Raises:
        LinnaeaError: Every checkpoint is broken, or the newest belongs to another model.
    """
    found = peers.first_does(lambda: find_newest(folder))
    if found is None:
        return 0
    step, path = found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            load(
                make_state(), storage_reader=CheckpointReader(path), planner=PlainLoadPlanner(),
                process_group=peers.background,
            )  # fmt: skip
        except (CheckpointException, RuntimeError, ValueError, pickle.UnpicklingError) as error:
            if refused := next((one for one in _causes(error) if isinstance(one, LinnaeaError)), None):
                raise refused from error
            if any(isinstance(one, pickle.UnpicklingError) for one in _causes(error)):
                raise LinnaeaError(f"{path}: holds more than tensors, which could run code; refused") from error
            raise LinnaeaError(f"{path}: belongs to another model ({list(_causes(error))[-1]})") from error
    return step


def optimizer_state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return AdamW's step and moments by parameter name, initialised with zeros before the first step.

    Settings such as the learning rate are left out: the recipe holds them.
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),  # a fused update reads it there
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }
    return {names[parameter]: state for parameter, state in optimizer.state.items()}
