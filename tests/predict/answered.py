"""Answers without a model: every input that can be loaded gets the taxa that a test names."""

import json
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from linnaea.data.images import ImageError
from linnaea.predict.classifier import Guess
from linnaea.predict.detection_files import open_detections
from linnaea.predict.detections import Detections
from linnaea.predict.inputs import Input
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row, rows_of
from linnaea.predict.outputs.write import WRITERS
from linnaea.predict.predictor import Answer, answer_of_error
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

FOX = Taxon(("Animalia", "Chordata", "Mammalia", "Carnivora", "Canidae", "Vulpes", "vulpes"), common_name="Red Fox")
HUMAN = Taxon(("Animalia", "Chordata", "Mammalia", "Primates", "Hominidae", "Homo", "sapiens"), common_name="Human")
MAMMAL = FOX.at(Rank.CLASS)


def draw(path: Path) -> Path:
    """A photograph of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
    return path


def answer(inputs: Iterable[Input], *taxa: Taxon, score: float = 0.75) -> list[Row]:
    """The rows of these inputs; without ``taxa`` each of them is abstained from."""
    rows: list[Row] = []
    for one in inputs:
        try:
            one.load(None)
        except ImageError as error:
            rows += rows_of(answer_of_error(one, error))
            continue
        guesses = tuple(Guess(taxon, taxon.rank, score / (place + 1)) for place, taxon in enumerate(taxa))
        nothing = {"status": "abstained", "abstention": "no organism", "reason": "no organism recognised"}
        status = {} if guesses else nothing
        rows += rows_of(Answer(input=one, guesses=guesses, **status))  # type: ignore[arg-type]
    return rows


def written(form: str, rows: Sequence[Row], detections: Detections | None = None, **context: Any) -> str:
    """What a writer writes."""
    stream = StringIO()
    WRITERS[form](stream, rows, Context(detections=detections, **context))
    return stream.getvalue()


def read(path: Path, content: dict[str, Any], *animal_categories: str) -> Detections:
    """The detections of a file with this content, written to ``path``."""
    path.write_text(json.dumps(content))
    return open_detections(path, animal_categories=animal_categories)
