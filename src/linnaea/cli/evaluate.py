"""``linnaea evaluate MODEL (--data DIR | --task NAME --root DIR)``: zero-shot and few-shot scores, with baselines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import progress_bar, results, warn
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from linnaea.data.shards import DataSet
    from linnaea.evaluate.evaluation import Evaluation
    from linnaea.evaluate.examine import Findings
    from linnaea.model.load import TaxonModel


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a model on a split of a data set: zero-shot at every rank, few-shot, against chance."""

    model: tyro.conf.Positional[str]
    """Folder or name of the model."""
    data: Path | None = None
    """Folder of a data set; or --task."""
    task: str = ""
    """A published task (linnaea list tasks), all of them, or folder: any folder with a folder per class."""
    root: Path | None = None
    """Folder into which the task's data set was unpacked; for --task all a folder with one folder per task."""
    output: Path
    """Folder for metrics.json, examples.parquet and report.html."""
    split: str = "test"
    """Split to evaluate."""
    sources: tuple[str, ...] = ()
    """Sources to evaluate; none: all."""
    text_type: tuple[TextType | Literal["asis"], ...] = ()
    """Caption forms of the candidates, one zero-shot evaluation each; asis: the source's raw labels. Without any:
    taxon_com, and for a task the published form before it."""
    templates: str = ""
    """photo (the training template), plain (the bare name), openai (the 80 of the paper), or a file with one a line
    and {} for the name. Without any: photo, and openai for a task."""
    candidates: Literal["split", "all"] = "split"
    """Candidates: the taxa of the evaluated split, or all taxa of the evaluated sources."""
    labels: Path | None = None
    """Candidates from a file, a bank, a model's folder or name, or another data set instead; every truth must be among
    them. A bank's calibration counts where this model made it."""
    species_only: bool = False
    """Leave out photographs (and candidates of the data set) whose name does not go down to the species."""
    shots: tuple[int, ...] = (0, 1, 5)
    """0 is zero-shot; others are SimpleShot with that many images a class, five folds."""
    probe: tuple[Literal["knn", "linear", "ridge"], ...] = ()
    """Classifiers on the frozen features, beside SimpleShot: 3 seeded splits, regularisation by validation."""
    seen: Path | None = None
    """Taxa that the model was trained on (data set, bank or file): scores of seen and unseen ones apart."""
    structure: bool = False
    """What the vectors show of the tree: neighbours, distances, t-SNE per rank, revisions of the taxonomy (minutes)."""
    no_organism: Path | None = None
    """Folder of pictures that show no organism: how well they are told from those that do."""
    domain: str = "domain"
    """Fact of the records that names their domain (field, studio, specimen, ...); without it, the source."""
    checklist: tuple[str, ...] = ("inat",)
    """Checklists that resolve a task's labels, the preferred one first."""
    allow_different: bool = False
    """Evaluate a task although its images or classes are not as many as published."""
    pretrained: str | None = None
    """open_clip's tag, where MODEL is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode."""

    def __post_init__(self) -> None:
        if (self.data is None) == (not self.task):
            raise ValueError("give either --data DIR or --task NAME")
        if bool(self.task) != (self.root is not None):
            raise ValueError("--task NAME and --root DIR go together")


def evaluate(options: Evaluate) -> int:
    """Evaluate, print a table, write everything."""
    from linnaea.data.shards import DataSet
    from linnaea.model.load import load_model

    if options.data is None:
        from linnaea.cli.evaluate_task import evaluate_tasks

        return evaluate_tasks(options)
    whole = DataSet.open(options.data).sources(options.sources)
    whole = whole.to_species() if options.species_only else whole
    dataset = whole.split(options.split)
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    score(options, model, whole, dataset)
    return DONE


