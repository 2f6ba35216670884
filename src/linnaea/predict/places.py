"""Photographs of data sets by their places, and their vectors."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea.data.images import ImageError
from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.model.encode import iter_encoded_images
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
    items = ((number, part.read(row)) for number, (part, row) in enumerate(places))
    with progress_bar("encoding images", "images") as on_progress:
        for number, vector in iter_encoded_images(model, items, n_workers=n_workers):
            if isinstance(vector, ImageError):
                raise LinnaeaError(f"sample {number}: {vector}; see `linnaea data check`")
            vectors[number] = vector
            on_progress(number + 1, len(places))
    return vectors
