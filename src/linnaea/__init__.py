"""Linnaea: vision foundation models of the tree of life, from names and photographs to taxa to be trusted.

The names below are the public surface; each is imported when it is first used, so that
``import linnaea`` loads neither torch nor polars.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Checklist": "linnaea.taxonomy.checklists.store",
    "CustomLabelsBinningClassifier": "linnaea.predict.pybioclip",
    "CustomLabelsClassifier": "linnaea.predict.pybioclip",
    "DataSet": "linnaea.data.shards",
    "LabelBank": "linnaea.predict.labels",
    "LinnaeaError": "linnaea.errors",
    "Predictor": "linnaea.predict.predictor",
    "Rank": "linnaea.taxonomy.ranks",
    "TaxonModel": "linnaea.model.load",
    "Taxon": "linnaea.taxonomy.taxon",
    "TaxonTree": "linnaea.taxonomy.tree",
    "TextType": "linnaea.taxonomy.taxon",
    "TreeOfLifeClassifier": "linnaea.predict.pybioclip",
    "UsageError": "linnaea.errors",
    "load_checklist": "linnaea.taxonomy.checklists.store",
    "load_model": "linnaea.model.load",
    "parse_label": "linnaea.taxonomy.names",
    "resolve": "linnaea.taxonomy.resolve",
    "save_model": "linnaea.model.load",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'linnaea' has no attribute {name!r}")
    # Always the function or class, also where a sub-package of the same name has been imported.
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
