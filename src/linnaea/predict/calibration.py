"""Calibrated probabilities: fitted to photographs with known names, and kept beside the model or its bank.

Four things are learned, in this order. A *temperature* divides all logits (Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017). A factor makes *untrained* labels less likely, if the bank says which these are. The model saw no
photographs of them, so their names are not well told apart, and they attract photographs of all taxa (Chao et al., "An
Empirical Study and Analysis of Generalized Zero-Shot Learning", ECCV 2016, who subtract a constant from the other
side). The *heads* of higher ranks that the bank has are then pooled with the labels
(:mod:`linnaea.predict.rank_heads`). A *sharpness* per rank raises each taxon's share within its parent to a power, so
that the confidence at each rank matches the accuracy, and the probabilities of all ranks still add up along the
lineage: ``q(child) = q(parent) p(child)^s / sum over siblings p^s``. Temperature and sharpness maximise the likelihood
of the truth; both are convex problems in one unknown. With rehearsals, *trust* takes the place of sharpness: how far an
answer at rank ``auto`` is to be believed (:mod:`linnaea.predict.trust`). Last comes the *evidence* of known
photographs: a photograph with less evidence than nearly all of them shows no organism. If there were pictures without
organisms to learn from, the evidence is the output of a logistic regression on vector and energy; otherwise it is the
energy alone, which tells them apart much less well (docs/log.md).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError
from linnaea.exchange import hold_output
from linnaea.model.encoder import Encoder
from linnaea.model.folders import FACTS_FILE as MODEL_FACTS_FILE
from linnaea.model.open import see_as
from linnaea.model.preprocess import Preprocess
from linnaea.predict.classifier import Ranked, Scored
from linnaea.predict.labels import FACTS_FILE as BANK_FACTS_FILE
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import apply_prior
from linnaea.predict.rank_heads import pool_heads
from linnaea.predict.spread import OTHER_WIDTH, Spread
from linnaea.predict.threads import in_parts
from linnaea.predict.trust import Trust
from linnaea.storage import Facts, read_json, write_atomically
from linnaea.taxonomy.ranks import N_RANKS, Rank
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import RankGroups, find_classes

KEY = "calibration"
"""The key of a calibration in ``linnaea.json`` or ``bank.json``."""
UNKNOWN = -1
"""Stands in place of a group's number if the bank has no such taxon."""
TINY = np.float32(1e-38)
"""The least probability that is divided by or has a logarithm."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A learned calibration; the default changes nothing."""

    temperature: float = 1.0
    heads: tuple[Rank, ...] = ()
    """The ranks whose heads are pooled with the labels (:mod:`linnaea.predict.rank_heads`), highest first."""
    sharpness: tuple[float, ...] = (1.0,) * N_RANKS
    """Per rank, kingdom first."""
    untrained: float = 1.0
    """The factor on probabilities of labels that the model was not trained on, before all are normalised again."""
    organism: tuple[float, ...] = ()
    """Weights ``[E + 1]`` of vector and energy that separate known photographs from pictures without an organism; empty
    if there were no such pictures to learn from."""
    evidence: tuple[float, ...] = ()
    """Quantiles of the evidence (:meth:`weigh`) of known photographs, lowest first; if empty, all are organisms."""
    trust: Trust = field(default_factory=Trust)
    """How far an answer at rank ``auto`` is to be trusted (:mod:`linnaea.predict.trust`). It has no weights if there
    were no strangers to learn from; the probability among the labels then decides."""
    least_evidence: float = float("-inf")
    """The evidence below which a photograph shows no organism."""
    n_images: int = 0
    n_labels: int = 0
    preprocess: Preprocess | None = None
    """The preprocessing of the photographs; ``None`` is the model's own."""

    def __post_init__(self) -> None:
        if not (0 < self.temperature < np.inf and len(self.sharpness) == N_RANKS and min(self.sharpness) > 0):
            raise ValueError("a calibration has a positive temperature and a positive sharpness for each rank")
        if not self.untrained > 0:
            raise ValueError("labels that were not trained on have a positive factor")

    def to_json(self) -> dict[str, Any]:
        finite = {} if np.isfinite(self.least_evidence) else {"least_evidence": None}
        heads = {"heads": [rank.label for rank in self.heads]}
        preprocess = None if self.preprocess is None else self.preprocess.to_json()
        spread = None if self.trust.spread is None else self.trust.spread.to_json()
        trust = {"trust": self.trust.weights, "spread": spread}
        return asdict(self) | finite | heads | trust | {"preprocess": preprocess}

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> "Calibration":
        """Read a calibration from JSON facts.

        Raises:
            LinnaeaError: the facts are not a calibration.
        """
        try:
            least = facts["least_evidence"]
            return cls(
                temperature=float(facts["temperature"]),
                heads=tuple(map(Rank.parse, facts.get("heads", ()))),
                sharpness=tuple(map(float, facts["sharpness"])),
                untrained=float(facts.get("untrained", 1.0)),
                organism=tuple(map(float, facts.get("organism", ()))),
                evidence=tuple(map(float, facts["evidence"])),
                trust=_read_trust(facts),
                least_evidence=float("-inf") if least is None else float(least),
                n_images=int(facts["n_images"]),
                n_labels=int(facts["n_labels"]),
                preprocess=Preprocess.of_json(facts["preprocess"], "calibration") if facts.get("preprocess") else None,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LinnaeaError("the calibration is damaged; run `linnaea labels calibrate` again") from error

    def explain_other_form(self, encoder: Encoder) -> str:
        """Return a line if the calibration was learned from photographs in another form; else nothing."""
        learned = see_as(encoder, self.preprocess or encoder.own_preprocess).preprocess
        if learned == encoder.preprocess:
            return ""
        return (f"the calibration was learned from photographs in another form (--preprocess {learned.form}), so"
                f" probabilities are less exact; run `linnaea labels calibrate --preprocess {encoder.preprocess.form}`"
                )  # fmt: skip

    def weigh(self, block: Scored | Ranked) -> Float32[ndarray, "B"]:  # noqa: F821
        """Return each image's evidence of an organism: the score of the learned weights, or its energy without them.

        Raises:
            LinnaeaError: the weights belong to another model.
        """
        if not self.organism:
            return block.energy_B
        if len(self.organism) != block.image_BE.shape[1] + 1:
            raise LinnaeaError(OTHER_WIDTH)
        return np.asarray(signs_of(block) @ np.array(self.organism, np.float32), np.float32)

    def evidence_of(self, weighed_B: Float[ndarray, "B"]) -> NDArray[np.float64]:  # noqa: F821
        """Return the share of known photographs with less evidence, 0 to 1; 1 for all if nothing was learned."""
        if not self.evidence:
            return np.ones(len(weighed_B))
        return np.asarray(np.interp(weighed_B, self.evidence, np.linspace(0, 1, len(self.evidence))), np.float64)

    def recognises(self, weighed_B: Float[ndarray, "B"]) -> Bool[ndarray, "B"]:  # noqa: F821
        """Tell for each image whether it shows an organism."""
        return np.asarray(weighed_B >= self.least_evidence)


def _read_trust(facts: Mapping[str, Any]) -> Trust:
    weights = tuple(tuple(map(float, of_rank)) for of_rank in facts.get("trust", ()))
    return Trust(weights, Spread.of_json(facts["spread"]) if facts.get("spread") else None)


def read_calibration(*facts: Mapping[str, Any]) -> Calibration | None:
    """Return the calibration of the first facts that have one (a bank's before its model's).

    Raises:
        LinnaeaError: it is damaged.
    """
    first = next((given for given in facts if given.get(KEY)), None)
    if first is None:
        return None
    try:
        return Calibration.of_json(first[KEY])
    except LinnaeaError as error:
        raise LinnaeaError(f"{first.path}: {error}" if isinstance(first, Facts) else str(error)) from error


def read_replaced(*facts: Mapping[str, Any]) -> Calibration:
    """Return the calibration that is about to be replaced; an empty one if there is none, or if it is damaged."""
    try:
        return read_calibration(*facts) or Calibration()
    except LinnaeaError:
        return Calibration()


def explain_lost(before: Calibration, now: Calibration) -> tuple[str, ...]:
    """Return a line for each thing that a calibration had learned, and the one in its place has not."""
    lost = []
    if before.trust.weights and not now.trust.weights:
        lost.append("the calibration before had learned from --rehearsals how far answers are to be trusted; now the"
                    " probability alone decides at --rank auto")  # fmt: skip
    if before.organism and not now.organism:
        lost.append("the calibration before had learned from --no-organism; now pictures without an organism are told"
                    " apart less well")  # fmt: skip
    return tuple(lost)


def write_calibration(folder: Path, calibration: Calibration) -> Path:
    """Write a calibration into the ``bank.json`` or ``linnaea.json`` of ``folder``, and keep the other facts.

    Raises:
        LinnaeaError: the folder is neither a bank nor a model.
    """
    places = [folder / BANK_FACTS_FILE, folder / MODEL_FACTS_FILE, folder / "model" / MODEL_FACTS_FILE]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise LinnaeaError(f"{folder}: not a label bank or model folder; give one to keep the calibration in")
    with hold_output(folder, kind="command"):
        facts = read_json(path, kind="the facts of a label bank or model")
        write_atomically(path, json.dumps(facts | {KEY: calibration.to_json()}, indent=1, ensure_ascii=False))
    return path


def calibrate_probabilities(
    probability_BK: Float32[ndarray, "B K"],
    bank: LabelBank,
    calibration: Calibration,
    image_BE: Float32[ndarray, "B E"] | None = None,
    logit_scale: float = 1.0,
) -> Float32[ndarray, "B K"]:
    """Apply everything but the temperature to probabilities that were computed at that temperature.

    The result sums to 1, and its sums over a rank's groups are that rank's calibrated probabilities. The unit vectors
    of the images and the scale of their logits (:func:`weigh_labels`) are needed if the calibration has heads.
    """
    probability_BK = weigh_labels(probability_BK, bank, calibration, image_BE, logit_scale)
    if all(sharpness == 1 for sharpness in calibration.sharpness):
        return probability_BK
    calibrated = np.empty_like(probability_BK)

    def sharpen(rows: slice) -> None:
        _sharpen_labels(probability_BK[rows], bank.groups, calibration.sharpness, out=calibrated[rows])

    in_parts(sharpen, probability_BK.shape)
    return calibrated


def _sharpen_labels(
    probability_BK: NDArray[np.float32], groups: RankGroups, sharpness: Sequence[float], out: NDArray[np.float32]
) -> None:
    """Write the calibrated probabilities of labels, from those that they had before."""
    sums = {rank: sums if sums is probability_BK else np.minimum(sums, 1)
            for rank, sums in groups.sums(probability_BK).items()}  # fmt: skip
    species_BS = sharpen_ranks(sums, groups, sharpness)[Rank.SPECIES]
    if len(groups.starts[Rank.SPECIES]) == groups.n_rows:
        out[:] = species_BS
        return
    row_group = groups.of_species
    np.divide(probability_BK, np.maximum(sums[Rank.SPECIES], TINY).take(row_group, axis=1), out=out)
    out *= species_BS.take(row_group, axis=1)


def sharpen_ranks(
    sums_of: Mapping[Rank, NDArray[np.float32]], groups: RankGroups, sharpness: Sequence[float]
) -> dict[Rank, NDArray[np.float32]]:
    """Return the calibrated probabilities ``[B, G]`` of ranks, kingdom first, from the sums of their groups.

    ``sums_of`` has every rank from kingdom to the lowest that is wanted. A factor on all sums of an image has no
    effect.
    """
    n_images = len(sums_of[Rank.KINGDOM])
    calibrated, above = dict[Rank, NDArray[np.float32]](), np.ones((n_images, 1), np.float32)
    for rank in sorted(sums_of):
        parent, first = groups.parents(rank), groups.first_children[rank]
        shares = _sharpen(sums_of[rank], parent, first, sharpness[rank])
        shares *= above.take(parent, axis=1)
        calibrated[rank] = above = shares
    return calibrated


def weigh_labels(
    probability_BK: Float32[ndarray, "B K"],
    bank: LabelBank,
    calibration: Calibration,
    image_BE: Float32[ndarray, "B E"] | None,
    logit_scale: float,
) -> Float32[ndarray, "B K"]:
    """Return the probabilities after untrained labels were weighed and the bank's heads pooled, before sharpness.

    ``logit_scale`` is the model's, divided by the temperature.

    Raises:
        ValueError: the calibration has heads, but there are no images.
    """
    weighed_BK = _weigh_untrained(probability_BK, bank, calibration.untrained)
    if not calibration.heads:
        return weighed_BK
    if image_BE is None:
        raise ValueError("a calibration with heads needs the vectors of the images")
    return pool_heads(weighed_BK, image_BE, bank, calibration.heads, logit_scale)


def _weigh_untrained(
    probability_BK: Float32[ndarray, "B K"], bank: LabelBank, factor: float
) -> Float32[ndarray, "B K"]:
    weights = weights_of_untrained(bank, factor)
    return probability_BK if weights is None else apply_prior(probability_BK, weights[None])


def weights_of_untrained(bank: LabelBank, factor: float) -> Float32[ndarray, "K"] | None:  # noqa: F821
    """Return the weight of each label; ``None`` if all weigh the same."""
    if factor == 1 or bank.trained.all() or not bank.trained.any():
        return None
    return np.where(bank.trained, np.float32(1), np.float32(factor))


def _sharpen(
    values: NDArray[np.float32], parent: NDArray[np.int64], first: NDArray[np.int64], power: float
) -> NDArray[np.float32]:
    """Raise shares within each parent to ``power`` and normalise them again.

    ``parent`` is ascending, and ``first`` the first child of each parent.
    """
    largest = np.maximum(np.maximum.reduceat(values, first, axis=1), TINY)
    shares = np.maximum(values, TINY)
    shares /= largest.take(parent, axis=1)
    if power != 1:
        np.power(shares, np.float32(power), out=shares)
    shares /= np.add.reduceat(shares, first, axis=1).take(parent, axis=1)
    return shares


def find_groups(truth: Sequence[Taxon], bank: LabelBank) -> Int64[ndarray, "N 7"]:
    """Return for each taxon and rank the number of the bank's group with the same lineage, or ``UNKNOWN``.

    The genus of a species that the bank lacks is found if the bank has another species of it. One of several classes of
    a species has the group of its own name, and the species itself the first group of its lineage that is no class.
    """
    found: dict[Taxon, list[int]] = {}
    numbers: list[dict[tuple[str, ...], int]] = []
    columns = [bank.taxa[rank.label].fill_null("") for rank in Rank]
    class_rows = find_classes(bank.taxa)
    for rank in Rank:
        starts = bank.groups.starts[rank]
        heads = list(zip(*(column.gather(starts) for column in columns[: rank + 1]), strict=True))
        first: dict[tuple[str, ...], int] = {}
        for number in np.argsort(np.isin(starts, class_rows), kind="stable").tolist():
            first.setdefault(heads[number], number)
        numbers.append(first)
    classes = {bank.taxon(row): int(bank.groups.of_species[row]) for row in class_rows.tolist()}
    for taxon in set(truth):
        lowest = -1 if taxon.rank is None else taxon.rank
        found[taxon] = [
            numbers[rank].get(taxon.lineage[: rank + 1], UNKNOWN) if rank <= lowest else UNKNOWN for rank in Rank
        ]
        found[taxon][Rank.SPECIES] = classes.get(taxon, found[taxon][Rank.SPECIES])
    return np.array([found[taxon] for taxon in truth], np.int64).reshape(len(truth), N_RANKS)


def has_names(truth: Sequence[Taxon]) -> Bool[ndarray, "N 7"]:
    """Tell at which ranks each taxon has a name."""
    return np.array([[bool(name) for name in taxon.lineage] for taxon in truth], bool).reshape(len(truth), N_RANKS)


def signs_of(block: Scored | Ranked) -> Float32[ndarray, "B E1"]:
    """Return the features that tell organisms from other pictures: the vector, and the energy at the same weight."""
    weight = np.float32(np.sqrt(block.image_BE.shape[1]))
    return np.concatenate([block.image_BE, weight * block.energy_B[:, None]], axis=1)
