"""A command is a client of the library: its options are the parameters of the function of its name."""

import dataclasses
import importlib
import inspect

import pytest

import linnaea
from linnaea.predict.adapt_reviewed import adapt_reviewed
from linnaea.predict.calibrate_reviewed import calibrate_reviewed

CLIENTS = {
    "evaluate": ("evaluate", "Evaluate"),
    "calibrate": ("labels", "Calibrate"),
    "compare": ("compare", "Compare"),
    "adapt": ("adapt", "Adapt"),
    "build_labels": ("labels", "Build"),
    "append_labels": ("labels", "Append"),
    "update_labels": ("labels", "Update"),
    "index": ("index", "MakeIndex"),
    "search": ("search", "Search"),
}
"""Verb of the library -> module of the command, and its class of options."""

REVIEWED = {"adapt": adapt_reviewed, "calibrate": calibrate_reviewed}
"""What the same command calls with ``--decisions``."""

OF_THE_COMMAND = {"search": {"near_duplicates", "output"}}
"""Options that ask for pairs of photographs (:meth:`linnaea.predict.index.Index.iter_pairs`), or for a file."""


@pytest.mark.parametrize("verb", CLIENTS)
def test_options_and_parameters_are_the_same(verb: str) -> None:
    module, name = CLIENTS[verb]
    options = getattr(importlib.import_module(f"linnaea.cli.{module}"), name)
    functions = [getattr(linnaea, verb), *([REVIEWED[verb]] if verb in REVIEWED else [])]
    parameters = {name for function in functions for name in inspect.signature(function).parameters}
    assert {field.name for field in dataclasses.fields(options)} - OF_THE_COMMAND.get(verb, set()) == parameters
