"""Score a model on one split, given the candidates, captions and protocols to use."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import open_clip
import polars as pl
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray

from linnaea.counting import count
from linnaea.data.copies.bursts import find_bursts, look_at_each
from linnaea.data.naming import make_naming
from linnaea.data.shards import DataSet, taxa_from_table
from linnaea.data.splits import BENCHMARK, HELD_BACK, UNSEEN
from linnaea.errors import LinnaeaError
from linnaea.evaluate.intervals import mean_of_classes
from linnaea.evaluate.probes import FewShotScore, ProbeName, score_few_shot, score_probes
from linnaea.evaluate.tasks.photographs import TaskImages
from linnaea.evaluate.zero_shot import ZeroShotAnswers, classify, score_answers, score_seen
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.encode import encode_names
from linnaea.model.load import TaxonModel
from linnaea.predict.calibration import KEY as CALIBRATION
from linnaea.predict.label_lists import read_taxa
from linnaea.predict.labels import FACTS_FILE, LEARNED, LabelBank, is_from_photographs, mark_trained
from linnaea.storage import read_regular
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType
from linnaea.taxonomy.tree import find_classes

TEMPLATES: dict[str, tuple[str, ...]] = {
    "photo": (PHOTO_TEMPLATE,),
    "plain": ("{}",),
    "openai": tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES),
}
"""Caption templates by name. ``openai`` holds the 80 templates of CLIP's ImageNet evaluation, as in the paper."""
NO_CLASS = -1


