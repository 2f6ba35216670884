"""The module :mod:`linnaea.predict.pybioclip` under pybioclip's name, so that what a script sets on it is used."""

import sys

from linnaea.predict import pybioclip

sys.modules[__name__] = pybioclip
