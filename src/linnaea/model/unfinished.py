"""Keep vectors on disk while photographs or captions are encoded, so that an interrupted command goes on from there.

A million captions take minutes with a small model, and hours with a large one on a CPU, as ten thousand photographs do.
Vectors are written to the cache folder part by part. Whichever command asks for the same ones, encoded by the same
model, finds the finished parts.
"""

import contextlib
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.lib.format import open_memmap

from linnaea.arrays import create_array, map_array
from linnaea.errors import LinnaeaError
from linnaea.jobs import hold_alone
from linnaea.storage import cache_dir, write_atomically

_VECTORS, _DONE, _LOCK = "vectors.npy", "done", "lock"
_FORGOTTEN_S = 30 * 24 * 3600
"""Seconds after which vectors that no command asked for are removed."""


@dataclass
class Unfinished:
    """The vectors of some photographs or captions, of which the first ``done`` are finished."""

    vectors: Float32[ndarray, "K E"]
    done: int = 0
    folder: Path | None = None
    """The folder of their files; ``None`` if they are in memory only."""

    def finish(self, done: int) -> None:
        """Keep the first ``done`` vectors, whatever happens to this process.

        If that cannot be written, a later command finds the vectors that were finished before.
        """
        self.done = done
        if self.folder is not None and isinstance(self.vectors, np.memmap):
            with contextlib.suppress(OSError, LinnaeaError):
                self.vectors.flush()
                write_atomically(self.folder / _DONE, str(done))


@contextmanager
def open_unfinished(question: str | None, shape: tuple[int, int], *, lasting: bool = False) -> Iterator[Unfinished]:
    """Open the vectors ``[K, E]`` of a ``question``, a fingerprint of inputs and model, as far as they are finished.

    They are in memory only if there is no question, the cache folder cannot be written, or another process encodes the
    same inputs. Files are removed when the finished vectors are no longer used, or, if they are ``lasting``, a month
    after their last use.
    """
    with ExitStack() as stack:
        opened = None
        if question is not None:
            with contextlib.suppress(OSError, LinnaeaError):
                opened = _open(cache_dir() / "unfinished" / question, shape, stack)
        opened = opened or Unfinished(np.empty(shape, np.float32))
        yield opened
        if opened.folder is not None and not lasting:
            weakref.finalize(opened.vectors, shutil.rmtree, opened.folder, ignore_errors=True)


def _open(folder: Path, shape: tuple[int, int], stack: ExitStack) -> Unfinished:
    _remove_forgotten(folder.parent)
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(hold_alone(folder, _LOCK, kind="command"))
    if kept := _reopen(folder, shape):
        os.utime(folder / _DONE)
        return kept
    (folder / _DONE).unlink(missing_ok=True)
    try:
        vectors: Any = create_array(folder / _VECTORS, np.float32, shape)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Unfinished(vectors, 0, folder)


def _reopen(folder: Path, shape: tuple[int, int]) -> Unfinished | None:
    """Return the vectors that an earlier command finished; ``None`` if the files are not what was written."""
    try:
        done = int((folder / _DONE).read_text())
        kept = map_array(folder / _VECTORS, kind="unfinished vectors")
    except (OSError, ValueError, LinnaeaError):
        return None
    if kept.shape != shape or kept.dtype != np.float32 or not 0 < done <= shape[0]:
        return None
    return Unfinished(open_memmap(folder / _VECTORS, "r+"), done, folder)


def _remove_forgotten(root: Path) -> None:
    for folder in root.iterdir() if root.is_dir() else ():
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir())) > _FORGOTTEN_S:
                shutil.rmtree(folder, ignore_errors=True)
