"""Evaluate a model on photographs with known names, and write scores and a report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
from jaxtyping import Float32
from numpy import ndarray

from linnaea.counting import agree, count
from linnaea.data.naming import NamingRule, make_naming
from linnaea.data.shards import DataSet, write_parquet
from linnaea.data.sources.folder import FolderSource
from linnaea.errors import LinnaeaError, UsageError
from linnaea.evaluate.breakdown import tabulate_examples
from linnaea.evaluate.embedding_structure import LEVELS_FILE, tabulate_levels
from linnaea.evaluate.evaluation import CaptionForm, Question, Scores, evaluate_features, open_head, read_templates
from linnaea.evaluate.evaluation_page import write_report
from linnaea.evaluate.examine import Findings, examine
from linnaea.evaluate.features import encode_dataset
from linnaea.evaluate.probes import ProbeName
from linnaea.evaluate.rankwise import score_by_rank
from linnaea.evaluate.tasks import FOLDER, SENTENCES, TASKS, Task
from linnaea.evaluate.tasks.layouts import read_class_folders
from linnaea.evaluate.tasks.photographs import TaskImages, open_task
from linnaea.evaluate.tasks.protocols import score_task
from linnaea.evaluate.zero_shot import ZeroShotAnswers
from linnaea.exchange import hold_output
from linnaea.model.encode import encode_names
from linnaea.model.folders import short_name
from linnaea.model.hub import find_published
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model, see_as
from linnaea.model.preprocess import Preprocessing
from linnaea.predict.calibrate import encode_no_organism
from linnaea.predict.calibration import read_calibration
from linnaea.predict.labels import find_own_labels, load_class_heads
from linnaea.predict.published import is_published_bank, open_bank, open_published_bank
from linnaea.predict.session import see_as_head
from linnaea.progress import progress_bar
from linnaea.storage import write_atomically
from linnaea.taxonomy.resolve import Resolver
from linnaea.taxonomy.taxon import TextType

REPORT_FILE, METRICS_FILE, EXAMPLES_FILE, FACTS_FILE = "report.html", "metrics.json", "examples.parquet", "run.json"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The scores of a model on one set of photographs."""

    title: str
    metrics: Mapping[str, int | float]
    """Flat keys, as in ``metrics.json``: ``zero_shot/taxon_com/top1``, ``few_shot/1/mean``, ``n_images``, ..."""
    facts: Mapping[str, Any]
    """What was evaluated, as in ``run.json``: model, fingerprint, task, captions."""
    examples: pl.DataFrame | None = None
    """One row per photograph with truth and answers; ``None`` for tasks beyond species, which predict no taxon."""
    notes: tuple[str, ...] = ()
    """One line for each thing that was left out."""
    report_path: Path | None = None
    """The report page, if the evaluation was given an ``output``."""
    dataset: DataSet = field(repr=False)
    answers: Mapping[str, ZeroShotAnswers] = field(default_factory=dict, repr=False)
    """The answers with each caption form."""
    findings: Findings = field(default_factory=Findings, repr=False)

    def __repr__(self) -> str:
        shown = [f"{name} {value:.3f}" for name, value in self.metrics.items() if name.endswith(("/top1", "/mean"))]
        shown = [line for line in shown if "chance/" not in line and "majority/" not in line][:4]
        size = f"{count(self.metrics['n_images'], 'image')} of {count(self.metrics['n_classes'], 'class')}"
        return f"<Evaluation {self.title}: {'; '.join([size, *shown])}>"

    def save(self, directory: str | Path) -> Path | None:
        """Write ``metrics.json``, ``run.json``, ``examples.parquet`` and ``report.html``; return the report's path.

        An analysis of the structure adds ``tsne.png`` and ``structure.parquet``, which ``linnaea compare`` reads. A
        task beyond species has no examples and no report; the method then returns ``None``.
        """
        folder = Path(directory)
        write_atomically(folder / METRICS_FILE, json.dumps(self.metrics, indent=1))
        write_atomically(folder / FACTS_FILE, json.dumps(self.facts, indent=1))
        if self.examples is None:
            return None
        write_parquet(self.examples, folder / EXAMPLES_FILE)
        if self.findings.levels:
            write_parquet(tabulate_levels(self.findings.levels, self.examples["key"].to_list()), folder / LEVELS_FILE)
        return write_report(folder, self.dataset, self.metrics, self.answers, self.examples, self.title, self.findings)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model to evaluate, and the folder that caches its vectors."""

    model: TaxonModel
    given: str
    """The model name or folder as the caller gave it."""
    output: Path | None
    n_workers: int

    def held(self) -> AbstractContextManager[None]:
        """Keep other evaluations from writing to the output."""
        return nullcontext() if self.output is None else hold_output(self.output, kind="evaluation")

    @property
    def title(self) -> str:
        """The name of the model."""
        return short_name(self.given)


def evaluate(
    model: str | Path | TaxonModel,
    *,
    data: str | Path | DataSet | None = None,
    split: str = "test",
    sources: Sequence[str] = (),
    species_only: bool = False,
    task: str = "",
    root: str | Path | None = None,
    class_level: int = 0,
    checklist: Sequence[str] = ("inat",),
    allow_different: bool = False,
    output: str | Path | None = None,
    text_type: CaptionForm | Sequence[CaptionForm] = (),
    templates: str = "",
    candidates: Literal["split", "all"] = "split",
    labels: str | Path | None = None,
    shots: Sequence[int] = (0, 1, 5),
    probe: Sequence[ProbeName] = (),
    seen: str | Path | None = None,
    structure: bool = False,
    by_rank: bool = False,
    no_organism: str | Path | None = None,
    domain: str = "domain",
    preprocess: Preprocessing | None = None,
    pretrained: str | None = None,
    device: str = "auto",
    workers: int = 2,
) -> Evaluation:
    """Score a model on a split of a data set or on a published task: zero-shot, few-shot, and chance baselines.

    ``model`` is a name, a folder or a loaded model. ``data`` is a data set whose ``split`` is evaluated. ``task`` is a
    published task (:data:`~linnaea.evaluate.tasks.TASKS`) unpacked in ``root``, with its labels resolved by
    ``checklist``. The task ``"folder"`` takes any folder of class folders at ``class_level``, and evaluates ``split``
    if the folders are also split. ``preprocess`` is ``"crop"`` (the middle square) or ``"squash"`` (the whole
    photograph), by default as the model was trained. ``output`` is the folder for ``metrics.json``,
    ``examples.parquet``, ``report.html`` and the image vectors, which the next evaluation there reuses.
    :class:`~linnaea.evaluate.evaluation.Question` describes the other options.

    Raises:
        UsageError: Both or none of ``data`` and ``task`` are given, or the task is unknown or takes no ``class_level``.
        LinnaeaError: Something cannot be read, a true taxon is not among ``labels``, or another evaluation writes here.
    """
    check_given(data, task, root, class_level)
    chosen = find_task(task) if task else None
    part = None if data is None else _open_data(data, split, tuple(sources), species_only=species_only)
    subject = open_subject(model, _path(output), workers, pretrained=pretrained, device=device, preprocess=preprocess)
    subject, own = _find_labels(subject, labels, preprocess)
    question = Question(text_types=_forms(text_type), templates=templates, candidates=candidates, labels=own,
                        shots=tuple(shots), probes=tuple(probe), seen=_path(seen), structure=structure,
                        by_rank=by_rank, no_organism=_path(no_organism), domain=domain)  # fmt: skip
    with subject.held():
        if part is not None:
            what, title = f"{split} of {part[1].directory.resolve().name}", f"{subject.title} on {split}"
            return _saved(_score(subject, *part, question, what, title), subject.output)
        assert chosen is not None
        source = FolderSource(root=Path(str(root)), class_level=class_level)
        chosen, notes = _open_folder(chosen, source, split, _make_rule(subject.model, question, checklist))
        found = evaluate_task(subject, chosen, source.root, question, checklist, allow_different=allow_different)
        return replace(found, notes=(*notes, *found.notes))


def _find_labels(
    subject: Subject, labels: str | Path | None, preprocess: Preprocessing | None
) -> tuple[Subject, Path | None]:
    """Return the subject, which sees photographs as a head among the labels was fitted, and the place of the labels."""
    place = None if labels is None else _find_place(str(labels), subject.model)
    head = open_head(place)
    seen = subject.model if head is None else see_as_head(subject.model, head, preprocess)
    return replace(subject, model=seen), place


def _find_place(labels: str, model: TaxonModel) -> Path:
    """Return the folder or file of the candidates: a model's own, a published bank in Linnaea's form, or as given."""
    if own := find_own_labels(labels):
        return own
    published, place = find_published(labels), Path(labels)
    if published is None and not is_published_bank(place):
        return place
    bank = open_published_bank(published, model) if published else open_bank(place, model)
    return bank.folder or place


def _forms(given: CaptionForm | Sequence[CaptionForm]) -> tuple[CaptionForm, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _open_data(
    data: str | Path | DataSet, split: str, sources: tuple[str, ...], *, species_only: bool
) -> tuple[DataSet, DataSet]:
    """Return the part of a data set that provides the candidates, and the split of it to evaluate."""
    whole = (data if isinstance(data, DataSet) else DataSet.open(Path(data))).sources(sources)
    whole = whole.to_species() if species_only else whole
    return whole, whole.split(split)


def _make_rule(model: TaxonModel, question: Question, checklists: Sequence[str]) -> NamingRule:
    """Return the rule for the names of folders; they stay as they are where no caption is made of them."""
    needs_names = model.has_text and question.text_types != ("asis",)
    return make_naming(tuple(checklists) if needs_names else (), resolve=needs_names)


def _open_folder(task: Task, source: FolderSource, split: str, rule: NamingRule) -> tuple[Task, tuple[str, ...]]:
    """Return the task and its notes; for a user's class folders, how their levels and names are read."""
    if task is not FOLDER:
        return task, ()
    table, taxon_of, lines = read_class_folders(source, split, rule)
    return replace(FOLDER, read=lambda _: table, taxon_of=taxon_of), (*source.tree.levels, *lines)


