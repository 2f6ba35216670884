"""Examine a run beyond its accuracy: calibration, consistency with the tree, vector structure, revisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from jaxtyping import Float32
from numpy import ndarray

from linnaea.data.shards import DataSet
from linnaea.evaluate import embedding_structure as structure
from linnaea.evaluate.breakdown import per_clade, per_domain, read_domains
from linnaea.evaluate.embedding_structure import Level, lay_out
from linnaea.evaluate.hierarchy import revise, score_brittleness, score_consistency, score_distances, shuffle
from linnaea.evaluate.intervals import mean_of_classes
from linnaea.evaluate.trust import (
    EVIDENCE,
    Beliefs,
    Evidence,
    collect_beliefs,
    compare_evidence,
    hold_out,
    score_assertions,
    score_calibration,
    score_evidence,
    score_intervals,
)
from linnaea.evaluate.zero_shot import ZeroShotAnswers
from linnaea.model.encode import encode_taxa
from linnaea.model.load import TaxonModel
from linnaea.predict.calibration import Calibration, find_groups, has_names, read_calibration
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon, TextType
from linnaea.taxonomy.tree import number_lineages

DOMAIN_RANKS = ("species", "genus", "family")
"""The ranks whose accuracy the metrics give for each domain."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Flat metrics, and the data of the report's figures."""

    metrics: Mapping[str, int | float] = field(default_factory=dict)
    beliefs: Beliefs | None = None
    uncalibrated: Beliefs | None = None
    """The beliefs without the calibration, if the bank has one."""
    known: Evidence | None = None
    unknown: Mapping[str, Evidence] = field(default_factory=dict)
    """Evidence of images without a label, by kind."""
    levels: tuple[Level, ...] = ()
    truth: tuple[Taxon, ...] = ()
    clades: pl.DataFrame | None = None
    domains: pl.DataFrame | None = None


def examine(
    model: TaxonModel,
    dataset: DataSet,
    features_NE: Float32[ndarray, "N E"],
    bank: LabelBank | None,
    answers: ZeroShotAnswers | None,
    *,
    with_structure: bool,
    nothing_ME: Float32[ndarray, "M E"] | None = None,
    domain: str = "domain",
) -> Findings:
    """Examine the first caption form of a run.

    ``bank`` and ``answers`` belong to that form; they are ``None`` for a model without a text encoder.
    ``nothing_ME`` holds the vectors of pictures without an organism. ``with_structure`` adds analyses that take
    minutes: t-SNE, neighbours, and brittleness under revisions.
    """
    truth = [dataset.taxon(number) for number in dataset.index["taxon_id"]]
    class_N = dataset.index["taxon_id"].to_numpy()
    numbers = number_lineages(taxon.lineage for taxon in truth)
    metrics: dict[str, int | float] = {}
    findings = Findings(truth=tuple(truth))
    if bank is not None and answers is not None:
        findings = _trust(model, features_NE, truth, class_N, bank, nothing_ME)
        assert findings.beliefs is not None
        metrics |= findings.metrics
        first = answers.best_NK[:, 0]
        distances = score_distances(answers.candidates, answers.truth_N, first)
        metrics |= {f"hierarchy/{name}": value for name, value in distances.items()}
        consistency = score_consistency(findings.beliefs.best_NR, bank)
        metrics |= {f"hierarchy/{name}": value for name, value in consistency.items()}
        right, counted = findings.beliefs.right_NR, findings.beliefs.counted_NR
        domain_N = read_domains(dataset, domain)
        domains = per_domain(domain_N, right, counted)
        metrics |= {f"domain/{row['domain']}/{label}": row[label] for row in domains.iter_rows(named=True)
                    for label in DOMAIN_RANKS if row[label] is not None}  # fmt: skip
        metrics |= _domains_by_class(np.array(domain_N), class_N, right, counted)
        findings = _with(findings, clades=per_clade(truth, right, counted), domains=domains)
        if with_structure:
            metrics |= _brittleness(model, features_NE, truth, bank)
    levels: list[Level] = []
    if with_structure:
        parts = [
            structure.score_purity(features_NE, numbers),
            structure.score_distances(features_NE, numbers, class_N),
            structure.score_orthogonality(features_NE, class_N),
        ]
        metrics |= {f"structure/{name}": value for part in parts for name, value in part.items()}
        levels = lay_out(features_NE, numbers, truth)
    return _with(findings, metrics=metrics, levels=tuple(levels), truth=tuple(truth))


