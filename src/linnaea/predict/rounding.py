"""Write a packed model's image tower in 8 bits, if it answers as float32 does."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from linnaea.data.images import ImageError
from linnaea.errors import LinnaeaError
from linnaea.model.folders import INT8_FILE
from linnaea.model.load import TaxonModel
from linnaea.model.onnx import load_graph
from linnaea.model.onnx_export import write_int8
from linnaea.predict.classifier import iter_probabilities
from linnaea.predict.inputs import iter_inputs
from linnaea.predict.labels import LabelBank
from linnaea.progress import announce

MOST_PHOTOGRAPHS, FEWEST_PHOTOGRAPHS = 400, 40
"""Photographs for a form in 8 bits: three quarters calibrate it."""
SURE, MOST_CHANGE = 0.5, 0.03
"""A form in 8 bits has the first species where float32 gives it this probability, which changes by this in the mean."""


def write_judged_int8(model: TaxonModel, bank: LabelBank, folder: Path, photographs: str | Path) -> None:
    """Write the image tower of a model folder in 8 bits; a quarter of the photographs judges it.

    It is left out, with a reason, if it names another species or changes probabilities too much.

    Raises:
        LinnaeaError: there are fewer than 40 photographs.
    """
    pixels = _read_pixels(model, photographs)
    judging = np.arange(len(pixels)) % 4 == 3
    write_int8(model, folder, pixels[~judging])
    small = replace(load_graph(folder, folder.name), precision="int8")
    exact, rounded = (
        np.concatenate(list(iter_probabilities(one.encode_pixels(pixels[judging]), bank, model.logit_scale)))
        for one in (model, small)
    )
    images, best = np.arange(len(exact)), exact.argmax(axis=1)
    change = float(np.abs(exact[images, best] - rounded[images, best]).mean())
    n_other = int(((rounded.argmax(axis=1) != best) & (exact[images, best] >= SURE)).sum())
    if n_other or change > MOST_CHANGE:
        (folder / INT8_FILE).unlink()
        announce(f"8 bits are left out: of {len(best)} photographs, {n_other} that float32 is sure of get another name,"
                 f" and the first probability changes by {change:.3f} in the mean")  # fmt: skip


def _read_pixels(model: TaxonModel, photographs: str | Path) -> UInt8[ndarray, "B 3 S S"]:
    """Return the pixels of up to 400 photographs, evenly from the folder."""
    inputs = list(iter_inputs(photographs))
    chosen = [inputs[number] for number in np.unique(np.linspace(0, len(inputs) - 1, MOST_PHOTOGRAPHS).astype(int))]
    pixels = []
    for one in chosen if inputs else ():
        with suppress(ImageError):
            pixels.append(model.preprocess.pixels(one.load(None)))
    if len(pixels) < FEWEST_PHOTOGRAPHS:
        raise LinnaeaError(f"{photographs}: has {len(pixels)} photographs; 8 bits need {FEWEST_PHOTOGRAPHS} or more")
    return np.stack(pixels).astype(np.uint8)