def check_given(data: object, task: str, root: object, class_level: int) -> None:
    """Raise UsageError unless either a data set or a task with its folder is given."""
    if class_level < 0 or (class_level and task != FOLDER.name):
        raise UsageError("--class-level must be at least 1 and needs --task folder")
    if (data is None) == (not task):
        raise UsageError("give either a data set (--data) or a task (--task)")
    if bool(task) != (root is not None):
        raise UsageError("give a task (--task) together with the folder of its photographs (--root)")


def open_subject(
    model: str | Path | TaxonModel, output: Path | None, n_workers: int, *, pretrained: str | None = None,
    device: str = "auto", preprocess: Preprocessing | None = None,
) -> Subject:  # fmt: skip
    """Load the model to evaluate.

    Raises:
        LinnaeaError: The model does not exist.
    """
    loaded = see_as(load_model(model, pretrained=pretrained, device=device), preprocess)
    given = model.name if isinstance(model, TaxonModel) else str(model)
    return Subject(model=loaded, given=given, output=output, n_workers=n_workers)


def _saved(evaluation: Evaluation, folder: Path | None) -> Evaluation:
    return evaluation if folder is None else replace(evaluation, report_path=evaluation.save(folder))


def _score(
    subject: Subject, whole: DataSet, dataset: DataSet, question: Question, what: str, title: str, task: str = ""
) -> Evaluation:
    """Score ``dataset``, which is a part of ``whole``."""
    model = subject.model
    question = replace(
        question, text_types=question.text_types or (TextType.TAXON_COM,), templates=question.templates or "photo"
    )
    heads = load_class_heads(subject.given)
    whole, dataset, features, unreadable = _encode(subject, whole, dataset, task)
    with progress_bar("encoding captions", "captions") as on_progress:
        scores = evaluate_features(model, whole, dataset, features, question, heads=heads, on_progress=on_progress)
    findings, left_out = _examine(subject, dataset, features, question, scores)
    by_rank = _score_ranks(model, dataset, features, question, scores)
    more = {"n_unreadable": len(unreadable)} if unreadable else {}
    facts = {"model": subject.given, "fingerprint": model.fingerprint, "preprocess": model.preprocess.to_json(),
             "what": what, "task": task,
             "templates": question.templates, "text_types": [str(form) for form in question.text_types],
             "as_published": not isinstance(dataset, TaskImages) or dataset.as_published}  # fmt: skip
    return Evaluation(
        title=title,
        metrics={**scores.metrics, **findings.metrics, **by_rank, **more},
        facts=facts,
        examples=tabulate_examples(dataset, scores.answers, scores.few_shot),
        notes=(*unreadable, *_notes(model, question, scores, has_heads=bool(heads)), *left_out),
        dataset=dataset,
        answers=scores.answers,
        findings=findings,
    )


