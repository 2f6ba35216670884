"""Work on parts of large arrays on every core.

NumPy and PyTorch release the interpreter's lock while they compute. Each thread takes one part after the other, so a
core that is busy with something else delays only its part. The threads inside PyTorch's and OpenBLAS's products wait
for one another after each product, which takes several times as long on a busy machine.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from linnaea.data.engine import count_cores

PART_CELLS = 262_144
"""Values that one thread works on at once (1 MB of float32), which fit a processor's cache."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_parts(work: Callable[[slice], None], shape: tuple[int, ...]) -> None:
    """Call ``work`` with slices of the rows of an array ``[B, K]``, several at once if the array is large.

    The results of ``work`` must not depend on how the rows are parted.
    """
    step = max(1, PART_CELLS // max(shape[1], 1))
    in_threads(work, [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)])


def in_threads(work: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Call ``work`` with each part, on as many threads as there are cores; PyTorch computes on one thread in each."""
    items = list(parts)
    n_threads = min(count_cores(), len(items))
    if n_threads < 2:
        for item in items:
            work(item)
        return
    with _pool(n_threads) as pool:
        list(pool.map(work, items))


def in_one_thread(work: Callable[[], Result]) -> Result:
    """Return what ``work`` returns; PyTorch computes on one thread in it, so that no thread waits for another."""
    with _pool(1) as pool:
        return pool.submit(work).result()


@contextmanager
def _pool(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    torch = sys.modules.get("torch")
    before = 0 if torch is None else torch.get_num_threads()
    with ThreadPoolExecutor(n_threads, initializer=_compute_alone) as pool:
        yield pool
    if torch is not None:
        torch.set_num_threads(before)  # threads that PyTorch sees first from now on get as many as before


class Scratch(threading.local):
    """Memory that each thread reserves once: fresh memory costs more than many a step that is computed in it."""

    def __init__(self) -> None:
        self._arrays: dict[Any, NDArray[Any]] = {}

    def take(self, n_rows: int, n_columns: int, dtype: Any = np.float32) -> NDArray[Any]:
        """Return an array of any values, which is the same memory as that of the call before with this ``dtype``."""
        cells = self._arrays.get(dtype)
        if cells is None or len(cells) < n_rows * n_columns:
            cells = self._arrays[dtype] = np.empty(n_rows * n_columns, dtype)
        return cells[: n_rows * n_columns].reshape(n_rows, n_columns)


def _compute_alone() -> None:
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)  # holds for this thread only
