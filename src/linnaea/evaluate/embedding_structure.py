"""Whether the tree of life shows in the vectors of photographs, without any caption.

Neighbours of one genus, distances that follow the tree, and the emergent structure of BioCLIP 2 (arXiv 2505.23883):
individuals of a species vary in directions that do not serve to tell species apart.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Shaped
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import lca_heights

MAX_CELLS = 16_000_000
"""Images x images in memory at once (64 MB)."""
N_NEIGHBOURS = 5
N_PAIRS = 200_000
MOST_CLASSES = 2_000
"""Class means of which all pairs are compared; of more, pairs are drawn."""
MEANS_VARIANCE = 0.9
"""Share of the variance of class means that the directions between species hold."""
N_SHOWN = 6
"""Taxa told apart at each rank: the most photographed ones, as in the paper."""
MOST_IMAGES = 2_000
FEWEST_IMAGES = 20


def nearest(feature_NE: Float32[ndarray, "N E"], k: int) -> Int64[ndarray, "N k"]:
    """The ``k`` nearest other images of each by cosine, nearest first, equal ones by number; in blocks of memory."""
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
    """``purity/genus``: the share of an image's ``k`` nearest that are of its genus; ``purity_chance/genus``: of any
    other image. Images not named at a rank are neither asked nor neighbours that fit.
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
    """Spearman's correlation of cosine distance with the height at which two lineages meet.

    ``distance_correlation`` over random pairs of images, ``class_distance_correlation`` over pairs of class means
    (all pairs up to 2,000 classes).
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
    """Return Spearman's rank correlation, ties at their mean rank; 0 where one side is constant."""
    from scipy.stats import spearmanr

    a, b = np.asarray(a_P), np.asarray(b_P)
    return 0.0 if (a == a[0]).all() or (b == b[0]).all() else float(spearmanr(a, b).statistic)


def class_means(feature_NE: Float[ndarray, "N E"], class_N: Int[ndarray, "N"]) -> Float[ndarray, "K E"]:  # noqa: F821
    """The mean of each class, in order of class number."""
    order = np.argsort(class_N, kind="stable")
    _, starts, counts = np.unique(class_N[order], return_index=True, return_counts=True)
    return np.asarray(np.add.reduceat(feature_NE[order].astype(np.float64), starts, axis=0) / counts[:, None])


def score_orthogonality(
    feature_NE: Float32[ndarray, "N E"],
    class_N: Int[ndarray, "N"],  # noqa: F821
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Is variation within species orthogonal to that between them?

    The directions between species are the principal ones of the class means (those that hold nine tenths of their
    variance), found on a random half of each class; ``within_outside_between`` is the share of the other half's
    variance within classes that lies outside them, ``within_outside_between_chance`` what directions without any
    structure would give. ``fisher_ratio`` is the variance between classes over that within. Classes of fewer than
    four images are left out; nothing is said of fewer than three classes.
    """
    kept = np.bincount(class_N)[class_N] >= 4
    feature, own = feature_NE[kept].astype(np.float64), np.unique(class_N[kept], return_inverse=True)[1]
    if not len(own) or own.max() < 2:
        return {}
    order = np.lexsort((np.random.default_rng(seed).random(len(own)), own))
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
    """One panel: the images of one clade, coloured by the taxa of a rank within it."""

    rank: Rank
    within: str
    """Name of the clade; empty for all images."""
    row_N: NDArray[np.int64]
    """Rows of the images."""
    xy_N2: NDArray[np.float64]
    colour_N: NDArray[np.int64]
    """Place in ``names``."""
    names: tuple[str, ...]


def lay_out(
    feature_NE: Float32[ndarray, "N E"], taxon_NR: Int[ndarray, "N 7"], taxa: list[Taxon], *, seed: int = 0
) -> list[Level]:
    """The panels from kingdom to species: at each rank the six taxa with most images are shown, then the largest is
    entered. ``taxon_NR`` numbers the taxa (-1 unnamed), ``taxa`` is the truth of each image. At most 2,000 images a
    panel, drawn with ``seed``; a panel of the same images as the one above keeps its layout.
    """
    rows, within = np.arange(len(feature_NE)), ""
    levels: list[Level] = []
    for rank in Rank:
        own = taxon_NR[rows, rank]
        numbers, counts = np.unique(own[own >= 0], return_counts=True)
        if not len(numbers):  # nobody here is named at this rank
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


def _name(taxon: Taxon, rank: Rank) -> str:
    return taxon.scientific_name if rank == Rank.SPECIES else taxon[rank]


def _embed(feature_NE: Float32[ndarray, "N E"], seed: int) -> NDArray[np.float64]:
    from openTSNE import TSNE

    perplexity = min(30, max(2, (len(feature_NE) - 1) // 3))
    tsne = TSNE(perplexity=perplexity, metric="cosine", initialization="pca", random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit(np.ascontiguousarray(feature_NE, np.float64)), np.float64)
