"""Score a model while it trains. Training gets a function, and does not depend on the rest of evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from linnaea.data.images import ImageError
from linnaea.data.shards import DataSet
from linnaea.evaluate.evaluation import Question, evaluate_features
from linnaea.model.encode import iter_encoded_images
from linnaea.model.load import TaxonModel
from linnaea.taxonomy.taxon import TextType


def make_validator(
    data: str | Path, split: str, *, reads_captions: bool = True, workers: int = 2
) -> Callable[[TaxonModel], Mapping[str, float]]:
    """Return a function that scores a model on one split of a data set, for ``linnaea.train(..., evaluate=)``.

    The scores are zero-shot among the taxa of the split, or few-shot if ``reads_captions`` is false (an objective with
    class heads).

    Raises:
        LinnaeaError: The data set cannot be read, or has no such split.
    """
    whole = DataSet.open(Path(data))
    part = whole.split(split)

    def validate(model: TaxonModel) -> Mapping[str, float]:
        now = replace(model)  # drop cached values, which belong to other weights
        items = ((row, part.read(row)) for row in range(len(part)))
        encoded = list(iter_encoded_images(now, items, n_workers=workers))
        good = [row for row, vector in encoded if not isinstance(vector, ImageError)]
        vectors = np.stack([vector for _, vector in encoded if not isinstance(vector, ImageError)])
        readable = replace(part, index=part.index[good])
        if not reads_captions:
            scores = evaluate_features(now, whole, readable, vectors, Question(shots=(1, 5))).metrics
            return {f"{split}/{name}": value for name, value in scores.items() if name.endswith("/mean")}
        question = Question(text_types=(TextType.TAXON_COM,), templates="photo", shots=(0,))
        scores = evaluate_features(now, whole, readable, vectors, question).metrics
        wanted = ("top1", "genus", "chance/top1")
        return {f"{split}/{name}": scores[f"zero_shot/taxon_com/{name}"] for name in wanted}

    return validate
