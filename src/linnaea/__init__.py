"""Linnaea: vision foundation models of the tree of life, from names and photographs to reliable taxa.

The names below are the public API. Each is imported on first use, so that ``import linnaea`` loads neither torch nor
polars.
"""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what _HOMES says, for type checkers and editors
    from linnaea.data.migration import migrate as migrate
    from linnaea.data.shards import DataSet as DataSet
    from linnaea.data.verbs import BuiltDataSet as BuiltDataSet
    from linnaea.data.verbs import build as build
    from linnaea.data.verbs import check_data as check_data
    from linnaea.data.verbs import describe_data as describe_data
    from linnaea.data.verbs import download as download
    from linnaea.data.verbs import draw_no_organism as draw_no_organism
    from linnaea.data.verbs import export_data as export_data
    from linnaea.data.verbs import repair_data as repair_data
    from linnaea.data.verbs import synthesize as synthesize
    from linnaea.errors import LinnaeaError as LinnaeaError
    from linnaea.errors import UsageError as UsageError
    from linnaea.evaluate.comparison import compare as compare
    from linnaea.evaluate.run import evaluate as evaluate
    from linnaea.model.load import TaxonModel as TaxonModel
    from linnaea.model.load import save_model as save_model
    from linnaea.model.open import load_model as load_model
    from linnaea.predict.adapt import adapt as adapt
    from linnaea.predict.adapt_reviewed import adapt_reviewed as adapt_reviewed
    from linnaea.predict.answers import Answers as Answers
    from linnaea.predict.answers import Vectors as Vectors
    from linnaea.predict.banks import append_labels as append_labels
    from linnaea.predict.banks import build_labels as build_labels
    from linnaea.predict.banks import update_labels as update_labels
    from linnaea.predict.calibrate import calibrate as calibrate
    from linnaea.predict.calibrate_reviewed import calibrate_reviewed as calibrate_reviewed
    from linnaea.predict.index import index as index
    from linnaea.predict.index import search as search
    from linnaea.predict.labels import LabelBank as LabelBank
    from linnaea.predict.pack import export as export
    from linnaea.predict.pack import pack as pack
    from linnaea.predict.predictor import Answer as Answer
    from linnaea.predict.predictor import Predictor as Predictor
    from linnaea.predict.pybioclip import CustomLabelsBinningClassifier as CustomLabelsBinningClassifier
    from linnaea.predict.pybioclip import CustomLabelsClassifier as CustomLabelsClassifier
    from linnaea.predict.pybioclip import TreeOfLifeClassifier as TreeOfLifeClassifier
    from linnaea.predict.session import Model as Model
    from linnaea.predict.session import open_model as open  # noqa: F401
    from linnaea.taxonomy.browse import diff_checklists as diff_checklists
    from linnaea.taxonomy.browse import lineage as lineage
    from linnaea.taxonomy.browse import search_names as search_names
    from linnaea.taxonomy.checklists.store import Checklist as Checklist
    from linnaea.taxonomy.checklists.store import import_checklist as import_checklist
    from linnaea.taxonomy.checklists.store import list_checklists as list_checklists
    from linnaea.taxonomy.checklists.store import load_checklist as load_checklist
    from linnaea.taxonomy.names import parse_label as parse_label
    from linnaea.taxonomy.ranks import Rank as Rank
    from linnaea.taxonomy.resolve import resolve as resolve
    from linnaea.taxonomy.taxon import Taxon as Taxon
    from linnaea.taxonomy.taxon import TextType as TextType
    from linnaea.taxonomy.tree import TaxonTree as TaxonTree
    from linnaea.train.run import train as train

__version__ = "0.2.0"

_HOMES = {
    "list_checklists": "linnaea.taxonomy.checklists.store",
    "import_checklist": "linnaea.taxonomy.checklists.store",
    "migrate": "linnaea.data.migration",
    "diff_checklists": "linnaea.taxonomy.browse",
    "search_names": "linnaea.taxonomy.browse",
    "lineage": "linnaea.taxonomy.browse",
    "BuiltDataSet": "linnaea.data.verbs",
    "synthesize": "linnaea.data.verbs",
    "repair_data": "linnaea.data.verbs",
    "export_data": "linnaea.data.verbs",
    "draw_no_organism": "linnaea.data.verbs",
    "download": "linnaea.data.verbs",
    "describe_data": "linnaea.data.verbs",
    "check_data": "linnaea.data.verbs",
    "build": "linnaea.data.verbs",
    "Answer": "linnaea.predict.predictor",
    "Answers": "linnaea.predict.answers",
    "Checklist": "linnaea.taxonomy.checklists.store",
    "CustomLabelsBinningClassifier": "linnaea.predict.pybioclip",
    "CustomLabelsClassifier": "linnaea.predict.pybioclip",
    "DataSet": "linnaea.data.shards",
    "LabelBank": "linnaea.predict.labels",
    "LinnaeaError": "linnaea.errors",
    "Model": "linnaea.predict.session",
    "Predictor": "linnaea.predict.predictor",
    "Rank": "linnaea.taxonomy.ranks",
    "TaxonModel": "linnaea.model.load",
    "Taxon": "linnaea.taxonomy.taxon",
    "TaxonTree": "linnaea.taxonomy.tree",
    "TextType": "linnaea.taxonomy.taxon",
    "TreeOfLifeClassifier": "linnaea.predict.pybioclip",
    "UsageError": "linnaea.errors",
    "Vectors": "linnaea.predict.answers",
    "adapt": "linnaea.predict.adapt",
    "adapt_reviewed": "linnaea.predict.adapt_reviewed",
    "append_labels": "linnaea.predict.banks",
    "build_labels": "linnaea.predict.banks",
    "index": "linnaea.predict.index",
    "search": "linnaea.predict.index",
    "update_labels": "linnaea.predict.banks",
    "calibrate": "linnaea.predict.calibrate",
    "calibrate_reviewed": "linnaea.predict.calibrate_reviewed",
    "compare": "linnaea.evaluate.comparison",
    "evaluate": "linnaea.evaluate.run",
    "export": "linnaea.predict.pack",
    "load_checklist": "linnaea.taxonomy.checklists.store",
    "load_model": "linnaea.model.open",
    "open": "linnaea.predict.session",
    "pack": "linnaea.predict.pack",
    "parse_label": "linnaea.taxonomy.names",
    "resolve": "linnaea.taxonomy.resolve",
    "save_model": "linnaea.model.load",
    "train": "linnaea.train.run",
}

_NAMES_AT_HOME = {"open": "open_model"}
"""What a name is called in its module, where a built-in has its own."""

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'linnaea' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), _NAMES_AT_HOME.get(name, name))
    # A package that is a verb too has bound its own name on import, and stays: it can be called.
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return __all__


class VerbPackage(ModuleType):
    """A sub-package that is called as the verb of its name: ``linnaea.train(...)`` calls ``linnaea.train.run.train``.

    Python binds a sub-package to its name in ``linnaea`` whenever a part of it is imported, so that a function of
    that name would come and go with the order of imports. The package itself stays, and answers both as a package
    (``linnaea.train.fit``) and as the function.
    """

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Return the function; ``inspect.signature`` and editors look for it here."""
        verb: Callable[..., Any] = getattr(import_module(f"{self.__name__}.run"), self.__name__.rpartition(".")[2])
        return verb

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.__wrapped__(*args, **options)
