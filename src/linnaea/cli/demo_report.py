"""The demo's report page: what was learnt, what it looks like, and how right it is at every rank."""

import json
from pathlib import Path
from typing import Any

from linnaea.taxonomy.ranks import RANK_LABELS


def read_curve(path: Path) -> tuple[list[int], list[float]]:
    """Steps and losses of a ``metrics.jsonl``."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["step"] for line in lines], [line["loss"] for line in lines]


def plot_loss(run: Path, n_batch: int) -> Any:
    """The loss over steps, beside ln(batch): what a model that knows nothing would have."""
    import math

    from matplotlib.figure import Figure

    steps, losses = read_curve(run / "metrics.jsonl")
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, lw=1.6, color="#2f6f4f")
    axes.axhline(math.log(n_batch), ls="--", lw=1, color="#888")
    axes.text(steps[-1], math.log(n_batch), f"ln {n_batch}: chance ", ha="right", va="bottom", fontsize=8, color="#666")
    axes.set(xlabel="step", ylabel="InfoNCE loss", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_ranks(metrics: dict[str, dict[str, float]]) -> Any:
    """Accuracy at each rank for seen and unseen species, with chance as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.38
    for number, (split, values) in enumerate(metrics.items()):
        accuracy = [100 * values.get(f"zero_shot/taxon_com/{rank}", 0) for rank in RANK_LABELS]
        places = [i + (number - 0.5) * width for i in range(len(RANK_LABELS))]
        axes.bar(places, accuracy, width, label=split, color=("#2f6f4f", "#c98a2b")[number])
    axes.set_xticks(range(len(RANK_LABELS)), RANK_LABELS)
    axes.set(ylabel="right (%)", ylim=(0, 105))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
