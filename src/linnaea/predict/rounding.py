"""Write a model's image tower in 8 bits, if it answers as float32 does."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.data.images import ImageError
from linnaea.errors import LinnaeaError
from linnaea.model.converted import FEWEST_PHOTOGRAPHS, Source
from linnaea.model.encoder import Encoder
from linnaea.model.folders import INT8_FILE
from linnaea.model.load import TaxonModel
from linnaea.model.onnx import load_graph
from linnaea.model.onnx_export import describe_graph, write_int8
from linnaea.predict.classifier import iter_probabilities
from linnaea.predict.inputs import Photographs, iter_inputs
from linnaea.predict.labels import LabelBank
from linnaea.progress import announce

MOST_PHOTOGRAPHS = 400
"""Photographs for a form in 8 bits: three quarters calibrate it."""
SURE, MOST_CHANGE = 0.5, 0.03
"""A form in 8 bits has the first species where float32 gives it this probability, which changes by this in the mean."""


def write_judged_int8(model: TaxonModel, bank: LabelBank, folder: Path, photographs: Photographs) -> None:
    """Write the image tower of a model folder in 8 bits; a quarter of the photographs judges it.

    It is left out, with a reason, if it names another species or changes probabilities too much.

    Raises:
        LinnaeaError: there are fewer than 40 photographs.
    """
    if reason := _write_and_judge(model, bank, folder, _read_pixels(model, photographs)):
        announce(f"8 bits are left out: {reason}")


def make_int8(source: Source, open_bank: Callable[[TaxonModel], LabelBank], photographs: Photographs) -> None:
    """Write the image tower of a model without a graph in 8 bits into the cache folder, and judge it in the same way.

    ``open_bank`` returns the labels for the model, which is in PyTorch. A reason against 8 bits is remembered.

    Raises:
        LinnaeaError: there are fewer than 40 photographs, the model has no labels, or it cannot be written.
    """
    inputs = list(iter_inputs(photographs))
    if len(inputs) < FEWEST_PHOTOGRAPHS:
        raise LinnaeaError(f"{source.name}: has no form in 8 bits yet, which needs {FEWEST_PHOTOGRAPHS} photographs or"
                           f" more; here are {len(inputs)}")  # fmt: skip
    model = source.load()
    pixels = _read_pixels(model, inputs)
    bank = open_bank(model)
    announce(f"{source.name}: making its form in 8 bits from {len(pixels)} photographs, once for this machine")
    places = source.cached.parent
    places.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=places) as scratch:
        made = Path(scratch) / source.cached.name  # a timed runtime is remembered by this name
        made.mkdir()
        describe_graph(model, made)
        if reason := _write_and_judge(model, bank, made, pixels):
            source.refuse(made, f"8 bits are left out: {reason}")
        else:
            source.keep_int8(made)


def _write_and_judge(model: TaxonModel, bank: LabelBank, folder: Path, pixels: UInt8[ndarray, "B 3 S S"]) -> str:
    """Write the form in 8 bits; take it away again and return the reason if it answers otherwise than float32."""
    judging = np.arange(len(pixels)) % 4 == 3
    try:
        write_int8(model, folder, pixels[~judging])
    except (LinnaeaError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever an exporter raises for a tower that it does not know
        return f"its image tower cannot be written as a graph ({' '.join(str(error).split())[:150]})"
    small = replace(load_graph(folder, folder.name), precision="int8")
    names_B, first_B, changes_B = _compare(model, small, bank, pixels[judging])
    n_other = int((names_B & (first_B >= SURE)).sum())
    if not n_other and changes_B.mean() <= MOST_CHANGE:
        return ""
    (folder / INT8_FILE).unlink()
    return (f"of {len(first_B)} photographs, {n_other} that float32 is sure of get another name, and the first"
            f" probability changes by {changes_B.mean():.3f} in the mean")  # fmt: skip


def _compare(
    model: Encoder, small: Encoder, bank: LabelBank, pixels: UInt8[ndarray, "B 3 S S"]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Return which photographs get another name, and float32's first probabilities with their changes."""
    found = []
    scored = (iter_probabilities(one.encode_pixels(pixels), bank, model.logit_scale) for one in (model, small))
    for exact, rounded in zip(*scored, strict=True):
        images, best = np.arange(len(exact)), exact.argmax(axis=1)
        first = exact[images, best]
        found.append((rounded.argmax(axis=1) != best, first, np.abs(first - rounded[images, best])))
    others, firsts, changes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return others, firsts, changes


def _read_pixels(model: TaxonModel, photographs: Photographs) -> UInt8[ndarray, "B 3 S S"]:
    """Return the pixels of up to 400 photographs, evenly from those given."""
    inputs = list(iter_inputs(photographs))
    chosen = [inputs[number] for number in np.unique(np.linspace(0, len(inputs) - 1, MOST_PHOTOGRAPHS).astype(int))]
    pixels = []
    for one in chosen if inputs else ():
        with suppress(ImageError):
            pixels.append(model.preprocess.pixels(one.load(None)))
    if len(pixels) < FEWEST_PHOTOGRAPHS:
        where = f"{photographs}: has" if isinstance(photographs, str | Path) else "there are"
        raise LinnaeaError(f"{where} {count(len(pixels), 'photograph', '')}; 8 bits need {FEWEST_PHOTOGRAPHS} or more")
    return np.stack(pixels).astype(np.uint8)
