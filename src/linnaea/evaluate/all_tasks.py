"""Evaluate every published task that is on disk, and write a table of their scores."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from linnaea.errors import LinnaeaError
from linnaea.evaluate.run import Evaluation
from linnaea.evaluate.tasks import TASKS, Task
from linnaea.storage import write_atomically

SUMMARY_FILE = "tasks.csv"

KEY_SCORES = (
    "n_images", "n_classes", "n_resolved_classes", "zero_shot/asis/top1", "zero_shot/taxon_com/top1",
    "few_shot/1/mean", "few_shot/1/std", "few_shot/5/mean", "few_shot/5/std", "transfer/mean", "pairs/mean",
    "traits/mean", "discovery/all/mean", "image_to_text/recall_1", "text_to_image/recall_1", "rerank/ap",
)  # fmt: skip
"""Columns of :data:`SUMMARY_FILE`."""


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """The evaluation of one task, or the reason why it has none."""

    task: Task
    evaluation: Evaluation | None = None
    reason: str = ""


def evaluate_tasks(ask: Callable[..., Evaluation], root: Path, output: Path) -> Iterator[TaskScores]:
    """Evaluate every published task whose folder is in ``root``, and write ``tasks.csv`` at the end.

    Args:
        ask: :func:`linnaea.evaluate.run.evaluate` with the model and the options bound; it is called with ``task``,
            ``root`` and ``output``.
        root: A folder with one folder per task, named after the task.
        output: The folder to write; each task gets its own folder inside it.

    Yields:
        The scores of each task. A task that is missing or fails has a reason; the other tasks still run.
    """
    results = []
    for task in TASKS.values():
        results.append(_try_task(ask, task, root / task.name, output / task.name))
        yield results[-1]
    _write_summary(results, output / SUMMARY_FILE)


def _try_task(ask: Callable[..., Evaluation], task: Task, root: Path, output: Path) -> TaskScores:
    if not root.is_dir():
        return TaskScores(task=task, reason=f"{root}: no such folder; get the data set from {task.where}")
    try:
        return TaskScores(task=task, evaluation=ask(task=task.name, root=root, output=output))
    except LinnaeaError as error:
        return TaskScores(task=task, reason=str(error))


def _write_summary(results: Sequence[TaskScores], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "state", *KEY_SCORES, "reason"))
    for result in results:
        metrics = result.evaluation.metrics if result.evaluation else {}
        values = [metrics.get(name, "") for name in KEY_SCORES]
        writer.writerow((result.task.name, "missing" if result.reason else "done", *values, result.reason))
    write_atomically(path, text.getvalue())
