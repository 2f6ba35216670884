"""An evaluation as a page: scores with baselines, accuracy per rank, photographs with right and wrong answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.shards import DataSet
from linnaea.evaluate.zero_shot import ZeroShotAnswers
from linnaea.page import Card, Cards, Facts, Figure, Page, Section, Table
from linnaea.taxonomy.ranks import RANK_LABELS

GREEN, AMBER, GREY = "#2f6f4f", "#c98a2b", "#9aa19a"
N_CARDS = 12


def write_report(
    folder: Path,
    dataset: DataSet,
    metrics: Mapping[str, int | float],
    answers: Mapping[str, ZeroShotAnswers],
    examples: pl.DataFrame,
    title: str,
) -> Path:
    """Write ``report.html`` into ``folder``; ``examples`` are those of :func:`tabulate_examples`."""
    sections = [Section("Scores", [Facts(_facts(metrics)), Table(pl.DataFrame(score_rows(metrics)))])]
    if answers:
        text_type = next(iter(answers))
        accuracy = {"right": rank_accuracy(metrics, text_type)}
        baseline = rank_accuracy(metrics, text_type, "majority/")
        figure = plot_ranks(accuracy, baseline)
        alt = "bars of the share of right answers at each rank from kingdom to species"
        sections.append(Section("Right at each rank", [Figure(figure, alt, RANK_CAPTION)]))
        cards = make_cards(dataset, examples, N_CARDS)
        sections.append(Section("Answers", [Cards(cards, caption="Spread evenly over the split, in no other order.")]))
    page = Page(title, f"{len(dataset):,} photographs", sections, footer="Made by `linnaea evaluate`.")
    page.write(folder / "report.html")
    return folder / "report.html"


NO_SHARES = ("lca_height_of_errors", "n_classes")
"""Metrics that are no share of right answers."""

RANK_CAPTION = (
    "The lineage of the likeliest candidate, compared with the truth down to each rank. Ticks: a baseline that"
    " always names the commonest taxon of that rank."
)


def _facts(metrics: Mapping[str, int | float]) -> dict[str, object]:
    facts: dict[str, object] = {"images": f"{metrics['n_images']:,.0f}", "classes": f"{metrics['n_classes']:,.0f}"}
    for name, value in metrics.items():
        if name.endswith("/top1") and "chance" not in name:
            facts[f"{name.split('/')[1]} top-1"] = f"{value:.1%}"
        elif name.startswith("few_shot/") and name.endswith("/mean"):
            facts[f"{name.split('/')[1]}-shot"] = f"{value:.1%}"
    return facts


def score_rows(metrics: Mapping[str, int | float]) -> list[dict[str, Any]]:
    """The metrics as rows of text: score, right, chance, majority."""
    rows = []
    for name, value in metrics.items():
        match name.split("/"):
            case ["zero_shot", text_type, measure] if measure not in NO_SHARES:
                place = f"zero_shot/{text_type}"
                rows.append({"score": f"zero-shot {text_type}, {measure}", "right": f"{value:.1%}",
                             "chance": _percent(metrics.get(f"{place}/chance/{measure}")),
                             "majority": _percent(metrics.get(f"{place}/majority/{measure}"))})  # fmt: skip
            case ["class_head", rank, "top1"]:
                share = metrics[f"class_head/{rank}/share_answerable"]
                rows.append({"score": f"class head, {rank} ({share:.0%} of images have a class)",
                             "right": f"{value:.1%}", "chance": _percent(metrics[f"class_head/{rank}/chance/top1"]),
                             "majority": ""})  # fmt: skip
            case ["few_shot", shots, "mean"]:
                std = metrics[f"few_shot/{shots}/std"]
                chance = 1 / metrics[f"few_shot/{shots}/n_classes"]
                rows.append({"score": f"{shots}-shot (SimpleShot, 5 folds)", "right": f"{value:.1%} ± {std:.1%}",
                             "chance": _percent(chance), "majority": ""})  # fmt: skip
    return rows


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def rank_accuracy(metrics: Mapping[str, int | float], text_type: str, kind: str = "") -> list[float | None]:
    """Accuracy (or a baseline: ``"chance/"``, ``"majority/"``) from kingdom to species."""
    return [metrics.get(f"zero_shot/{text_type}/{kind}{label}") for label in RANK_LABELS]


def plot_ranks(accuracy: Mapping[str, Sequence[float | None]], baseline: Sequence[float | None] | None = None) -> Any:
    """Bars per rank, one colour per series, with the baseline as ticks."""
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(7.2, 3.2), layout="constrained")
    axes = plot.subplots()
    width = 0.8 / len(accuracy)
    for number, (name, values) in enumerate(accuracy.items()):
        places = [i + (number - (len(accuracy) - 1) / 2) * width for i in range(len(RANK_LABELS))]
        heights = [100 * (value or 0) for value in values]
        bars = axes.bar(places, heights, width * 0.94, label=name, color=(GREEN, AMBER)[number % 2])
        axes.bar_label(bars, fmt="%.0f", fontsize=7, color="#555", padding=1)
    if baseline is not None:
        for place, value in enumerate(baseline):
            axes.hlines(100 * (value or 0), place - 0.4, place + 0.4, color="#222", lw=1.4, ls=":")
    axes.set_xticks(range(len(RANK_LABELS)), RANK_LABELS)
    axes.set(ylabel="right (%)", ylim=(0, 112))
    if len(accuracy) > 1:
        axes.legend(frameon=False, loc="upper right", ncols=len(accuracy))
    axes.spines[["top", "right"]].set_visible(False)
    return plot


def make_cards(dataset: DataSet, examples: pl.DataFrame, n_cards: int) -> list[Card]:
    """Photographs at even distances in the split, with truth, answer and where the two meet."""
    rows = [i * examples.height // n_cards for i in range(min(n_cards, examples.height))]
    return [_make_card(dataset.read(row), examples.row(row, named=True)) for row in rows]


def _make_card(image: bytes, example: dict[str, Any]) -> Card:
    answer = f"{example['answer']} ({example['score']:.0%})"
    if example["right"]:
        lines: list[str] = [answer, example["answer_common_name"]]
    else:
        height = example["lca_height"]
        meets = "nothing above" if height >= len(RANK_LABELS) else RANK_LABELS[len(RANK_LABELS) - 1 - height]
        lines = [answer, f"is {example['truth']}", f"same {meets}" if meets in RANK_LABELS else "not even the kingdom"]
    mark = "right" if example["right"] else "wrong"
    return Card(image, f"photograph of {example['truth']}", [line for line in lines if line], mark)  # type: ignore[arg-type]
