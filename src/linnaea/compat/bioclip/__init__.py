"""pybioclip under its own names: replace ``bioclip`` by ``linnaea.compat.bioclip`` in a script's imports.

``python -m linnaea.compat.bioclip`` is its command line. The modules have pybioclip's names. This package is not called
``bioclip``, because it would overwrite pybioclip where both are installed.
"""

from importlib import import_module
from typing import Any

from linnaea.taxonomy.ranks import Rank

__all__ = ["CustomLabelsBinningClassifier", "CustomLabelsClassifier", "Rank", "TreeOfLifeClassifier"]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return globals().setdefault(name, getattr(import_module("linnaea.predict.pybioclip"), name))
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
