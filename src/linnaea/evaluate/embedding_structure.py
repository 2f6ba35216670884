"""Measure how image vectors reflect the tree of life, without captions.

The measures are the purity of neighbourhoods, the correlation of vector distance with tree distance, and the emergent
structure of BioCLIP 2 (arXiv 2505.23883): individuals of a species vary in directions that do not separate species.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Float32, Int, Int64, Shaped
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import lca_heights

MAX_CELLS = 16_000_000
"""The largest number of image pairs held in memory at once (64 MB)."""
N_NEIGHBOURS = 5
N_PAIRS = 200_000
MOST_CLASSES = 2_000
"""The largest number of class means for which all pairs are compared; beyond it, pairs are sampled."""
MEANS_VARIANCE = 0.9
"""The share of the variance of class means that the between-species directions explain."""
N_SHOWN = 6
"""The number of taxa shown at each rank: those with the most photographs, as in the paper."""
MOST_IMAGES = 2_000
FEWEST_IMAGES = 20


def nearest(feature_NE: Float32[ndarray, "N E"], k: int) -> Int64[ndarray, "N k"]:
    """Return each image's ``k`` nearest other images by cosine, nearest first, ties by row number."""
    n = len(feature_NE)
    k = min(k, n - 1)
    found = np.empty((n, k), np.int64)
    step = max(1, MAX_CELLS // max(n, 1))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        cosine = feature_NE[rows] @ feature_NE.T
        cosine[rows - start, rows] = -np.inf
        top = np.argpartition(-cosine, k - 1, axis=1)[:, :k] if k else np.empty((len(rows), 0), np.int64)
        order = np.lexsort((top, -np.take_along_axis(cosine, top, axis=1)), axis=1)
        found[rows] = np.take_along_axis(top, order, axis=1)
    return found


def score_purity(
    feature_NE: Float32[ndarray, "N E"], taxon_NR: Int[ndarray, "N 7"], k: int = N_NEIGHBOURS
) -> dict[str, float]:
    """Return the share of each image's ``k`` nearest neighbours that have the same taxon, per rank.

    ``purity/genus`` is the mean share of neighbours in the same genus; ``purity_chance/genus`` is the share among all
    other images. Images without a name at a rank are left out as queries and never count as a match.
    """
    metrics: dict[str, float] = {}
    neighbour_Nk = nearest(feature_NE, k)
    for rank in Rank:
        own = taxon_NR[:, rank]
        asked = own >= 0
        if not asked.any() or not neighbour_Nk.shape[1]:
            continue
        metrics[f"purity/{rank.label}"] = float((own[neighbour_Nk] == own[:, None])[asked].mean())
        size = np.bincount(own[asked])[own[asked]]
        metrics[f"purity_chance/{rank.label}"] = float(((size - 1) / max(len(own) - 1, 1)).mean())
    return metrics


def score_distances(
    feature_NE: Float32[ndarray, "N E"],
    taxon_NR: Int[ndarray, "N 7"],
    class_N: Int[ndarray, "N"],  # noqa: F821
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Return Spearman's correlation of cosine distance with the height of the lowest common ancestor.

    ``distance_correlation`` is over random pairs of images. ``class_distance_correlation`` is over pairs of class
    means (all pairs up to 2,000 classes).
    """
    rng, n = np.random.default_rng(seed), len(feature_NE)
    if n < 3:
        return {}
    a = rng.integers(0, n, N_PAIRS)
    b = (a + rng.integers(1, n, N_PAIRS)) % n
    distance = np.concatenate(
        [
            1 - np.einsum("pe,pe->p", feature_NE[a[i : i + 10_000]], feature_NE[b[i : i + 10_000]])
            for i in range(0, N_PAIRS, 10_000)
        ]
    )
    metrics = {"distance_correlation": spearman(distance, lca_heights(taxon_NR[a], taxon_NR[b]))}
    classes, first = np.unique(class_N, return_index=True)
    if len(classes) >= 3:
        mean_KE = class_means(feature_NE, class_N)
        mean_KE /= np.maximum(np.linalg.norm(mean_KE, axis=1, keepdims=True), 1e-12)
        i, j = (
            np.triu_indices(len(classes), 1)
            if len(classes) <= MOST_CLASSES
            else rng.integers(0, len(classes), (2, N_PAIRS))
        )
        distance = (
            1 - (mean_KE @ mean_KE.T)[i, j]
            if len(classes) <= MOST_CLASSES
            else 1 - np.einsum("pe,pe->p", mean_KE[i], mean_KE[j])
        )
        rows = taxon_NR[first]
        metrics["class_distance_correlation"] = spearman(distance, lca_heights(rows[i], rows[j]))
    return metrics


def spearman(a_P: Shaped[ndarray, "P"], b_P: Shaped[ndarray, "P"]) -> float:  # noqa: F821
    """Return Spearman's rank correlation with ties at their mean rank, or 0 if one side is constant."""
    from scipy.stats import spearmanr

    a, b = np.asarray(a_P), np.asarray(b_P)
    return 0.0 if (a == a[0]).all() or (b == b[0]).all() else float(spearmanr(a, b).statistic)


def class_means(feature_NE: Float[ndarray, "N E"], class_N: Int[ndarray, "N"]) -> Float[ndarray, "K E"]:  # noqa: F821
    """Return the mean vector of each class, in order of class number."""
    order = np.argsort(class_N, kind="stable")
    _, starts, counts = np.unique(class_N[order], return_index=True, return_counts=True)
    return np.asarray(np.add.reduceat(feature_NE[order].astype(np.float64), starts, axis=0) / counts[:, None])


def score_orthogonality(
    feature_NE: Float32[ndarray, "N E"],
    class_N: Int[ndarray, "N"],  # noqa: F821
) -> dict[str, float]:
    """Measure whether variation within species is orthogonal to variation between species.

    The between-species directions are the principal components of the class means that explain 90% of their variance,
    computed on a random half of each class. ``within_outside_between`` is the share of the other half's within-class
    variance outside these directions; ``within_outside_between_chance`` is the share expected of random directions.
    ``fisher_ratio`` is the variance between classes divided by the variance within. Classes with fewer than four
    images are left out; the result is empty for fewer than three classes.
    """
    kept = np.bincount(class_N)[class_N] >= 4
    feature, own = feature_NE[kept].astype(np.float64), np.unique(class_N[kept], return_inverse=True)[1]
    if not len(own) or own.max() < 2:
        return {}
    order = np.lexsort((np.random.default_rng(0).random(len(own)), own))
    half = np.empty(len(own), bool)
    half[order] = np.arange(len(own)) % 2 == 0
    means = class_means(feature[half], own[half])
    centred = means - means.mean(axis=0)
    _, length, direction = np.linalg.svd(centred, full_matrices=False)
    n_directions = int(np.searchsorted(np.cumsum(length**2) / (length**2).sum(), MEANS_VARIANCE)) + 1
    deviation = feature[~half] - class_means(feature[~half], own[~half])[own[~half]]
    inside = ((deviation @ direction[:n_directions].T) ** 2).sum()
    within = (deviation**2).sum()
    return {
        "within_outside_between": float(np.clip(1 - inside / max(within, 1e-12), 0, 1)),
        "within_outside_between_chance": 1 - n_directions / feature.shape[1],
        "n_directions_between": float(n_directions),
        "fisher_ratio": float((centred**2).sum(axis=1).mean() / max(within / len(deviation), 1e-12)),
    }


@dataclass(frozen=True, kw_only=True)
class Level:
    """One t-SNE panel: the images of a clade, coloured by their taxa at one rank."""

    rank: Rank
    within: str
    """Name of the clade; empty for all images."""
    row_N: NDArray[np.int64]
    """Rows of the images."""
    xy_N2: NDArray[np.float64]
    colour_N: NDArray[np.int64]
    """Index of each image's taxon in ``names``."""
    names: tuple[str, ...]


def lay_out(
    feature_NE: Float32[ndarray, "N E"], taxon_NR: Int[ndarray, "N 7"], taxa: list[Taxon], *, seed: int = 0
) -> list[Level]:
    """Return t-SNE panels from kingdom to species.

    Each panel shows the six taxa of its rank with the most images; the next panel shows the largest of them.
    ``taxon_NR`` numbers the taxa (-1 unnamed), and ``taxa`` is the truth of each image. A panel has at most 2,000
    images, drawn with ``seed``. A panel with the same images as the previous one keeps its layout.
    """
    rows, within = np.arange(len(feature_NE)), ""
    levels: list[Level] = []
    for rank in Rank:
        own = taxon_NR[rows, rank]
        numbers, counts = np.unique(own[own >= 0], return_counts=True)
        if not len(numbers):  # no image here has a name at this rank
            continue
        shown = numbers[np.lexsort((numbers, -counts))][:N_SHOWN]
        chosen = rows[np.isin(own, shown)]
        if len(chosen) > MOST_IMAGES:
            chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST_IMAGES, replace=False))
        if len(chosen) < FEWEST_IMAGES:
            break
        same = bool(levels) and np.array_equal(levels[-1].row_N, chosen)
        xy = levels[-1].xy_N2 if same else _embed(feature_NE[chosen], seed)
        place = {int(number): i for i, number in enumerate(shown)}
        colour = np.array([place[int(number)] for number in taxon_NR[chosen, rank]])
        names = tuple(_name(taxa[chosen[int(np.argmax(colour == i))]], rank) for i in range(len(shown)))
        levels.append(Level(rank=rank, within=within, row_N=chosen, xy_N2=xy, colour_N=colour, names=names))
        rows, within = rows[own == shown[0]], names[0]
    return levels


