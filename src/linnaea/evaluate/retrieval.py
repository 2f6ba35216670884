"""Score retrieval between pictures and sentences, and the ranking of pictures by queries.

Recall in both directions is that of BioCAP (arXiv 2510.20095, ``evaluation/retrieval_openclip.py``): each picture has
one sentence, and an answer is right if it is that very sentence. Where several pictures share a sentence, the published
code decides by the order of a sort; here each of the equal candidates is as likely as the next. ``same_sentence``
counts every picture with an equal sentence as right. The ranking of INQUIRE (arXiv 2411.02537) is scored query by
query.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError
from linnaea.predict.classifier import iter_blocks

TOP = (1, 5, 10)
"""The numbers of first answers of BioCAP's table."""

EncodeSentences = Callable[[Sequence[str]], Float32[ndarray, "M E"]]
"""A function from distinct sentences to their unit vectors."""


def score_retrieval(
    image_NE: Float32[ndarray, "N E"], sentences: Sequence[str], encode: EncodeSentences
) -> dict[str, float]:
    """Return recall at 1, 5 and 10 from images to sentences and back, with chance.

    Args:
        image_NE: unit vectors of the pictures
        sentences: the sentence of each picture
        encode: called once, with the distinct sentences

    Keys are ``image_to_text/recall_1``, ``image_to_text/same_sentence/recall_1``, ``text_to_image/...`` and
    ``chance/recall_1``.
    """
    distinct = list(dict.fromkeys(sentences))
    place = {sentence: number for number, sentence in enumerate(distinct)}
    own_N = np.array([place[sentence] for sentence in sentences], np.int64)
    text_ME = np.asarray(encode(distinct), np.float32)
    size_M = np.bincount(own_N, minlength=len(distinct))
    metrics: dict[str, float] = {"n_sentences": float(len(distinct))}
    hits = {name: np.zeros(len(TOP)) for name in ("image_to_text", "image_to_text/same_sentence")}
    for rows in iter_blocks(len(image_NE), len(distinct)):
        better_B, tied_B = _rank_of_own(image_NE[rows] @ text_ME.T, own_N[rows], size_M)
        hits["image_to_text"] += _recall(better_B, tied_B)
        hits["image_to_text/same_sentence"] += _recall(better_B, np.ones_like(tied_B))
    best_M = np.full(len(distinct), np.iinfo(np.int64).max)
    back = np.zeros(len(TOP))
    for rows in iter_blocks(len(image_NE), len(image_NE)):
        cosine_BN = text_ME[own_N[rows]] @ image_NE.T
        mine_B = cosine_BN[np.arange(len(cosine_BN)), np.arange(len(image_NE))[rows]][:, None]
        better_B, tied_B = (cosine_BN > mine_B).sum(axis=1), (cosine_BN == mine_B).sum(axis=1)
        back += _recall(better_B, tied_B)
        np.minimum.at(best_M, own_N[rows], better_B)
    for name, counts in {**hits, "text_to_image": back}.items():
        metrics |= {f"{name}/recall_{k}": float(n / len(sentences)) for k, n in zip(TOP, counts, strict=True)}
    metrics |= {f"text_to_image/same_sentence/recall_{k}": float((best_M < k).mean()) for k in TOP}
    return metrics | {f"chance/recall_{k}": min(1.0, k / len(sentences)) for k in TOP}


def _rank_of_own(
    cosine_BM: Float32[ndarray, "B M"],
    own_B: Int64[ndarray, "B"],  # noqa: F821
    size_M: Int64[ndarray, "M"],  # noqa: F821
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many sentences are nearer than each image's own, and how many are as near, counted per picture."""
    mine = np.take_along_axis(cosine_BM, own_B[:, None], axis=1)
    return (cosine_BM > mine) @ size_M, (cosine_BM == mine) @ size_M


def _recall(better: NDArray[np.int64], tied: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each of ``TOP`` the expected number of hits, if equal candidates are in random order."""
    return np.array([np.clip((k - better) / tied, 0, 1).sum() for k in TOP])


def score_ranking(
    image_NE: Float32[ndarray, "N E"],
    queries: Sequence[str],
    relevant_N: Int64[ndarray, "N"],  # noqa: F821
    encode: EncodeSentences,
) -> dict[str, float]:
    """Return the mean over queries of average precision, nDCG and reciprocal rank, each over the query's own pictures.

    Args:
        image_NE: unit vectors of the pictures
        queries: the query of each picture
        relevant_N: 1 where the picture answers its query
        encode: called once, with the distinct queries

    Queries without a relevant picture are left out.

    Raises:
        LinnaeaError: no query has a relevant picture.
    """
    distinct = list(dict.fromkeys(queries))
    vector = dict(zip(distinct, np.asarray(encode(distinct), np.float32), strict=True))
    rows_of: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        rows_of.setdefault(query, []).append(row)
    scores = []
    for query, rows in rows_of.items():
        relevant = relevant_N[rows]
        if relevant.any():
            order = np.argsort(-(image_NE[rows] @ vector[query]), kind="stable")
            scores.append(_score_order(relevant[order].astype(bool)))
    if not scores:
        raise LinnaeaError("no query has a relevant picture; the column `relevant` must hold 0 and 1")
    precision, gain, reciprocal = np.mean(scores, axis=0)
    return {"n_queries": float(len(scores)), "rerank/ap": float(precision), "rerank/ndcg": float(gain),
            "rerank/mrr": float(reciprocal)}  # fmt: skip


def _score_order(relevant: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return average precision, nDCG and reciprocal rank of pictures in the order of a ranking."""
    places = np.flatnonzero(relevant) + 1
    precision = (np.arange(1, len(places) + 1) / places).mean()
    gain = (1 / np.log2(places + 1)).sum() / (1 / np.log2(np.arange(2, len(places) + 2))).sum()
    return float(precision), float(gain), float(1 / places[0])