def _domains_by_class(domain_N: ndarray, class_N: ndarray, right_NR: ndarray, counted_NR: ndarray) -> dict[str, float]:
    metrics = {}
    for domain in np.unique(domain_N):
        for label in DOMAIN_RANKS:
            chosen = (domain_N == domain) & counted_NR[:, Rank.parse(label)]
            if chosen.any():
                right = right_NR[chosen, Rank.parse(label)]
                metrics[f"domain/{domain}/{label}_by_class"] = mean_of_classes(right, class_N[chosen])
    return metrics


def _with(findings: Findings, **parts: object) -> Findings:
    from dataclasses import replace

    return replace(findings, **parts)  # type: ignore[arg-type]


def _trust(
    model: TaxonModel,
    features_NE: Float32[ndarray, "N E"],
    truth: list[Taxon],
    class_N: ndarray,
    bank: LabelBank,
    nothing_ME: Float32[ndarray, "M E"] | None,
) -> Findings:
    group = find_groups(truth, bank)
    named = has_names(truth)
    calibration = read_calibration(bank.facts, model.facts)
    asked = (features_NE, group, named, bank, model.logit_scale)
    beliefs = collect_beliefs(*asked, calibration or Calibration())
    metrics: dict[str, int | float] = {"calibration/fitted": int(calibration is not None)}
    metrics |= score_intervals(beliefs, class_N) | score_calibration(beliefs) | score_assertions(beliefs, class_N)
    uncalibrated = None
    if calibration is not None:
        uncalibrated = collect_beliefs(*asked, Calibration())
        raw = score_calibration(uncalibrated) | score_assertions(uncalibrated, class_N)
        metrics |= {f"uncalibrated/{name}": value for name, value in raw.items()}
    how = model.logit_scale, calibration or Calibration()
    known, unknown = score_evidence(features_NE, bank, *how), {}
    for rank in (Rank.SPECIES, Rank.FAMILY):
        if (held := hold_out(bank, group, rank)) is not None:
            small, out = held
            evidence = score_evidence(features_NE, small, *how)
            inside, outside = _part(evidence, ~out), _part(evidence, out)
            place = f"open_set/{rank.label}"
            metrics |= {f"{place}/{name}": value for name, value in compare_evidence(inside, outside).items()}
            unknown[f"{rank.label} without a label"] = outside
    if nothing_ME is not None:
        nothing = score_evidence(nothing_ME, bank, *how)
        metrics |= {f"open_set/no_organism/{name}": value for name, value in compare_evidence(known, nothing).items()}
        metrics["open_set/no_organism/n_images"] = len(nothing_ME)
        if calibration is not None:
            metrics["open_set/no_organism/recognised"] = float(calibration.recognises(nothing.calibrated).mean())
            metrics["open_set/organism/recognised"] = float(calibration.recognises(known.calibrated).mean())
        unknown["no organism"] = nothing
    return Findings(metrics=metrics, beliefs=beliefs, uncalibrated=uncalibrated, known=known, unknown=unknown)


def _part(evidence: Evidence, chosen: ndarray) -> Evidence:
    return Evidence(**{name: getattr(evidence, name)[chosen] for name in EVIDENCE})


def _brittleness(
    model: TaxonModel, features_NE: Float32[ndarray, "N E"], truth: list[Taxon], bank: LabelBank
) -> dict[str, float]:
    """Score brittleness with full lineages as captions; a revision does not change other caption forms."""
    place = {taxon: row for row, taxon in enumerate(bank.taxa_list)}
    rows = np.array([place.get(taxon, -1) for taxon in truth])
    if not (rows >= 0).any():
        return {}

    def encode(taxa: object) -> Float32[ndarray, "K E"]:
        return np.asarray(encode_taxa(model, list(taxa), TextType.TAXON_COM), np.float32)  # type: ignore[call-overload]

    old = LabelBank(bank.taxa, encode(bank.taxa_list), bank.facts)
    revisions = {"revised": revise(bank.taxa_list), "shuffled": shuffle(bank.taxa_list)}
    return score_brittleness(features_NE[rows >= 0], rows[rows >= 0], old, model.logit_scale, encode, revisions)
