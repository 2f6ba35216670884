"""Evaluate a model: ``linnaea.evaluate(...)`` is :func:`linnaea.evaluate.run.evaluate`."""

import sys

from linnaea import VerbPackage

sys.modules[__name__].__class__ = VerbPackage
