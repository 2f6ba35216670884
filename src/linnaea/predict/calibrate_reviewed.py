"""Calibrate a model on what reviewers decided: ``linnaea labels calibrate --decisions``."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.model.open import load_model, see_as
from linnaea.model.preprocess import Preprocessing
from linnaea.predict.calibrate import open_labels_to_calibrate
from linnaea.predict.calibration import (
    KEY,
    UNKNOWN,
    Calibration,
    explain_lost,
    find_groups,
    read_replaced,
    write_calibration,
)
from linnaea.predict.calibration_fit import FEWEST, fit_calibration
from linnaea.predict.inputs import bytes_input
from linnaea.predict.labels import LabelBank
from linnaea.predict.predictor import Predictor
from linnaea.predict.records.reviewed_photographs import Examples, check_enough, encode_examples, find_rows
from linnaea.predict.relearn import N_FOLDS, folds_of_events
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import TextType

LEAST_NOTHING = 30
"""The least number of photographs with nothing on them from which abstention is learned anew."""
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The agreement of the probabilities of species with the reviewed species."""

    nll: float
    """Mean negative log-probability of the reviewed species."""
    mean_probability: float
    """Of the likeliest species."""
    right: float
    """The share of photographs whose likeliest species is right."""


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """A calibration that was learned from reviewed photographs, with how it does on events that were held out."""

    calibration: Calibration
    """The new calibration, or the earlier one if that is better."""
    path: Path
    """The file that holds it."""
    before: Agreement
    after: Agreement
    n_images: int
    n_events: int
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def summary(self) -> tuple[str, ...]:
        """Return lines on what was learned."""
        words = {"before": self.before, "after": self.after}
        lines = [f"held out by event, {when}: {one.right:.1%} right, {one.mean_probability:.1%} sure on average"
                 f" (loss {one.nll:.3f})" for when, one in words.items()]  # fmt: skip
        if self.after.nll >= self.before.nll:
            lines.append("not better than before on events that were held out; the calibration stays as it was")
        return (*lines, "probabilities are right for photographs like the reviewed ones: review at random, not only the"
                " least sure, before you calibrate")  # fmt: skip


