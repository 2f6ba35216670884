"""``linnaea evaluate MODEL --task NAME --root DIR``: published tasks, one of them or all."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from linnaea.cli import DONE, SOME_FAILED
from linnaea.cli.console import progress_bar, say, warn
from linnaea.cli.tables import show_table
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.cli.evaluate import Evaluate
    from linnaea.evaluate.tasks import Task
    from linnaea.model.load import TaxonModel

ALL = "all"
SUMMARY = "tasks.csv"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one task: its metrics, or the reason why there are none."""

    task: str
    metrics: Mapping[str, int | float]
    reason: str = ""


def evaluate_tasks(options: "Evaluate") -> int:
    """Evaluate one task, or all that are there; those that are not become rows with a reason."""
    from linnaea.evaluate.tasks import FOLDER, TASKS
    from linnaea.model.open import load_model

    assert options.root is not None
    if options.task != ALL:
        known = {**TASKS, FOLDER.name: FOLDER}
        if options.task not in known:
            raise UsageError(f"--task {options.task}: there is no such task; all, or one of {', '.join(known)}")
        model = load_model(options.model, pretrained=options.pretrained, device=options.device)
        evaluate_task(options, known[options.task], model)
        return DONE
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    outcomes = [_try_task(options, task, model) for task in TASKS.values()]
    _write_summary(options.output, outcomes)
    missing = [outcome for outcome in outcomes if outcome.reason]
    say(f"{len(outcomes) - len(missing)} of {len(outcomes)} tasks evaluated; {options.output / SUMMARY}")
    return SOME_FAILED if missing else DONE


def _try_task(options: "Evaluate", task: "Task", model: "TaxonModel") -> Outcome:
    assert options.root is not None
    root = options.root / task.name
    if not root.is_dir():
        return Outcome(task=task.name, metrics={}, reason=f"no folder {root}; get it from {task.where}")
    own = replace(options, task=task.name, root=root, output=options.output / task.name)
    try:
        return Outcome(task=task.name, metrics=evaluate_task(own, task, model))
    except LinnaeaError as error:
        warn(f"{task.name}: {error}")
        return Outcome(task=task.name, metrics={}, reason=str(error))


def evaluate_task(options: "Evaluate", task: "Task", model: "TaxonModel") -> Mapping[str, int | float]:
    """Evaluate one task after its protocol; returns its metrics."""
    from linnaea.cli.evaluate import score
    from linnaea.evaluate.tasks.photographs import open_task
    from linnaea.storage import write_atomically
    from linnaea.taxonomy.resolve import Resolver

    assert options.root is not None
    resolver = None
    forms = options.text_type or tuple(dict.fromkeys((task.text_type, TextType.TAXON_COM)))
    if task.protocol == "classes" and model.has_text and any(form != "asis" for form in forms):
        resolver = Resolver.of(options.checklist, context=dict(task.context))
    images = open_task(task, options.root, allow_different=options.allow_different, resolver=resolver)
    n_classes = len(images.raw_labels)
    if task.protocol == "classes":
        if resolver is not None:
            say(f"{task.name}: {images.n_resolved} of {n_classes} labels name a taxon that is known")
        chosen = replace(options, text_type=forms, templates=options.templates or "openai")
        metrics = dict(score(chosen, model, images, images).metrics)
    else:
        metrics = {"n_images": len(images), "n_classes": n_classes} | _score_beyond_species(
            options, task, model, images
        )
        facts = {"model": options.model, "fingerprint": model.fingerprint, "what": task.name, "task": task.name,
                 "as_published": images.as_published}  # fmt: skip
        write_atomically(options.output / "run.json", json.dumps(facts, indent=1))
        show_table(("score", "value"), [(name, f"{value:.4g}") for name, value in metrics.items()], right=("value",))
    if images.n_missing:
        warn(f"{task.name}: {images.n_missing:,} listed images are not there and are left out")
        metrics["n_missing"] = images.n_missing
    if resolver is not None:
        metrics["n_resolved_classes"] = images.n_resolved
    write_atomically(options.output / "metrics.json", json.dumps(metrics, indent=1))
    return metrics


def _score_beyond_species(
    options: "Evaluate", task: "Task", model: "TaxonModel", images: object
) -> dict[str, int | float]:
    from linnaea.evaluate.features import encode_dataset
    from linnaea.evaluate.tasks.photographs import TaskImages
    from linnaea.evaluate.tasks.protocols import score_task

    assert isinstance(images, TaskImages)
    with progress_bar(f"{task.name}: encoding images", "images") as on_progress:
        features = encode_dataset(
            model,
            images,
            options.output,
            n_workers=options.workers,
            unit=task.protocol != "traits",
            on_progress=on_progress,
        )
    with progress_bar(f"{task.name}: fitting", "fits") as on_progress:
        return score_task(task, images, features, n_jobs=options.workers, on_progress=on_progress)


KEY_SCORES = (
    "n_images", "n_classes", "n_resolved_classes", "zero_shot/asis/top1", "zero_shot/taxon_com/top1",
    "few_shot/1/mean", "few_shot/1/std", "few_shot/5/mean", "few_shot/5/std", "transfer/mean", "pairs/mean",
    "traits/mean", "discovery/all/mean",
)  # fmt: skip


def _write_summary(output: Path, outcomes: list[Outcome]) -> None:
    from linnaea.storage import write_atomically

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "state", *KEY_SCORES, "reason"))
    for outcome in outcomes:
        values = [outcome.metrics.get(name, "") for name in KEY_SCORES]
        writer.writerow((outcome.task, "missing" if outcome.reason else "done", *values, outcome.reason))
    write_atomically(output / SUMMARY, text.getvalue())
    shown = ("zero_shot/asis/top1", "zero_shot/taxon_com/top1", "few_shot/1/mean", "few_shot/5/mean")
    rows = [
        (outcome.task, *(_percent(outcome.metrics.get(name)) for name in shown), outcome.reason) for outcome in outcomes
    ]
    show_table(("task", "raw labels", "taxon_com", "1-shot", "5-shot", "why not"), rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
