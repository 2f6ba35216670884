"""``linnaea evaluate MODEL --data DIR``: zero-shot and few-shot scores, per rank, with baselines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import progress_bar, results, warn
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.evaluate.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a model on a split of a data set: zero-shot at every rank, few-shot, against chance."""

    model: tyro.conf.Positional[str]
    """Folder or name of the model."""
    data: Path
    """Folder of the data set."""
    output: Path
    """Folder for metrics.json, examples.parquet and report.html."""
    split: str = "test"
    """Split to evaluate."""
    sources: tuple[str, ...] = ()
    """Sources to evaluate; none: all."""
    text_type: tuple[TextType | Literal["asis"], ...] = (TextType.TAXON_COM,)
    """Caption forms of the candidates, one zero-shot evaluation each; asis: the source's raw labels."""
    templates: Literal["photo", "plain", "openai"] = "photo"
    """The training template, the bare name, or the 80 templates of the paper's evaluation."""
    candidates: Literal["split", "all"] = "split"
    """Candidates: the taxa of the evaluated split, or all taxa of the evaluated sources."""
    labels: Path | None = None
    """Candidates from a file, a bank or another data set instead; every truth must be among them."""
    shots: tuple[int, ...] = (0, 1, 5)
    """0 is zero-shot; others are SimpleShot with that many images a class, five folds."""
    pretrained: str | None = None
    """open_clip's tag, where MODEL is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode."""


def evaluate(options: Evaluate) -> int:
    """Evaluate, print a table, write everything."""
    from linnaea.data.shards import DataSet, write_parquet
    from linnaea.evaluate.evaluation import Question, evaluate_features
    from linnaea.evaluate.examples import tabulate_examples
    from linnaea.evaluate.features import encode_dataset
    from linnaea.evaluate.report import write_report
    from linnaea.model.load import load_model
    from linnaea.predict.class_heads import load_class_heads
    from linnaea.storage import write_atomically

    whole = DataSet.open(options.data).sources(options.sources)
    dataset = whole.split(options.split)
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    heads = load_class_heads(options.model)
    question = Question(
        text_types=options.text_type,
        templates=options.templates,
        candidates=options.candidates,
        labels=options.labels,
        shots=options.shots,
    )
    with progress_bar("encoding images", "images") as on_progress:
        features = encode_dataset(model, dataset, options.output, n_workers=options.workers, on_progress=on_progress)
    with progress_bar("encoding captions", "captions") as on_progress:
        evaluation = evaluate_features(model, whole, dataset, features, question, heads=heads, on_progress=on_progress)
    write_atomically(options.output / "metrics.json", json.dumps(evaluation.metrics, indent=1))
    title = f"{Path(options.model).parent.name or options.model} on {options.split}"
    examples = tabulate_examples(dataset, evaluation.answers, evaluation.few_shot)
    write_parquet(examples, options.output / "examples.parquet")
    report = write_report(options.output, dataset, evaluation.metrics, evaluation.answers, examples, title)
    if heads and not any(name.endswith("/top1") for name in evaluation.metrics):
        warn("no image shows a taxon that the class heads know; a model without captions has no zero-shot answers")
    _print_table(evaluation)
    print(f"report: {report}", flush=True)
    return DONE


def _print_table(evaluation: "Evaluation") -> None:
    from rich.table import Table

    from linnaea.evaluate.report import score_rows

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