def _encode(
    subject: Subject, whole: DataSet, dataset: DataSet, task: str
) -> tuple[DataSet, DataSet, Float32[ndarray, "N E"], list[str]]:
    """Return the data sets, the vectors, and a line for each photograph of a user's folder that cannot be read.

    Such photographs are left out. In a published task they are an error, because its scores are compared.

    Raises:
        LinnaeaError: A photograph cannot be read, or none of a folder can.
    """
    unreadable: dict[int, str] | None = {} if task == FOLDER.name else None
    with progress_bar("encoding images", "images") as on_progress:
        features = encode_dataset(
            subject.model, dataset, subject.output, n_workers=subject.n_workers, unreadable=unreadable,
            on_progress=on_progress,
        )  # fmt: skip
    if not unreadable or not isinstance(dataset, TaskImages):
        return whole, dataset, features, []
    lines = [f"{dataset.index['key'][row]}: {reason}; left out" for row, reason in unreadable.items()]
    if len(lines) == len(dataset):
        raise LinnaeaError(f"{dataset.directory}: no photograph can be read (first: {lines[0]})")
    kept = dataset.without(unreadable)
    return kept, kept, features[[row for row in range(len(dataset)) if row not in unreadable]], lines


def _examine(
    subject: Subject, dataset: DataSet, features_NE: Float32[ndarray, "N E"], question: Question, scores: Scores
) -> tuple[Findings, list[str]]:
    """Return the findings for the first caption form, and one line for each picture that cannot be read."""
    nothing_ME, left_out = None, list[str]()
    if question.no_organism is not None:
        nothing_ME, left_out = encode_no_organism(subject.model, question.no_organism, subject.n_workers)
    findings = examine(
        subject.model,
        dataset,
        features_NE,
        next(iter(scores.banks.values()), None),
        next(iter(scores.answers.values()), None),
        with_structure=question.structure,
        nothing_ME=nothing_ME,
        domain=question.domain,
    )
    return findings, left_out