def calibrate_reviewed(
    *decisions: str | Path,
    model: str | Path,
    labels: str | Path | None = None,
    root: str | Path | None = None,
    text_type: TextType = TextType.TAXON_COM,
    preprocess: Preprocessing | None = None,
    device: str = "auto",
    workers: int = 2,
) -> Recalibrated:
    """Learn probabilities from photographs that reviewers confirmed or corrected, and write them beside the labels.

    Abstention is learned again only if reviewers decided ``nothing there`` for at least 30 photographs; otherwise it
    stays.

    Args:
        decisions: Files of decisions (``linnaea review``).
        model: Name or folder of a model.
        labels: The label bank to calibrate; by default the model's own taxa.
        root: Folder that the photographs must lie in; by default they are looked for here and beside the decisions.
        text_type: Caption form of the model's own taxa.
        preprocess: ``"crop"`` (the middle square) or ``"squash"`` (the whole photograph); by default as the model was
            trained.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        workers: Threads that decode.

    Raises:
        LinnaeaError: There is too little to learn from, or something cannot be read.
    """
    loaded = see_as(load_model(model, device=device), preprocess)
    bank, folder = open_labels_to_calibrate(loaded, loaded.name, None if labels is None else Path(labels), text_type)
    examples = encode_examples([*map(Path, decisions)], loaded, root=None if root is None else Path(root),
                               n_workers=workers)  # fmt: skip
    group_NR = _groups(examples, bank)
    known = int((group_NR[:, Rank.SPECIES] != UNKNOWN).sum())
    least = -(-FEWEST * N_FOLDS // (N_FOLDS - 1)) + N_FOLDS
    check_enough(known, least, "reviewed photographs of species among the labels", why="a calibration")
    was = read_replaced(bank.facts, loaded.facts)

    def fit(rows: NDArray[np.int64]) -> Calibration:
        learned = fit_calibration(examples.image_NE[rows], group_NR[rows], bank, loaded.logit_scale,
                                  nothing_ME=examples.nothing_ME if _knows_nothing(examples) else None)  # fmt: skip
        learned = replace(learned, preprocess=loaded.preprocess)
        if _knows_nothing(examples):
            return learned
        return replace(learned, organism=was.organism, evidence=was.evidence, least_evidence=was.least_evidence)

    predictor = Predictor(model=loaded, bank=bank)
    before, after = _compare(predictor, examples, group_NR, was, fit)
    learned = fit(np.arange(len(examples.taxa))) if after.nll < before.nll else was
    return Recalibrated(
        calibration=learned, path=write_calibration(folder, learned), before=before, after=after,
        n_images=len(examples.taxa), n_events=examples.n_events,
        notes=(*examples.notes, *examples.failed, *explain_lost(was, learned)),
    )  # fmt: skip


def _knows_nothing(examples: Examples) -> bool:
    return len(examples.nothing_ME) >= LEAST_NOTHING


def _groups(examples: Examples, bank: LabelBank) -> Int64[ndarray, "N 7"]:
    """Return the groups of the reviewed taxa; a label that only its name finds counts with its own lineage."""
    rows = find_rows(examples.taxa, bank)
    own = [bank.taxa_list[first] if last - first == 1 else taxon
           for taxon, (first, last) in zip(examples.taxa, rows.tolist(), strict=True)]  # fmt: skip
    return find_groups(own, bank)


def _compare(
    predictor: Predictor,
    examples: Examples,
    group_NR: Int64[ndarray, "N 7"],
    was: Calibration,
    fit: Callable[[NDArray[np.int64]], Calibration],
) -> tuple[Agreement, Agreement]:
    """Return the agreement before, and after learning from the other events, on the same photographs."""
    known = np.flatnonzero(group_NR[:, Rank.SPECIES] != UNKNOWN)
    event_N = np.unique(np.array(examples.events), return_inverse=True)[1].astype(np.int64)
    told: dict[str, list[NDArray[np.float64]]] = {"before": [], "after": []}
    for fold in folds_of_events(event_N, N_FOLDS):
        held = np.intersect1d(fold, known)
        if not len(held):
            continue
        learned = fit(np.setdiff1d(np.arange(len(event_N)), fold))
        for when, one in {"before": was, "after": learned}.items():
            told[when].append(_judge(predictor, examples.image_NE[held], group_NR[held, Rank.SPECIES], one))
    before, after = (_agreement(np.concatenate(told[when])) for when in ("before", "after"))
    return before, after


def _judge(
    predictor: Predictor, image_NE: Float32[ndarray, "N E"], group_N: Int64[ndarray, " N"], calibration: Calibration
) -> NDArray[np.float64]:
    """Return for each photograph the probability of its species, that of the likeliest, and whether they are one."""
    bank = predictor.bank
    calibrated = replace(predictor, bank=replace(bank, facts=bank.facts | {KEY: calibration.to_json()}))
    inputs = [bytes_input(str(number), b"") for number in range(len(image_NE))]
    blocks = [bank.groups.sums(judged.probability_BK)[Rank.SPECIES] for judged in calibrated.judge(inputs, [*image_NE])]
    species_NS = np.concatenate(blocks)
    truth = species_NS[np.arange(len(group_N)), group_N]
    return np.stack([truth, species_NS.max(axis=1), species_NS.argmax(axis=1) == group_N], axis=1).astype(np.float64)


def _agreement(told_N3: NDArray[np.float64]) -> Agreement:
    _, likeliest, right = told_N3.mean(axis=0)
    return Agreement(nll=float(-np.log(np.maximum(told_N3[:, 0], _TINY)).mean()), mean_probability=float(likeliest),
                 right=float(right))  # fmt: skip
