"""How deep to go: the lowest rank that is sure enough, on one path from the root."""

from jaxtyping import Bool, Float32
from numpy import ndarray

from linnaea.predict.calibration import Calibration, calibrate_probabilities
from linnaea.predict.classifier import Guess, Scored, sum_to_all_ranks
from linnaea.predict.labels import LabelBank
from linnaea.predict.priors import apply_prior
from linnaea.taxonomy.ranks import Rank

NOTHING = "no organism recognised"


def decide_calibrated(
    block: Scored,
    bank: LabelBank,
    calibration: Calibration,
    confidence: float,
    weight_BK: Float32[ndarray, "#B K"] | None = None,
) -> list[Guess | tuple[str, float]]:
    """For each image the deepest taxon that is right with at least ``confidence``, or why there is none, with a score.

    ``block`` was scored at the calibration's temperature. A photograph with too little evidence of any of the bank's
    organisms gets none; its score is the share of known photographs that show even less. Where there is evidence but
    no taxon reaches the confidence, the score is the probability of the likeliest taxon of the highest rank. A prior's
    weights count after the calibration.
    """
    probability = calibrate_probabilities(block.probability_BK, bank, calibration)
    if weight_BK is not None:
        probability = apply_prior(probability, weight_BK)
    weighed = calibration.weigh(block)
    recognised, evidence = calibration.recognises(weighed), calibration.evidence_of(weighed)
    highest = sum_to_all_ranks(probability, bank)[Rank.KINGDOM].max(axis=1)
    answers: list[Guess | tuple[str, float]] = []
    for image, guess in enumerate(decide(probability, bank, confidence, recognised)):
        if guess is not None:
            answers.append(guess)
        elif not recognised[image]:
            reason = f"{NOTHING}: less evidence than {1 - evidence[image]:.1%} of known photographs show"
            answers.append((reason, float(evidence[image])))
        else:
            answers.append((f"{NOTHING}: no taxon reaches {confidence:g}", float(highest[image])))
    return answers


def decide(
    probability_BK: Float32[ndarray, "B K"],
    bank: LabelBank,
    confidence: float,
    recognised_B: Bool[ndarray, "B"] | None = None,  # noqa: F821
) -> list[Guess | None]:
    """For each image the deepest taxon whose probability reaches ``confidence``; ``None`` where none does.

    From the root down, the likeliest child of the taxon chosen so far; the answers of all ranks lie on one
    path. The probabilities are among the bank's taxa: they say nothing of what is not in it. Images that are not
    ``recognised`` get ``None``.
    """
    chosen: list[Guess | None] = [None] * len(probability_BK)
    ranges = [(0, len(bank))] * len(probability_BK)
    if recognised_B is not None:
        ranges = [(0, len(bank) if known else 0) for known in recognised_B]
    sums_of = sum_to_all_ranks(probability_BK, bank)
    for rank in Rank:
        sums = sums_of[rank]
        for image, rows in enumerate(ranges):
            first, last = bank.groups.children(rank, rows)
            if first == last:
                continue
            group = int(first + sums[image, first:last].argmax())
            score = float(sums[image, group])
            if score < confidence:
                ranges[image] = (0, 0)
                continue
            ranges[image] = bank.groups.rows(rank, group)
            taxon = bank.group(rank, group)
            if taxon is not None and (taxon[rank] or rank == Rank.SPECIES):
                chosen[image] = Guess(taxon, taxon.rank, score)
    return chosen