def _score_ranks(
    model: TaxonModel, dataset: DataSet, features_NE: Float32[ndarray, "N E"], question: Question, scores: Scores
) -> dict[str, float]:
    """Return the scores of the four ways to answer at a rank, for the first caption form that has captions of ranks."""
    bank = next(
        (bank for form, bank in scores.banks.items() if form != "asis"), next(iter(scores.banks.values()), None)
    )
    if not question.by_rank or bank is None:
        return {}
    truth = [dataset.taxon(number) for number in dataset.index["taxon_id"]]
    with progress_bar("encoding captions of ranks", "captions") as on_progress:
        return score_by_rank(model, features_NE, truth, bank, read_templates(question.templates), on_progress)


def _notes(model: TaxonModel, question: Question, scores: Scores, *, has_heads: bool) -> Iterator[str]:
    if 0 in question.shots and not model.has_text:
        yield f"{model.name} has no text encoder: zero-shot is left out"
    if has_heads and not any(name.endswith("/top1") for name in scores.metrics):
        yield "no image shows a taxon of the class heads, and a model with class heads has no zero-shot scores"
    if open_head(question.labels) is not None:
        yield (
            f"{question.labels} learned from photographs: these are its answers, not zero-shot, and they are no test on"
            " photographs that it learned from"
        )
    learned = [read_calibration(bank.facts, model.facts) for bank in scores.banks.values()]
    yield from dict.fromkeys(line for one in learned if one is not None and (line := one.explain_other_form(model)))
    for score in scores.few_shot:
        if score.n_skipped:
            yield (
                f"{score.n_shots}-shot: {count(score.n_skipped, 'class', '')}"
                f" with fewer images {agree(score.n_skipped, 'is', 'are')} left out"
            )