def read_templates(word: str) -> tuple[str, ...]:
    """Return templates by name (:data:`TEMPLATES`) or from a file with one template per line.

    The taxon's name replaces ``{}`` in each template.

    Raises:
        LinnaeaError: The file does not exist or is empty, or a line has no ``{}``.
    """
    if word in TEMPLATES:
        return TEMPLATES[word]
    try:
        lines = [line for line in read_regular(Path(word)).decode().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LinnaeaError(f"--templates {word}: not one of {', '.join(TEMPLATES)} or a text file ({error})") from None
    wrong = next((line for line in lines if "{}" not in line), None)
    if wrong is not None or not lines:
        raise LinnaeaError(f"--templates {word}: {f'the line {wrong!r} has no {{}}' if lines else 'is empty'}")
    return tuple(lines)


CaptionForm: TypeAlias = TextType | Literal["asis"]
"""A text type, or ``asis`` for the raw labels of the source, which the published scripts use for most tasks."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to evaluate: candidates, captions, protocols and extra analyses."""

    text_types: tuple[CaptionForm, ...] = (TextType.TAXON_COM,)
    """Caption forms of the candidates, with one zero-shot evaluation each. ``asis`` uses the source's raw labels. If
    empty, the form is ``taxon_com``; a task evaluates its published form first."""
    templates: str = "photo"
    """A name in :data:`TEMPLATES` or a file (:func:`read_templates`). If empty, ``photo``, or ``openai`` for a task."""
    candidates: Literal["split", "all"] = "split"
    """Use the taxa of the evaluated split as candidates, or those of all splits."""
    labels: Path | None = None
    """Read the candidates from a file, a bank, a model's folder or another data set instead. A bank's calibration is
    applied if this model made it."""
    shots: tuple[int, ...] = (0, 1, 5)
    """Images per class: 0 is zero-shot; other numbers run SimpleShot over five folds."""
    probes: tuple[ProbeName, ...] = ()
    """Classifiers to fit on the frozen features, in addition to SimpleShot."""
    seen: Path | None = None
    """Taxa that the model was trained on (any file or folder of taxa; of a data set, those of its split train).
    Seen and unseen species are scored apart."""
    structure: bool = False
    """Analyse how the vectors reflect the tree; it takes minutes."""
    by_rank: bool = False
    """Score four ways of answering at each rank (:mod:`linnaea.evaluate.rankwise`)."""
    no_organism: Path | None = None
    """A folder of pictures without an organism, to measure how well the model rejects them."""
    domain: str = "domain"
    """The fact of the records that names their domain (field, studio, ...). The source is used if no record has it."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Flat metrics and the answers that they were computed from."""

    metrics: dict[str, int | float]
    answers: dict[str, ZeroShotAnswers] = field(default_factory=dict)
    few_shot: tuple[FewShotScore, ...] = ()
    banks: dict[str, LabelBank] = field(default_factory=dict)
    """The label bank of the candidates for each caption form."""


def evaluate_features(
    model: TaxonModel,
    whole: DataSet,
    dataset: DataSet,
    features_NE: Float32[ndarray, "N E"],
    question: Question,
    *,
    heads: Mapping[Rank, LabelBank] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Scores:
    """Score unit vectors of the images of ``dataset``, which is a split of ``whole``.

    A model with class heads answers with them. Its text tower is untrained, so it has no zero-shot scores.

    Raises:
        LinnaeaError: A true taxon is not among the requested labels.
    """
    metrics: dict[str, int | float] = {"n_images": len(dataset), "n_classes": dataset.index["taxon_id"].n_unique()}
    answers: dict[str, ZeroShotAnswers] = {}
    banks: dict[str, LabelBank] = {}
    if 0 in question.shots and heads:
        metrics |= score_class_heads(features_NE, dataset, heads)
    elif 0 in question.shots and model.has_text:
        truth_N, candidates = find_candidates(whole, dataset, question)
        metrics["n_candidates"] = candidates.height
        templates = read_templates(question.templates)
        for form in question.text_types:
            captions = make_captions(form, candidates, whole)
            plain = _finished_bank(question.labels, form, model)
            if plain is None:
                vectors = encode_names(model, captions, templates, on_progress=on_progress)
                plain = LabelBank(candidates, vectors, {"text_type": str(form)})
            bank = banks[form] = _with_calibration(plain, question.labels, model)
            answers[form] = classify(features_NE, truth_N, bank, captions, model.logit_scale)
            scored = score_answers(answers[form])
            metrics |= {f"zero_shot/{form}/{name}": value for name, value in scored.items()}
            metrics[f"zero_shot/{form}/n_classes"] = len(answers[form].candidates)
            if question.seen is not None:
                scored = score_seen(answers[form], find_seen(dataset, question.seen))
                metrics |= {f"zero_shot/{form}/{name}": value for name, value in scored.items()}
    shots = [n for n in question.shots if n > 0]
    few_shot = tuple(score_few_shot(features_NE, dataset.index["taxon_id"].to_numpy(), shots))
    for score in few_shot:
        if score.n_classes > 1 and not np.isnan(score.mean):
            place = f"few_shot/{score.n_shots}"
            metrics |= {f"{place}/mean": score.mean, f"{place}/std": score.std, f"{place}/n_classes": score.n_classes,
                        f"{place}/mean_by_class": score.mean_by_class}  # fmt: skip
    if question.probes:
        groups = find_groups(dataset)
        metrics["probe/n_groups"] = len(np.unique(groups))
        probed = score_probes(features_NE, dataset.index["taxon_id"].to_numpy(), question.probes, group_N=groups)
        for probe in probed:
            place = f"probe/{probe.probe}"
            metrics |= {f"{place}/mean": probe.mean, f"{place}/std": probe.std, f"{place}/n_classes": probe.n_classes,
                        f"{place}/mean_by_class": float(np.mean(probe.by_class))}  # fmt: skip
    return Scores(metrics=metrics, answers=answers, few_shot=few_shot, banks=banks)


def _finished_bank(labels: Path | None, form: CaptionForm, model: TaxonModel) -> LabelBank | None:
    """Return the bank that the candidates come from, if its vectors are not those of the captions alone.

    It is a published bank, or one of this model whose vectors were learned from photographs, too: a head that
    ``linnaea adapt`` made answers as it does in ``linnaea predict``.

    Raises:
        LinnaeaError: the head was made with another model.
    """
    if labels is None or form != TextType.TAXON_COM or not (labels / FACTS_FILE).exists():
        return None
    bank = LabelBank.open(labels)
    is_ours, is_head = bank.is_of(model), is_from_photographs(bank)
    if is_head and not is_ours:
        raise LinnaeaError(f"{labels}: this head was made with another model; evaluate that one, or adapt {model.name}")
    return bank if "published" in bank.facts or (is_ours and (is_head or LEARNED in bank.facts)) else None


def open_head(labels: Path | None) -> LabelBank | None:
    """Return the labels if they are a head that was made from photographs; otherwise ``None``."""
    if labels is None or not (labels / FACTS_FILE).exists():
        return None
    bank = LabelBank.open(labels)
    return bank if is_from_photographs(bank) else None


def _with_calibration(bank: LabelBank, labels: Path | None, model: TaxonModel) -> LabelBank:
    """Return the bank with the calibration of the bank at ``labels``, if this model made that from these captions."""
    if labels is None or not (labels / FACTS_FILE).exists():
        return bank
    asked = LabelBank.open(labels)
    same_form = asked.facts.get("text_type") == bank.facts.get("text_type")
    is_ours = same_form and asked.is_of(model)
    if not is_ours or CALIBRATION not in asked.facts:
        return bank
    taxa = mark_trained(bank.taxa, asked.taxa.filter(asked.trained))
    facts = bank.facts | {CALIBRATION: asked.facts[CALIBRATION]}
    return replace(bank, taxa=taxa, facts=facts, heads=asked.heads)


def find_groups(dataset: DataSet) -> Int64[ndarray, "N"]:  # noqa: F821
    """Return the group of each image: that of the data set (an individual, a burst), or, without any, its burst."""
    group, key = dataset.index["group"], dataset.index["key"]
    if (group != "").any():
        own = group.zip_with(group != "", "image " + key)
        return np.unique(own.to_numpy(), return_inverse=True)[1].astype(np.int64)
    shots = look_at_each(partial(dataset.read, row) for row in range(len(dataset)))
    return find_bursts(shots, [""] * len(dataset), dataset.index["taxon_id"].to_list())


def find_seen(dataset: DataSet, seen: Path) -> Bool[ndarray, "N"]:  # noqa: F821
    """Return for each image whether its taxon is in ``seen``; species match by binomial, others by all rank names.

    Of a data set, the taxa of the training split count.
    """
    table = _trained_taxa(DataSet.open(seen)) if (seen / "index.parquet").exists() else read_taxa(seen)
    binomials = set(table.filter(pl.col("species") != "")["scientific_name"])
    lineages = set(table.select(RANK_LABELS).rows())
    is_seen = [taxon.scientific_name in binomials if taxon.species else taxon.lineage in lineages
               for taxon in dataset.taxa_list]  # fmt: skip
    return np.asarray(np.array(is_seen, bool)[dataset.index["taxon_id"].to_numpy()])


def _trained_taxa(dataset: DataSet) -> pl.DataFrame:
    """Return the taxa with a picture in the split ``train``, or without it in any split that is not held out."""
    split = dataset.index["split"]
    is_trained = split == "train" if "train" in split.unique() else ~split.is_in([UNSEEN, BENCHMARK, HELD_BACK])
    return dataset.taxa[dataset.index.filter(is_trained)["taxon_id"].unique().sort().to_list()]


def make_captions(form: CaptionForm, candidates: pl.DataFrame, whole: DataSet) -> list[str]:
    """Return the text of each candidate, which is put into the templates.

    Raises:
        LinnaeaError: Raw labels are requested, and a candidate has none.
    """
    if form != "asis":
        return [taxon.caption(form) for taxon in taxa_from_table(candidates)]
    labels = read_raw_labels(whole)
    ids = candidates.join(whole.taxa, on=[*RANK_LABELS, "common_name"], how="left", maintain_order="left")
    captions = [labels.get(number, "") for number in ids["taxon_id_right"]]
    if missing := captions.count(""):
        raise LinnaeaError(f"{whole.directory}: {missing} of {len(captions)} candidates have no raw label; choose"
                           " another --text-type")  # fmt: skip
    return captions


def read_raw_labels(dataset: DataSet) -> dict[int, str]:
    """Return the most frequent source label of each taxon, by taxon id, from the facts in the shards."""
    if isinstance(dataset, TaskImages):
        return dict(dataset.raw_labels)
    wanted = dict(zip(dataset.index["key"], dataset.index["taxon_id"], strict=True))
    counts: dict[int, Counter[str]] = {}
    for key, facts in dataset.iter_facts():
        label = " ".join(facts.get("label", "").split())
        counts.setdefault(wanted[key], Counter())[label] += 1
    return {number: min(labels, key=lambda label: (-labels[label], label)) for number, labels in counts.items()}


def find_candidates(whole: DataSet, dataset: DataSet, question: Question) -> tuple[Int64[ndarray, "N"], pl.DataFrame]:  # noqa: F821
    """Return the row of the truth for each image of ``dataset``, and the table of candidates in depth-first order."""
    if question.labels is None:
        ids = (whole if question.candidates == "all" else dataset).index["taxon_id"].unique().sort()
        truth = np.searchsorted(ids.to_numpy(), dataset.index["taxon_id"].to_numpy())
        return truth.astype(np.int64), dataset.taxa[ids.to_list()]
    found, table = _find_truth(dataset, read_taxa(question.labels))
    if found.null_count() and not question.labels.is_dir():  # the names of a file, as a data set has them resolved
        found, table = _find_truth(dataset, read_taxa(question.labels, make_naming()))
    if missing := found.null_count():
        raise LinnaeaError(
            f"{question.labels}: lacks the taxa of {missing} of {count(len(found), 'image', '')}; add their labels"
        )
    return found.cast(pl.Int64).to_numpy(), table


def _find_truth(dataset: DataSet, table: pl.DataFrame) -> tuple[pl.Series, pl.DataFrame]:
    """Return the row of ``table`` for each image of ``dataset``, null where it lacks the taxon, and the table.

    Classes of one lineage (``Danaus plexippus larva``), and those without any, are told apart by their common names. A
    species whose common name is not there is the first row of its lineage that is no class.
    """
    key = [*RANK_LABELS, "common_name"]
    places = table.with_row_index("place").select(*key, "place")
    whole, named = places.unique(key, keep="first", maintain_order=True), pl.any_horizontal(pl.col(RANK_LABELS) != "")
    is_class = pl.Series(np.isin(np.arange(table.height), find_classes(table)))
    plain_first = places.sort(is_class, maintain_order=True).filter(named)
    lineages = plain_first.unique(RANK_LABELS, keep="first", maintain_order=True)
    exact = dataset.taxa.join(whole, on=key, how="left", maintain_order="left")["place"]
    by_lineage = dataset.taxa.join(
        lineages.select(*RANK_LABELS, "place"), on=RANK_LABELS, how="left", maintain_order="left"
    )["place"]
    return exact.fill_null(by_lineage).gather(dataset.index["taxon_id"]), table


def score_class_heads(
    features_NE: Float32[ndarray, "N E"], dataset: DataSet, heads: Mapping[Rank, LabelBank]
) -> dict[str, int | float]:
    """Return the accuracy of each rank's class head, over the images whose taxon is one of its classes.

    Keys are ``class_head/genus/top1``, ``chance/top1``, ``n_classes`` and ``share_answerable``. The last is the share
    of counted images among those with a name at the rank: an unseen species has no class, but its genus may have one.
    If no image is answerable, ``top1`` is left out.
    """
    metrics: dict[str, int | float] = {}
    for rank, bank in heads.items():
        truth_N, named_N = find_truths(dataset, bank, rank)
        known_N = truth_N != NO_CLASS
        place = f"class_head/{rank.label}"
        metrics[f"{place}/n_classes"] = len(bank)
        if not named_N.any():
            continue
        metrics[f"{place}/share_answerable"] = float(known_N.sum() / named_N.sum())
        if known_N.any():
            answer_N = (features_NE[known_N] @ np.asarray(bank.vectors).T).argmax(axis=1)
            right_N = answer_N == truth_N[known_N]
            metrics[f"{place}/top1"] = float(right_N.mean())
            metrics[f"{place}/top1_by_class"] = mean_of_classes(right_N, truth_N[known_N])
            metrics[f"{place}/chance/top1"] = 1 / len(bank)
    return metrics


def find_truths(dataset: DataSet, bank: LabelBank, rank: Rank) -> tuple[Int64[ndarray, "N"], ndarray]:  # noqa: F821
    """Return each image's class at a rank (-1 if the bank lacks it), and whether the image has a name at that rank."""
    class_of = {_down_to(taxon, rank): number for number, taxon in enumerate(bank.taxa_list)}
    taxa = dataset.taxa_list
    of_taxon = np.array([class_of.get(_down_to(taxon, rank), NO_CLASS) for taxon in taxa], np.int64)
    named = np.array([bool(taxon[rank]) for taxon in taxa])
    ids = dataset.index["taxon_id"].to_numpy()
    return np.where(named, of_taxon, NO_CLASS)[ids], named[ids]


def _down_to(taxon: Taxon, rank: Rank) -> tuple[str, ...]:
    return taxon.lineage[: rank + 1]
