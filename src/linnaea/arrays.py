"""Write arrays to ``.npy`` files and map them; scale vectors to length 1.

A full disk is an error, not a file without its end or the end of the process.
"""

import os
import tokenize
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from linnaea.errors import LinnaeaError
from linnaea.storage import atomic_path, check_regular


class _Stream:
    """A file without a descriptor: NumPy writes to it through Python, whose errors are not lost."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.write = stream.write


def to_unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors ``[N, E]`` at length 1; vectors of zeros stay zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def write_array(stream: IO[bytes], array: NDArray[Any]) -> None:
    """Write an array in NumPy's format.

    ``np.save`` ignores an error of the last 4 kB of a file (``findings/numpy-save-full-disk.sh``).

    Raises:
        OSError: the disk is full.
    """
    np.save(_Stream(stream), array)
    stream.flush()


def save_array(array: NDArray[Any], path: Path) -> None:
    """Write an array to ``path`` in one step."""
    with atomic_path(path) as partial, partial.open("wb") as stream:
        write_array(stream, array)


_DAMAGED = (OSError, ValueError, EOFError, SyntaxError, TypeError, RecursionError, OverflowError, tokenize.TokenError)
"""The exceptions that NumPy raises for damaged files."""


def map_array(path: Path, *, kind: str) -> NDArray[Any]:
    """Map an array that was written by :func:`save_array` into memory; what is changed there stays there.

    Args:
        path: the file.
        kind: what it should be, for messages: ``"the vectors of a label bank"``.

    Raises:
        LinnaeaError: the file is missing or damaged, or holds Python objects.
    """
    check_regular(path)
    try:
        array = open_memmap(path, "c")
        if not array.dtype.isnative:
            raise TypeError(array.dtype)
        return array
    except FileNotFoundError as error:
        raise LinnaeaError(f"{path}: no such file; it should be {kind}") from error
    except _DAMAGED as error:
        raise LinnaeaError(f"{path}: a damaged array of NumPy; it should be {kind}") from error


def create_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Any:
    """Create a file of zeros and map it for writing; its bytes are reserved, since a full disk would end the process.

    Raises:
        OSError: the disk is full.
    """
    array = open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, max(1, path.stat().st_size))
    return array
