"""Locked-image tuning: encode every picture once with a frozen image tower, and train the text tower alone.

LiT (arXiv 2111.07991) keeps the image tower and trains the text tower against it, which takes minutes on a CPU. The
vectors of a few augmented views of each picture are computed first and stored in the run's folder. Training steps then
read no pictures.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.model.encode import encode_pixels
from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable
from linnaea.storage import atomic_path
from linnaea.train.batches import Batch, Loader, empty_pixels

VIEWS_FOLDER = "vectors"
_PART = 2048
"""Samples per file of vectors; an interruption loses at most one file."""
_AT_ONCE = 256
"""Pictures that are held in memory and encoded at a time."""


@dataclass(frozen=True, kw_only=True)
class VectorLoader:
    """A loader's samples with vectors instead of pixels; view ``epoch % V`` of each sample is used."""

    loader: Loader
    vectors_VNE: Float32[ndarray, "V N E"]
    taken_VN: Int64[ndarray, "V N"]
    """The rows whose pictures were encoded; an unreadable sample has another sample's row."""

    def iter_batches(self, first_step: int, n_steps: int) -> Iterator[Batch]:
        """Yield the batches of steps ``first_step`` to ``n_steps``."""
        loader, side = self.loader, self.loader.image_size
        n_views, n_samples = self.taken_VN.shape
        for step in range(first_step, n_steps):
            rows = loader.rows_at(step)
            start = step * loader.feed.batch_size + loader.rank * len(rows)
            views = np.arange(start, start + len(rows)) // n_samples % n_views
            taken = self.taken_VN[views, rows]
            yield Batch(
                step=step,
                pixels=np.broadcast_to(np.uint8(0), (len(rows), 3, side, side)),
                taxon_ids=loader.taxon_ids_of(taken),
                text_types=loader.draw_text_types(step, len(rows)),
                keys=tuple(loader.dataset.index["key"].gather(taken)),
                unreadable=(),
                vectors=self.vectors_VNE[views, rows],
            )


def encode_views(
    model: TaxonModel, loader: Loader, run_dir: Path, on_progress: Callable[[int, int], None] = lambda done, all_: None
) -> None:
    """Encode ``feed.cached_views`` augmented views of every sample in parts; existing parts are kept."""
    n_samples = len(loader.dataset)
    total = loader.feed.cached_views * n_samples
    with ThreadPoolExecutor(loader.n_workers) as pool:
        for path, view, rows in _parts(loader, run_dir):
            if path.exists():
                continue
            vectors, taken = [], []
            for some in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
                place = view * n_samples + int(some[0])
                pixels = empty_pixels(len(some), loader.image_size)
                taken.append(loader.fill_all(pool, some, place, pixels))
                vectors.append(encode_pixels(model, pixels))
                on_progress(place + len(some), total)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial, partial.open("wb") as stream:
                np.savez(stream, vectors=np.concatenate(vectors), taken=np.concatenate(taken))


def read_views(
    loader: Loader, table: TokenTable, run_dir: Path
) -> tuple[Float32[ndarray, "N E"], Int32[ndarray, "N ranks"]]:
    """Return the vectors that :func:`encode_views` wrote, of all views, and the numbers of their taxa at each rank."""
    locked = lock(loader, run_dir)
    taxon_ids = loader.taxon_ids_of(locked.taken_VN.reshape(-1))
    return locked.vectors_VNE.reshape(len(taxon_ids), -1), table.lineage_of[taxon_ids]


def lock(loader: Loader, run_dir: Path) -> VectorLoader:
    """Return a loader of the vectors that :func:`encode_views` wrote."""
    found = [np.load(path) for path, _, _ in _parts(loader, run_dir)]
    shape = loader.feed.cached_views, len(loader.dataset)
    return VectorLoader(
        loader=loader,
        vectors_VNE=np.concatenate([part["vectors"] for part in found]).reshape(*shape, -1),
        taken_VN=np.concatenate([part["taken"] for part in found]).reshape(shape),
    )


def _parts(loader: Loader, run_dir: Path) -> list[tuple[Path, int, NDArray[np.int64]]]:
    n_samples = len(loader.dataset)
    return [
        (run_dir / VIEWS_FOLDER / f"{view}-{start:09d}.npz", view, np.arange(start, min(start + _PART, n_samples)))
        for view in range(loader.feed.cached_views)
        for start in range(0, n_samples, _PART)
    ]