def score(options: Evaluate, model: "TaxonModel", whole: "DataSet", dataset: "DataSet") -> "Evaluation":
    """Score ``dataset``, a part of ``whole``; write metrics, examples, report; print a table."""
    from linnaea.data.shards import write_parquet
    from linnaea.evaluate.evaluation import Question, evaluate_features
    from linnaea.evaluate.evaluation_page import write_report
    from linnaea.evaluate.examples import tabulate_examples
    from linnaea.evaluate.features import encode_dataset
    from linnaea.evaluate.tasks.photographs import TaskImages
    from linnaea.predict.class_heads import find_own_labels, load_class_heads
    from linnaea.storage import write_atomically

    heads = load_class_heads(options.model)
    question = Question(
        text_types=options.text_type or (TextType.TAXON_COM,),
        templates=options.templates or "photo",
        candidates=options.candidates,
        labels=options.labels and (find_own_labels(str(options.labels)) or options.labels),
        shots=options.shots,
        probes=options.probe,
        seen=options.seen,
    )
    if 0 in question.shots and not model.has_text:
        warn(f"{model.name} knows images alone: zero-shot is left out")
    with progress_bar("encoding images", "images") as on_progress:
        features = encode_dataset(model, dataset, options.output, n_workers=options.workers, on_progress=on_progress)
    with progress_bar("encoding captions", "captions") as on_progress:
        evaluation = evaluate_features(model, whole, dataset, features, question, heads=heads, on_progress=on_progress)
    findings = _examine(options, model, dataset, features, evaluation)
    metrics = {**evaluation.metrics, **findings.metrics}
    write_atomically(options.output / "metrics.json", json.dumps(metrics, indent=1))
    folder = dataset.directory.resolve().name
    what = f"folder {folder}" if options.task == "folder" else options.task or f"{options.split} of {folder}"
    facts = {"model": options.model, "fingerprint": model.fingerprint, "what": what, "task": options.task,
             "templates": question.templates, "text_types": [str(form) for form in question.text_types],
             "as_published": not isinstance(dataset, TaskImages) or dataset.as_published}  # fmt: skip
    write_atomically(options.output / "run.json", json.dumps(facts, indent=1))
    place = Path(options.model)
    name = (place.parent if place.name == "model" else place).name or options.model
    title = f"{name} on {options.task or options.split}"
    examples = tabulate_examples(dataset, evaluation.answers, evaluation.few_shot)
    write_parquet(examples, options.output / "examples.parquet")
    report = write_report(options.output, dataset, metrics, evaluation.answers, examples, title, findings)
    if heads and not any(name.endswith("/top1") for name in evaluation.metrics):
        warn("no image shows a taxon that the class heads know; a model without captions has no zero-shot answers")
    _print_table(evaluation)
    print(f"report: {report}", flush=True)
    return evaluation


def _examine(
    options: Evaluate,
    model: "TaxonModel",
    dataset: "DataSet",
    features: "NDArray[np.float32]",
    evaluation: "Evaluation",
) -> "Findings":
    from linnaea.cli.folder_vectors import encode_folder
    from linnaea.evaluate.examine import examine

    nothing = encode_folder(model, options.no_organism, options.workers) if options.no_organism else None
    bank = next(iter(evaluation.banks.values()), None)
    answers = next(iter(evaluation.answers.values()), None)
    return examine(model, dataset, features, bank, answers, with_structure=options.structure, nothing_ME=nothing,
                   domain=options.domain)  # fmt: skip


def _print_table(evaluation: "Evaluation") -> None:
    from rich.table import Table

    from linnaea.evaluate.evaluation_page import score_rows

    for score in evaluation.few_shot:
        if score.n_skipped:
            warn(f"{score.n_shots}-shot: {score.n_skipped} classes with fewer images are left out")
    metrics = evaluation.metrics
    table = Table(title=f"{metrics['n_images']:,} images of {metrics['n_classes']:,} classes")
    for name in ("score", "right", "chance", "majority"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for row in score_rows(metrics):
        table.add_row(*row.values())
    results.print(table)


COMMANDS: Commands = {"": (Evaluate, evaluate)}
