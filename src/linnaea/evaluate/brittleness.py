"""What a change of taxonomy does to a model: the same photographs under an old, a revised and a shuffled lineage.

A revision moves genera to another family of their order and leaves the rest, as revisions do. A shuffled lineage
gives each genus the higher ranks of another. In each case the label bank may be *stale* (vectors of the old captions,
answers read off in the new tree) or *updated* (new captions encoded).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int
from numpy import ndarray

from linnaea.evaluate.hierarchy import score_ranks
from linnaea.predict.classifier import iter_scored
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

SHARE_MOVED = 0.2

Encode = Callable[[Sequence[Taxon]], Float32[ndarray, "K E"]]
"""Taxa -> unit vectors of their captions."""


def revise(taxa: Sequence[Taxon], *, share: float = SHARE_MOVED, seed: int = 0) -> list[Taxon]:
    """``taxa`` after a revision: a share of the genera goes to another family of the same order, where there is one."""
    rng = np.random.default_rng(seed)
    families: dict[tuple[str, ...], list[str]] = {}
    for taxon in taxa:
        names = families.setdefault(taxon.lineage[:4], [])
        if taxon[Rank.FAMILY] and taxon[Rank.FAMILY] not in names:
            names.append(taxon[Rank.FAMILY])
    moved: dict[tuple[str, ...], str] = {}
    for genus in dict.fromkeys(taxon.lineage[:6] for taxon in taxa if taxon.genus):
        others = [name for name in families[genus[:4]] if name != genus[4]]
        if others and genus[4] and rng.random() < share:
            moved[genus] = others[int(rng.integers(len(others)))]
    return [_with(taxon, {Rank.FAMILY: moved.get(taxon.lineage[:6], taxon[Rank.FAMILY])}) for taxon in taxa]


def shuffle(taxa: Sequence[Taxon], *, seed: int = 0) -> list[Taxon]:
    """``taxa`` with the ranks above genus of each genus exchanged for those of another."""
    genera = list(dict.fromkeys(taxon.lineage[:6] for taxon in taxa))
    order = np.random.default_rng(seed).permutation(len(genera))
    higher = {genus: genera[place][:5] for genus, place in zip(genera, order, strict=True)}
    return [_with(t, dict(zip(list(Rank)[:5], higher[t.lineage[:6]], strict=True))) for t in taxa]


def _with(taxon: Taxon, names: dict[Rank, str]) -> Taxon:
    lineage = tuple(names.get(rank, taxon[rank]) for rank in Rank)
    return Taxon(lineage, taxon.common_name) if any(lineage) or taxon.common_name else taxon  # type: ignore[arg-type]


def score_brittleness(
    image_NE: Float32[ndarray, "N E"],
    truth_N: Int[ndarray, "N"],  # noqa: F821
    bank: LabelBank,
    logit_scale: float,
    encode: Encode,
    revisions: Mapping[str, Sequence[Taxon]],
) -> dict[str, float]:
    """``brittleness/revised/stale/family`` and so on: accuracy per rank with the bank as it is (``old``), and under
    each revision (taxa row by row those of the bank) with the bank left stale and updated.
    """
    old = bank.taxa_list
    answer_N = _answers(image_NE, bank, logit_scale)
    metrics = _named("old", score_ranks(old, truth_N, answer_N))
    for name, taxa in revisions.items():
        metrics |= _named(f"{name}/stale", score_ranks(taxa, truth_N, answer_N))
        updated = LabelBank(bank.taxa, encode(taxa), bank.facts)
        metrics |= _named(f"{name}/updated", score_ranks(taxa, truth_N, _answers(image_NE, updated, logit_scale)))
        changed = [a.lineage != b.lineage for a, b in zip(old, taxa, strict=True)]
        metrics[f"brittleness/{name}/changed"] = float(np.mean(changed))
    return metrics


def _named(place: str, scores: dict[str, float]) -> dict[str, float]:
    return {f"brittleness/{place}/{rank}": value for rank, value in scores.items() if "/" not in rank}


def _answers(image_NE: Float32[ndarray, "N E"], bank: LabelBank, logit_scale: float) -> Int[ndarray, "N"]:  # noqa: F821
    return np.concatenate([b.probability_BK.argmax(axis=1) for b in iter_scored(image_NE, bank, logit_scale)])
