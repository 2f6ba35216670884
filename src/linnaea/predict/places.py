"""Photographs of data sets by their places, and their vectors."""

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.model.encode import iter_kept_images
from linnaea.model.load import TaxonModel
from linnaea.progress import progress_bar
from linnaea.taxonomy.taxon import Taxon

Places: TypeAlias = list[tuple[DataSet, int]]
"""Photographs, as rows of data sets."""


def list_places(parts: Sequence[DataSet]) -> Places:
    """Return the places of all photographs of the parts of a data set."""
    return [(part, row) for part in parts for row in range(len(part))]


def taxa_at(places: Places) -> list[Taxon]:
    """Return the taxon of each photograph."""
    return [part.taxon(part.index["taxon_id"][row]) for part, row in places]


def sources_at(places: Places) -> list[str]:
    """Return the source of each photograph."""
    return [part.index["source"][row] for part, row in places]


def draw_places(places: Places, n: int) -> Places:
    """Draw at most ``n`` of the photographs, the same ones every time, in their order."""
    return [places[number] for number in np.sort(np.random.default_rng(0).permutation(len(places))[:n])]


def encode_places(model: TaxonModel, places: Places, n_workers: int) -> Float32[ndarray, "N E"]:
    """Return the unit vectors of photographs, with a progress bar.

    Raises:
        LinnaeaError: A photograph cannot be read.
    """
    vectors = np.empty((len(places), model.width), np.float32)
    items = [(number, partial(_load, part, row)) for number, (part, row) in enumerate(places)]
    stamps = [part.index["sha256"][row] for part, row in places]
    with progress_bar("encoding images", "images") as on_progress:
        for number, vector in iter_kept_images(model, items, stamps, n_workers=n_workers, on_progress=on_progress):
            if isinstance(vector, ImageError):
                raise LinnaeaError(f"sample {number}: {vector}; see `linnaea data check`")
            vectors[number] = vector
    return vectors


def _load(part: DataSet, row: int, enough: int | None) -> Picture:
    return decode(part.read(row), min_short_side=enough)
