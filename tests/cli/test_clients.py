"""A command is a client of the library: its options are the parameters of the function of its name."""

import dataclasses
import importlib
import inspect

import pytest

import linnaea

CLIENTS = {
    "evaluate": ("evaluate", "Evaluate"),
    "calibrate": ("labels_calibrate", "Calibrate"),
    "compare": ("compare", "Compare"),
}
"""Verb of the library -> module of the command, and its class of options."""


@pytest.mark.parametrize("verb", CLIENTS)
def test_options_and_parameters_are_the_same(verb: str) -> None:
    module, name = CLIENTS[verb]
    options = getattr(importlib.import_module(f"linnaea.cli.{module}"), name)
    parameters = inspect.signature(getattr(linnaea, verb)).parameters
    assert {field.name for field in dataclasses.fields(options)} == set(parameters)
