"""Pool the probabilities of labels with those of class heads for higher ranks.

A softmax over species gives an order the sum of its species. So orders with many labels take the photographs that no
label fits: an unknown animal among leaves is called one of thousands of plants. A head that was trained for orders has
one vector for each of them. The two opinions are pooled as a geometric mean, normalised (the logarithmic opinion pool;
Genest and Zidek, "Combining Probability Distributions", Statistical Science, 1986), and species keep their shares
within an order. Orders that the head does not know keep their probability. ``docs/log.md`` has what it changed.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.predict.classifier import sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank

SHIPPED = (Rank.ORDER,)
"""The ranks whose heads :func:`linnaea.predict.pack.pack` adds to the labels."""
_TINY = 1e-30


def pool_heads(
    probability_BK: Float32[ndarray, "B K"],
    image_BE: Float32[ndarray, "B E"],
    bank: LabelBank,
    ranks: Sequence[Rank],
    logit_scale: float,
) -> Float32[ndarray, "B K"]:
    """Return the probabilities of labels after those of each rank were pooled with the bank's head for it.

    Args:
        probability_BK: Probabilities of the bank's labels, which sum to 1; the result does, too.
        image_BE: The unit vectors of the images.
        bank: The labels and their heads.
        ranks: The ranks to pool, highest first; one that the bank has no head for changes nothing.
        logit_scale: The factor on the cosines with the heads: the model's, divided by the temperature.
    """
    for rank in ranks:
        if rank in bank.heads and len(bank.matched_heads[rank][1]) > 1:
            probability_BK = _pool(probability_BK, image_BE, bank, rank, logit_scale)
    return probability_BK


def _pool(
    probability_BK: NDArray[np.float32], image_BE: NDArray[np.float32], bank: LabelBank, rank: Rank, logit_scale: float
) -> NDArray[np.float32]:
    vectors_HE, groups = bank.matched_heads[rank]
    own_BG = sum_to_all_ranks(probability_BK, bank, rank)[rank].astype(np.float64)
    known_BH = np.maximum(own_BG[:, groups], _TINY)
    pooled_BH = np.sqrt(known_BH * _softmax(vectors_HE, image_BE, logit_scale))
    pooled_BH *= known_BH.sum(axis=1, keepdims=True) / np.maximum(pooled_BH.sum(axis=1, keepdims=True), _TINY)
    factor_BG = np.ones_like(own_BG)
    factor_BG[:, groups] = pooled_BH / known_BH
    pooled_BK = probability_BK * factor_BG.astype(np.float32).take(bank.groups.of_rows(rank), axis=1)
    pooled_BK /= pooled_BK.sum(axis=1, keepdims=True)
    return pooled_BK


def _softmax(vectors_HE: NDArray[np.float64], image_BE: NDArray[np.float32], logit_scale: float) -> NDArray[np.float64]:
    """Return the head's probabilities; an image's do not depend on the others of its block."""
    logits_BH = logit_scale * np.array([vectors_HE @ image_E for image_E in image_BE.astype(np.float64)])
    exponential_BH = np.exp(logits_BH - logits_BH.max(axis=1, keepdims=True))
    return np.asarray(exponential_BH / exponential_BH.sum(axis=1, keepdims=True))