def find_task(name: str) -> Task:
    """Return the task with the given name.

    Raises:
        UsageError: No task has this name.
    """
    known = {**TASKS, FOLDER.name: FOLDER, SENTENCES.name: SENTENCES}
    if name not in known:
        raise UsageError(f"--task {name}: no such task; choose all or one of {', '.join(known)}")
    return known[name]


def evaluate_task(
    subject: Subject,
    task: Task,
    root: Path,
    question: Question,
    checklists: Sequence[str] = ("inat",),
    *,
    allow_different: bool = False,
) -> Evaluation:
    """Evaluate one task by its protocol, and save the result if the subject has an output folder.

    Raises:
        LinnaeaError: The folder differs from what was published, or cannot be read.
    """
    forms = question.text_types or tuple(dict.fromkeys((task.text_type, TextType.TAXON_COM)))
    if not question.text_types and open_head(question.labels) is not None:
        forms = (TextType.TAXON_COM,)  # a head answers with what it learned, not with raw labels
    by_class = task.protocol == "classes"
    resolver = None
    if by_class and not task.taxon_of and subject.model.has_text and any(form != "asis" for form in forms):
        resolver = Resolver.of(checklists, context=dict(task.context))
    images = open_task(task, root, allow_different=allow_different, resolver=resolver)
    title = f"{subject.title} on {task.name}"
    if by_class:
        what = f"folder {images.directory.resolve().name}" if task.name == FOLDER.name else task.name
        asked = replace(question, text_types=forms, templates=question.templates or "openai")
        found = _score(subject, images, images, asked, what, title, task.name)
    else:
        found = _score_beyond_species(subject, task, images, title, question.templates)
    more: dict[str, int | float] = {}
    notes = found.notes
    if images.n_missing:
        more["n_missing"] = images.n_missing
        notes = (
            *notes,
            (
                f"{task.name}: {count(images.n_missing, 'listed image')}"
                f" {agree(images.n_missing, 'is', 'are')} missing and left out"
            ),
        )
    if resolver is not None or task.taxon_of:
        more["n_resolved_classes"] = images.n_resolved
    return _saved(replace(found, metrics={**found.metrics, **more}, notes=notes), subject.output)


def _score_beyond_species(subject: Subject, task: Task, images: TaskImages, title: str, templates: str) -> Evaluation:
    if task.needs_text and not subject.model.has_text:
        raise LinnaeaError(f"{subject.model.name} has no text encoder, and the task {task.name} compares sentences")
    unit = task.protocol != "traits"
    with progress_bar(f"{task.name}: encoding images", "images") as on_progress:
        features = encode_dataset(
            subject.model, images, subject.output, n_workers=subject.n_workers, unit=unit, on_progress=on_progress
        )
    with progress_bar(f"{task.name}: fitting", "fits") as on_progress:
        used = read_templates(templates) if templates else (task.template,)
        encode = partial(encode_names, subject.model, templates=used)
        scores = score_task(task, images, features, encode, n_jobs=subject.n_workers, on_progress=on_progress)
    facts = {"model": subject.given, "fingerprint": subject.model.fingerprint,
             "preprocess": subject.model.preprocess.to_json(), "what": task.name, "task": task.name,
             "as_published": images.as_published}  # fmt: skip
    sizes: dict[str, int | float] = {"n_images": len(images), "n_classes": len(images.raw_labels)}
    return Evaluation(title=title, metrics=sizes | scores, facts=facts, dataset=images)
