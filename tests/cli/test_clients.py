"""A command is a client of the library: its options are the parameters of the function of its name."""

import dataclasses
import importlib
import inspect

import pytest

import linnaea

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

OF_THE_COMMAND = {"near_duplicates"}
"""Options that ask for something else: pairs of photographs, :meth:`linnaea.predict.index.Index.iter_pairs`."""


@pytest.mark.parametrize("verb", CLIENTS)
def test_options_and_parameters_are_the_same(verb: str) -> None:
    module, name = CLIENTS[verb]
    options = getattr(importlib.import_module(f"linnaea.cli.{module}"), name)
    parameters = inspect.signature(getattr(linnaea, verb)).parameters
    assert {field.name for field in dataclasses.fields(options)} - OF_THE_COMMAND == set(parameters)
