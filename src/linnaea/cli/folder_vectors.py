"""Vectors of the photographs of a folder; those that cannot be read are named and left out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from linnaea.cli.console import progress_bar, warn
from linnaea.errors import LinnaeaError

if TYPE_CHECKING:
    from linnaea.model.load import TaxonModel


def encode_folder(model: "TaxonModel", folder: Path, n_workers: int) -> NDArray[np.float32]:
    """Unit vectors ``[M, E]`` of all photographs below ``folder``.

    Raises:
        LinnaeaError: there is none that can be read.
    """
    from linnaea.data.images import ImageError
    from linnaea.model.encode import iter_encoded_images
    from linnaea.predict.inputs import list_images

    paths = list_images([str(folder)])
    items: Any = ((path, path) for path in paths)
    vectors = []
    with progress_bar("encoding pictures of no organism", "images") as on_progress:
        for done, (path, vector) in enumerate(iter_encoded_images(model, items, n_workers=n_workers), start=1):
            if isinstance(vector, ImageError):
                warn(f"{path}: {vector}; left out")
            else:
                vectors.append(vector)
            on_progress(done, len(paths))
    if not vectors:
        raise LinnaeaError(f"{folder}: no photographs there that can be read")
    return np.stack(vectors)