LEVELS_FILE = "structure.parquet"
"""The file in an evaluation's folder that keeps its panels, one row per point."""


def tabulate_levels(levels: Sequence[Level], keys: Sequence[str]) -> pl.DataFrame:
    """Return panels as a table: rank, clade, key of the image, x, y, colour and taxon of each point."""
    frames = [
        pl.DataFrame(
            {
                "rank": [RANK_LABELS[level.rank]] * len(level.row_N),
                "within": [level.within] * len(level.row_N),
                "key": [keys[row] for row in level.row_N],
                "x": level.xy_N2[:, 0],
                "y": level.xy_N2[:, 1],
                "colour": level.colour_N,
                "taxon": [level.names[colour] for colour in level.colour_N],
            }
        )
        for level in levels
    ]
    return pl.concat(frames)


def levels_of_table(table: pl.DataFrame) -> list[Level]:
    """Return the panels of :func:`tabulate_levels`; ``row_N`` counts the points of each panel."""
    levels = []
    for (rank, within), part in table.group_by(["rank", "within"], maintain_order=True):
        names = dict(part.select("colour", "taxon").unique().iter_rows())
        levels.append(
            Level(
                rank=Rank.parse(str(rank)),
                within=str(within),
                row_N=np.arange(part.height),
                xy_N2=part.select("x", "y").to_numpy(),
                colour_N=part["colour"].to_numpy(),
                names=tuple(names[number] for number in sorted(names)),
            )
        )
    return levels


def _name(taxon: Taxon, rank: Rank) -> str:
    return taxon.scientific_name if rank == Rank.SPECIES else taxon[rank]


def _embed(feature_NE: Float32[ndarray, "N E"], seed: int) -> NDArray[np.float64]:
    from openTSNE import TSNE

    perplexity = min(30, max(2, (len(feature_NE) - 1) // 3))
    tsne = TSNE(perplexity=perplexity, metric="cosine", initialization="pca", random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit(np.ascontiguousarray(feature_NE, np.float64)), np.float64)
