"""``linnaea evaluate MODEL (--data DIR | --task NAME --root DIR)``: zero-shot and few-shot scores, with baselines."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands
from linnaea.cli.console import results, say, show_table, tell, warn
from linnaea.counting import count
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.evaluate.run import Evaluation

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a model on a data set or a published task: zero-shot at every rank, few-shot, with chance baselines."""

    model: tyro.conf.Positional[str]
    """Folder or name of the model."""
    data: Path | None = None
    """Folder of a data set; give either this or --task."""
    task: str = ""
    """A published task (linnaea list tasks), all for all of them, folder for any folder of class folders, or sentences
    for any list of photographs with a sentence each."""
    root: Path | None = None
    """Folder of the unpacked data set of the task; for --task all, a folder with one folder per task."""
    output: Path
    """Folder for metrics.json, examples.parquet and report.html."""
    class_level: int = 0
    """For --task folder: the folder level that holds the classes, starting at 1; 0 finds it by the names."""
    split: str = "test"
    """Split to evaluate."""
    sources: tuple[str, ...] = ()
    """Sources to evaluate; all if not given."""
    text_type: tuple[TextType | Literal["asis"], ...] = ()
    """Caption forms of the candidates, with one zero-shot evaluation each; asis uses the source's raw labels. If not
    given, the form is taxon_com; a task evaluates its published form first."""
    templates: str = ""
    """photo (the training template), plain (the bare name), openai (the 80 templates of the paper), or a file with one
    template per line and {} for the name. If not given, photo, or openai for a task."""
    candidates: Literal["split", "all"] = "split"
    """Use the taxa of the evaluated split as candidates, or all taxa of the evaluated sources."""
    labels: Path | None = None
    """Read the candidates from a file, a bank, a model's folder or name, or another data set instead. They must include
    every true taxon. A bank's calibration is applied if this model made it; a head that linnaea adapt made answers with
    what it learned."""
    species_only: bool = False
    """Leave out photographs (and candidates of the data set) that are not identified to species."""
    shots: tuple[int, ...] = (0, 1, 5)
    """Images per class: 0 is zero-shot; other numbers run SimpleShot over five folds."""
    probe: tuple[Literal["knn", "linear", "ridge"], ...] = ()
    """Classifiers to fit on the frozen features as well: 3 seeded splits, regularisation chosen by validation."""
    seen: Path | None = None
    """Taxa that the model was trained on (a data set's split train, a bank or a file); scores seen and unseen taxa
    apart."""
    structure: bool = False
    """Analyse how the vectors reflect the tree: neighbours, distances, t-SNE per rank, revisions. Takes minutes."""
    by_rank: bool = False
    """Answer at each rank also by captions of the rank, by prototypes and from the top down, beside sums of
    probabilities, and show the four ways in one table."""
    no_organism: Path | None = None
    """Folder of pictures without an organism, to measure how well the model rejects them."""
    domain: str = "domain"
    """Fact of the records that names their domain (field, studio, specimen, ...); the source if no record has it."""
    checklist: tuple[str, ...] = ("inat",)
    """Checklists that resolve a task's labels, the preferred one first."""
    allow_different: bool = False
    """Evaluate a task even if its numbers of images or classes differ from the published ones."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph. Default: as the model was trained."""
    pretrained: str | None = None
    """open_clip's pretrained tag, if MODEL is the name of an architecture."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Number of threads that decode images."""


def evaluate(options: Evaluate) -> int:
    """Evaluate on a data set, on one task or on all tasks, and print the scores."""
    from linnaea.evaluate.run import evaluate

    if options.task == ALL:
        return _evaluate_all(options)
    found = evaluate(**vars(options))
    _show(found)
    return SOME_FAILED if found.metrics.get("n_unreadable") else DONE


def _evaluate_all(options: Evaluate) -> int:
    """Evaluate on every task that has a folder; the other tasks become rows with a reason."""
    from functools import partial

    from linnaea.evaluate.all_tasks import SUMMARY_FILE, evaluate_tasks
    from linnaea.evaluate.run import check_given, evaluate
    from linnaea.model.open import load_model

    check_given(options.data, options.task, options.root, options.class_level)
    assert options.root is not None
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    ask = partial(evaluate, **{**vars(options), "model": model, "pretrained": None})
    found = []
    for result in evaluate_tasks(ask, options.root, options.output):
        found.append(result)
        if result.evaluation is not None:
            _show(result.evaluation)
        elif (options.root / result.task.name).is_dir():
            warn(f"{result.task.name}: {result.reason}")
    shown = ("zero_shot/asis/top1", "zero_shot/taxon_com/top1", "few_shot/1/mean", "few_shot/5/mean")
    rows = [(result.task.name, *(_percent(result.evaluation, name) for name in shown), result.reason)
            for result in found]  # fmt: skip
    show_table(("task", "raw labels", "taxon_com", "1-shot", "5-shot", "why not"), rows)
    missing = [result for result in found if result.reason]
    say(f"{len(found) - len(missing)} of {count(len(found), 'task', '')} evaluated; {options.output / SUMMARY_FILE}")
    return SOME_FAILED if missing else DONE


def _percent(evaluation: "Evaluation | None", score: str) -> str:
    return f"{evaluation.metrics[score]:.1%}" if evaluation and score in evaluation.metrics else ""


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else ""


def _show(evaluation: "Evaluation") -> None:
    """Print the scores and notes of one evaluation."""
    from rich.table import Table

    from linnaea.evaluate.evaluation_page import score_rows
    from linnaea.evaluate.rankwise import rank_rows

    metrics = evaluation.metrics
    if "n_resolved_classes" in metrics:
        say(f"{evaluation.facts['task']}: {metrics['n_resolved_classes']}"
            f" of {count(metrics['n_classes'], 'label', '')} name a known"
            " taxon")  # fmt: skip
    for note in evaluation.notes:
        warn(note)
    if evaluation.report_path is None:  # a task beyond species
        rows = [(name, f"{value:.4g}") for name, value in metrics.items() if name != "n_missing"]
        show_table(("score", "value"), rows, right=("value",))
        return
    table = Table(title=f"{count(metrics['n_images'], 'image')} of {count(metrics['n_classes'], 'class')}")
    for name in ("score", "right", "over classes", "chance", "majority"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for row in score_rows(metrics):
        table.add_row(*row.values())
    results.print(table)
    if ways := rank_rows(metrics):
        cells = [[value if isinstance(value, str) else _share(value) for value in row.values()] for row in ways]
        show_table(list(ways[0]), cells, right=list(ways[0])[1:])
    if any(name.startswith("few_shot/") for name in metrics):
        say("N-shot: learned from N photographs of each class, and asked about the others; zero-shot: from names alone")
    tell(f"report: {evaluation.report_path}", flush=True)


COMMANDS: Commands = {"": (Evaluate, evaluate)}
