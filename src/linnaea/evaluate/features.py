"""Encode a data set once for all protocols, and cache the vectors on disk so that an interrupted run can resume."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.lib.format import open_memmap

from linnaea.arrays import create_array
from linnaea.data.images import ImageError
from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.encode import iter_encoded_images
from linnaea.model.load import TaxonModel
from linnaea.storage import explain_os_errors, write_atomically

SAVE_EVERY = 2048


def encode_dataset(
    model: TaxonModel,
    dataset: DataSet,
    folder: Path | None = None,
    *,
    n_workers: int = 2,
    unit: bool = True,
    unreadable: dict[int, str] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Float32[ndarray, "N E"]:
    """Return the unit vector of every image of ``dataset`` in index order, cached in ``folder`` if one is given.

    The cache is valid for one model (its fingerprint), one preprocessing and these images (their contents, in this
    order); any other cache is overwritten. If the writer is killed, every row that the state file counts as done
    is on disk. Without ``unit``, vectors are not normalised. With ``unreadable``, the rows that cannot be decoded are
    put there with the reason, and their vectors mean nothing.

    Raises:
        LinnaeaError: An image of the data set cannot be decoded and ``unreadable`` is not given, or the disk is full.
    """
    if folder is None:
        vectors: Float32[ndarray, "N E"] = np.empty((len(dataset), model.width), np.float32)
        for row, vector in _iter_vectors(model, dataset, 0, n_workers, unit, on_progress):
            vectors[row] = _readable(dataset, row, vector, unreadable)
        return vectors
    vectors_path, state_path = folder / "features.npy", folder / "features.json"
    question = {"model": model.fingerprint, "images": _hash_keys(dataset), "width": model.width, "unit": unit,
                "preprocess": model.preprocess.to_json()}  # fmt: skip
    shape = (len(dataset), model.width)
    done, failed = _read_state(state_path, question) if _holds(vectors_path, shape) else (0, {})
    if unreadable is None and failed:
        done, failed = 0, {}
    with explain_os_errors(vectors_path):
        folder.mkdir(parents=True, exist_ok=True)
        if not done:  # remove the state first, or it would vouch for new, half-written vectors
            state_path.unlink(missing_ok=True)
        vectors = open_memmap(vectors_path, mode="r+") if done else create_array(vectors_path, np.float32, shape)
        for row, vector in _iter_vectors(model, dataset, done, n_workers, unit, on_progress):
            vectors[row] = _readable(dataset, row, vector, None if unreadable is None else failed)
            if (row + 1) % SAVE_EVERY == 0 or row + 1 == len(dataset):
                vectors.flush()
                more = {"unreadable": failed} if failed else {}
                write_atomically(state_path, json.dumps({**question, "done": row + 1, **more}))
    if unreadable is not None:
        unreadable |= failed
    return np.asarray(vectors)


def _iter_vectors(
    model: TaxonModel,
    dataset: DataSet,
    start: int,
    n_workers: int,
    unit: bool,
    on_progress: Callable[[int, int | None], None],
) -> Iterator[tuple[int, Float32[ndarray, " E"] | ImageError]]:
    """Yield each row from ``start`` on with its vector, or the error of an image that cannot be decoded."""
    items = ((row, dataset.read(row)) for row in range(start, len(dataset)))
    for row, vector in iter_encoded_images(model, items, n_workers=n_workers, unit=unit):
        yield row, vector
        on_progress(row + 1, len(dataset))


def _readable(
    dataset: DataSet, row: int, vector: Float32[ndarray, " E"] | ImageError, unreadable: dict[int, str] | None
) -> Float32[ndarray, " E"] | float:
    """Return the vector of a row, or 0 for an image that cannot be decoded if ``unreadable`` takes it."""
    if not isinstance(vector, ImageError):
        return vector
    if unreadable is None:
        raise LinnaeaError(f"{dataset.directory}: sample {dataset.index['key'][row]}: {vector}") from vector
    unreadable[row] = str(vector)
    return 0.0


def _holds(path: Path, shape: tuple[int, int]) -> bool:
    """Return whether the file holds a complete array of this shape; a killed writer may have left a short file."""
    try:
        return bool(np.load(path, mmap_mode="r").shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _hash_keys(dataset: DataSet) -> str:
    import hashlib

    return hashlib.sha256("\n".join(dataset.index["sha256"]).encode()).hexdigest()


def _read_state(path: Path, question: dict[str, object]) -> tuple[int, dict[int, str]]:
    """Return the number of rows that are done, and those of them that cannot be decoded."""
    try:
        state = json.loads(path.read_text())
        done = int(state.pop("done", 0))
        unreadable = {int(row): str(reason) for row, reason in state.pop("unreadable", {}).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return 0, {}
    return (done, unreadable) if state == question else (0, {})
