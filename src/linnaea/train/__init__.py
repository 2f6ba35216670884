"""Train a model: ``linnaea.train(...)`` is :func:`linnaea.train.run.train`."""

import sys

from linnaea import VerbPackage

sys.modules[__name__].__class__ = VerbPackage
