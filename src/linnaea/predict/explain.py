"""Explain an answer: a heat map of what in the photograph speaks for its taxon and against all others."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.data.images import Picture
from linnaea.errors import LinnaeaError
from linnaea.model.attribution import attribute
from linnaea.model.preprocess import Preprocess
from linnaea.predict.classifier import Guess
from linnaea.predict.inputs import Input
from linnaea.predict.labels import LabelBank, to_float32
from linnaea.predict.predictor import Answer, Predictor
from linnaea.storage import write_atomically
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

STRENGTH = 0.6
"""The opacity of the heat's colour where the heat is strongest, 0 to 1."""
LONGER_SIDE = 1_024
"""The longer side of a heat map's picture, in pixels."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Explanation:
    """A heat map over a photograph."""

    answer: Answer
    guess: Guess
    """The taxon that it explains: the first guess, or the likeliest taxon of a photograph without one."""
    picture: UInt8[ndarray, "H W 3"]
    heat: Float32[ndarray, "H W"]
    """0 to 1, 1 at the place that speaks for the taxon most; 0 where the model does not look, such as the sides of a
    wide photograph."""

    def jpeg(self) -> bytes:
        """Return the photograph under its heat, at most :data:`LONGER_SIDE` pixels wide or high."""
        scale = min(1.0, LONGER_SIDE / max(self.heat.shape))
        size = (max(1, round(self.heat.shape[1] * scale)), max(1, round(self.heat.shape[0] * scale)))
        picture, heat = (cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in (self.picture, self.heat))
        colours = cv2.applyColorMap(np.asarray(255 * heat, np.uint8), cv2.COLORMAP_INFERNO)
        share = STRENGTH * np.sqrt(heat)[..., None]
        mixed = (1 - share) * picture[..., ::-1] * (0.5 + 0.5 * heat[..., None]) + share * colours
        _, data = cv2.imencode(".jpg", np.asarray(mixed.round(), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])
        return bytes(data.tobytes())

    def save(self, path: str | Path) -> Path:
        """Write :meth:`jpeg` to a file.

        Raises:
            LinnaeaError: the file cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.jpeg())
        return path

    def _repr_jpeg_(self) -> bytes:
        return self.jpeg()

    def __repr__(self) -> str:
        name = self.guess.taxon.name
        return f"<Explanation of {name} in {self.answer.name}>"


def explain(predictor: Predictor, one: Input) -> Explanation:
    """Return where in a photograph its answer comes from.

    Raises:
        ImageError: the photograph cannot be read.
        LinnaeaError: the model is an exported one, which has no gradients.
    """
    picture = one.load(None)
    preprocess = predictor.model.preprocess
    seen = explain_pixels(predictor, one, preprocess.pixels(picture))
    return replace(seen, picture=np.asarray(picture, np.uint8), heat=place_heat(seen.heat, picture, preprocess))


def explain_pixels(predictor: Predictor, one: Input, pixels_3SS: NDArray[Any]) -> Explanation:
    """Return the explanation of the square that the model sees, made by :meth:`Preprocess.pixels`.

    Raises:
        LinnaeaError: the model is an exported one, which has no gradients.
    """
    model = predictor.model
    vector = model.encode_pixels(pixels_3SS[None])[0]
    (judged,) = predictor.judge([one], [vector])
    (answer,) = predictor.choose(judged, predictor.asked)
    path = predictor.paths(judged)[0]
    if not answer.guesses and not path:
        raise LinnaeaError(f"{one.name}: there is no taxon to explain")
    guess = answer.guesses[0] if answer.guesses else path[-1]
    direction = contrast(predictor.bank, guess, judged.probability_BK[0])
    square = np.ascontiguousarray(pixels_3SS.transpose(1, 2, 0)).round().astype(np.uint8)
    return Explanation(answer=answer, guess=guess, picture=square, heat=attribute(model, pixels_3SS, direction))


def contrast(bank: LabelBank, guess: Guess, probability_K: Float32[ndarray, " K"]) -> Float32[ndarray, " E"]:
    """Return the mean vector of a taxon's labels minus that of all others, each weighed by probability.

    Along it the log odds of the taxon rise fastest. Without other labels, it is the mean vector of the taxon's.
    """
    inside = np.ones(len(bank), bool)
    for label, name in zip(RANK_LABELS, guess.taxon.lineage, strict=True):
        if name:
            inside &= np.asarray(bank.taxa[label].fill_null("") == name, bool)
    if guess.taxon.lineage[Rank.SPECIES] or not any(guess.taxon.lineage):
        inside &= np.asarray(bank.taxa["common_name"].fill_null("") == guess.taxon.common_name, bool)
    own = _mean(bank, np.flatnonzero(inside), probability_K)
    others = np.flatnonzero(~inside)
    return own if not len(others) else own - _mean(bank, others, probability_K)


N_WEIGHED = 1_000
"""The likeliest labels of which a mean is made; the others have no part in it that shows."""


def _mean(bank: LabelBank, rows: NDArray[np.int64], probability_K: Float32[ndarray, " K"]) -> Float32[ndarray, " E"]:
    best = rows[np.argsort(-probability_K[rows], kind="stable")[:N_WEIGHED]]
    weight = np.maximum(probability_K[best], np.float32(1e-12))
    vectors = to_float32(bank.vectors[np.sort(best)])
    return np.asarray(weight[np.argsort(best)] @ vectors / weight.sum(), np.float32)


def place_heat(heat_SS: Float32[ndarray, "S S"], picture: Picture, preprocess: Preprocess) -> Float32[ndarray, "H W"]:
    """Return a heat map of the whole photograph from that of the square that the model sees."""
    height, width = picture.shape[:2]
    if preprocess.resize_mode in ("squash", "pybioclip"):
        return np.asarray(cv2.resize(heat_SS, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    longest = preprocess.resize_mode == "longest"
    square = max(height, width) if longest else min(height, width)
    large = cv2.resize(heat_SS, (square, square), interpolation=cv2.INTER_LINEAR)
    top, left = abs(height - square) // 2, abs(width - square) // 2
    if longest:  # the square has padding that the photograph lacks
        return np.asarray(large[top : top + height, left : left + width], np.float32)
    whole = np.zeros((height, width), np.float32)
    whole[top : top + square, left : left + square] = large
    return whole
