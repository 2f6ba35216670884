"""Approximate search in more vectors than can be compared one by one: faiss's inverted lists with 8-bit values.

The candidates are compared again exactly. So their scores equal those of the exact search, but some may be missed.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.storage import atomic_path

EXACT_UP_TO = 1_000_000
"""Up to this many photographs are compared one by one."""
ROWS_AT_ONCE = 65_536
LISTS_PER_ROOT = 4
"""The number of lists for ``n`` vectors is this many times the square root of ``n``, as faiss's authors advise."""
LEARNT_FROM = 40
"""Training vectors per list; faiss warns below 39."""
SEARCHED = 16
"""A search visits one in this many lists."""
CANDIDATES = 10
"""Candidates per wanted result, which are compared exactly."""

VectorsOf = Callable[[int, int], Float32[ndarray, "N E"]]
"""A function that returns the unit vectors of the photographs from one number to another."""


class Approximate:
    """Inverted lists over unit vectors."""

    def __init__(self, lists: Any) -> None:
        self._lists = lists

    def candidates(self, query_E: Float32[ndarray, " E"], n: int) -> Int64[ndarray, " N"]:
        """Return at most ``n`` numbers of vectors that are probably near the query, nearest first."""
        _, found = self._lists.search(query_E[None].astype(np.float32), n)
        return np.asarray(found[0][found[0] >= 0], np.int64)


def open_approximate(
    folder: Path,
    rows: Int64[ndarray, " N"],
    width: int,
    vectors_of: VectorsOf,
    on_progress: OnProgress = ignore_progress,
) -> Approximate:
    """Return the lists for these rows of an index, read from its folder, or made now and saved there.

    Raises:
        LinnaeaError: faiss is not installed.
    """
    faiss = _import_faiss(len(rows))
    path = folder / f"nearest-{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}.faiss"
    if path.is_file():
        with suppress(RuntimeError):  # the file is damaged and is made again
            found = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
            if (found.ntotal, found.d) == (len(rows), width) and hasattr(found, "nlist"):
                return _set_up(found)
    lists = _make(faiss, len(rows), width, vectors_of, on_progress)
    with atomic_path(path) as partial:
        faiss.write_index(lists, str(partial))
    for old in folder.glob("nearest-*.faiss"):
        if old != path:
            old.unlink(missing_ok=True)
    return _set_up(lists)


def _import_faiss(n: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise LinnaeaError(
            f"searching {n:,} photographs needs faiss: pip install 'linnaea[search]', or give --exact, which is slower"
        ) from error
    return faiss


def _make(faiss: Any, n: int, width: int, vectors_of: VectorsOf, on_progress: OnProgress) -> Any:
    n_lists = max(1, min(int(LISTS_PER_ROOT * n**0.5), n // LEARNT_FROM))
    lists = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, n_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    lists.train(_sample(n, min(n, LEARNT_FROM * n_lists), vectors_of))
    for start in range(0, n, ROWS_AT_ONCE):
        lists.add(vectors_of(start, start + ROWS_AT_ONCE))
        on_progress(min(start + ROWS_AT_ONCE, n), n)
    return lists


def _sample(n: int, n_wanted: int, vectors_of: VectorsOf) -> Float32[ndarray, "N E"]:
    """Return vectors from all over the index, since photographs that were added together are similar."""
    chosen = np.sort(np.random.default_rng(0).choice(n, n_wanted, replace=False))
    parts = []
    for start in range(0, n, ROWS_AT_ONCE):
        here = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, start + ROWS_AT_ONCE)]
        if len(here):
            parts.append(vectors_of(start, start + ROWS_AT_ONCE)[here - start])
    return np.ascontiguousarray(np.concatenate(parts), np.float32)


def _set_up(lists: Any) -> Approximate:
    lists.nprobe = max(8, lists.nlist // SEARCHED)
    return Approximate(lists)
