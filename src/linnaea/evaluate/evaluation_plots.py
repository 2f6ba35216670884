"""Draw the figures of an evaluation's report: ranks, reliability, coverage, evidence, purity, treemap, t-SNE."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from linnaea.evaluate.embedding_structure import Level
from linnaea.evaluate.trust import Beliefs, Evidence, reliability, risk_coverage
from linnaea.page import new_plot, plot_label
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

GREEN, AMBER, GREY, RED, BLUE = "#2f6f4f", "#c98a2b", "#9aa19a", "#a4303f", "#2a6f97"
SCALE = [[0.0, "#b3382c"], [0.5, "#e3c878"], [1.0, "#2f6f4f"]]
LEVEL_COLOURS = ("#2f6f4f", "#c98a2b", "#2a6f97", "#a4303f", "#7b4b94", "#8a9a2c")
"""Colours of the taxa in one t-SNE panel."""
SHOWN_RANKS = (Rank.ORDER, Rank.FAMILY, Rank.GENUS, Rank.SPECIES)
RANK_COLOURS = {Rank.ORDER: BLUE, Rank.FAMILY: AMBER, Rank.GENUS: "#7b4b94", Rank.SPECIES: GREEN}
MOST_POINTS = 400
COLOUR_BAR = {"title": {"text": "right to species (%)", "side": "top"}, "orientation": "h", "thickness": 10, "len": 0.6,
              "y": -0.02, "yanchor": "top"}  # fmt: skip


def plot_ranks(
    accuracy: Mapping[str, Sequence[float | None]],
    baseline: Sequence[float | None] | None = None,
    bounds: Sequence[tuple[float, float] | None] | None = None,
) -> Any:
    """Draw bars per rank in one colour per series, with dotted baselines and ``bounds`` on the first series."""
    plot, axes = new_plot(1.9)
    width = 0.8 / len(accuracy)
    for number, (name, values) in enumerate(accuracy.items()):
        places = [i + (number - (len(accuracy) - 1) / 2) * width for i in range(len(RANK_LABELS))]
        heights = [100 * (value or 0) for value in values]
        bars = axes.bar(places, heights, width * 0.94, label=plot_label(name), color=(GREEN, AMBER)[number % 2])
        if number == 0 and bounds is not None:
            for place, height, bound in zip(places, heights, bounds, strict=True):
                if bound is not None:
                    low, high = 100 * bound[0], 100 * bound[1]
                    axes.vlines(place, low, high, color="#1d2620", lw=0.9)
                    axes.annotate(f"{height:.0f}", (place, max(height, high)), (0, 2), textcoords="offset points",
                                  ha="center", fontsize=7, color="#555")  # fmt: skip
        else:
            axes.bar_label(bars, fmt="%.0f", fontsize=6, color="#555", padding=1)
    if baseline is not None:
        for place, value in enumerate(baseline):
            axes.hlines(100 * (value or 0), place - 0.4, place + 0.4, color="#222", lw=0.9, ls=":")
    axes.set_xticks(range(len(RANK_LABELS)), RANK_LABELS)
    axes.set(ylabel="right (%)", ylim=(0, 112))
    axes.tick_params(axis="x", labelsize=6.5)
    if len(accuracy) > 1:
        plot.legend(frameon=False, loc="outside upper left", ncols=len(accuracy), fontsize=7)
    return plot


def plot_reliability(beliefs: Beliefs, uncalibrated: Beliefs | None) -> Any:
    """Draw accuracy against confidence in one panel per rank, order to species; grey is before calibration."""
    ranks = [rank for rank in SHOWN_RANKS if beliefs.counted_NR[:, rank].any()]
    lines = -(-len(ranks) // 2)
    plot, axes = new_plot(1.75 * lines, columns=2, lines=lines, sharey=True, squeeze=False)
    for panel in axes.ravel()[len(ranks) :]:
        panel.axis("off")
    for panel, rank in zip(axes.ravel(), ranks, strict=False):
        panel.plot([0, 100], [0, 100], color=GREY, lw=0.8, ls=":")
        counted = beliefs.counted_NR[:, rank]
        if uncalibrated is not None:
            before = reliability(uncalibrated.confidence_NR[counted, rank], uncalibrated.right_NR[counted, rank])
            panel.plot(100 * before.confidence, 100 * before.accuracy, color=GREY, lw=0.9, label="before calibration")
        bins = reliability(beliefs.confidence_NR[counted, rank], beliefs.right_NR[counted, rank])
        panel.plot(100 * bins.confidence, 100 * bins.accuracy, color=RANK_COLOURS[rank], lw=1)
        panel.scatter(100 * bins.confidence, 100 * bins.accuracy, s=3 + 50 * bins.n / bins.n.max(),
                      color=RANK_COLOURS[rank], alpha=0.75, lw=0)  # fmt: skip
        panel.set_title(rank.label, fontsize=8, loc="left")
        panel.set(xlim=(0, 104), ylim=(0, 104), xlabel="confidence (%)")
    for line in axes:
        line[0].set_ylabel("right (%)")
    if uncalibrated is not None:
        axes[0][0].legend(frameon=False, fontsize=6.5, loc="upper left")
    return plot


def plot_coverage(beliefs: Beliefs) -> Any:
    """Draw the accuracy of the most confident answers against coverage, with one line per rank."""
    plot, axes = new_plot(1.9)
    for rank in SHOWN_RANKS:
        counted = beliefs.counted_NR[:, rank]
        if not counted.any():
            continue
        coverage, risk = risk_coverage(beliefs.confidence_NR[counted, rank], beliefs.right_NR[counted, rank])
        rows = np.unique(np.linspace(min(len(risk) - 1, 9), len(risk) - 1, MOST_POINTS).astype(int))
        axes.plot(100 * coverage[rows], 100 * (1 - risk[rows]), color=RANK_COLOURS[rank], lw=1.2, label=rank.label)
    axes.set(xlabel="photographs answered, most confident first (%)", ylabel="right (%)", xlim=(0, 100), ylim=(0, 103))
    plot.legend(frameon=False, fontsize=7, loc="outside upper left", ncols=4)
    return plot


def plot_evidence(known: Evidence, unknown: Mapping[str, Evidence]) -> Any:
    """Draw the distribution of energies of photographs with a label, and of those without."""
    plot, axes = new_plot(1.8)
    every = np.concatenate([known.energy, *(part.energy for part in unknown.values())])
    low, high = (float(edge) for edge in np.quantile(every, [0.002, 0.998]))
    edges = np.linspace(low, high, 45)
    shown = {"has a label": known, **unknown}
    for (name, part), colour in zip(shown.items(), (GREEN, AMBER, BLUE, RED), strict=False):
        inside = np.clip(part.energy.astype(np.float64), low, high)
        if len(inside) and low < high:
            axes.hist(inside, edges, density=True, histtype="step", color=colour, lw=1.1, label=plot_label(name))
    axes.set(xlabel="energy (higher is closer to the labels)", yticks=[])
    plot.legend(frameon=False, fontsize=7, loc="outside upper left", ncols=2)
    axes.spines["left"].set_visible(False)
    return plot


def plot_purity(metrics: Mapping[str, int | float]) -> Any:
    """Draw the share of the five nearest photographs with the same taxon, per rank, with chance as dotted lines."""
    plot, axes = new_plot(1.7)
    labels = [label for label in RANK_LABELS if f"structure/purity/{label}" in metrics]
    bars = axes.bar(labels, [100 * metrics[f"structure/purity/{label}"] for label in labels], 0.6, color=GREEN)
    axes.bar_label(bars, fmt="%.0f", fontsize=7, color="#555", padding=1)
    axes.tick_params(axis="x", labelsize=6.5)
    for place, label in enumerate(labels):
        chance = 100 * metrics[f"structure/purity_chance/{label}"]
        axes.hlines(chance, place - 0.38, place + 0.38, color="#222", lw=0.9, ls=":")
    axes.set(ylabel="of the same taxon (%)", ylim=(0, 112))
    return plot


def plot_tree(truth: Sequence[Taxon], right_N: Sequence[bool]) -> Any:
    """Return an interactive treemap: area is the number of photographs, colour the species accuracy."""
    import plotly.graph_objects as go

    frame = pl.DataFrame({"lineage": [taxon.lineage for taxon in truth], "right": list(right_N)})
    species = frame.group_by("lineage", maintain_order=True).agg(pl.len().alias("n"), pl.col("right").sum())
    boxes: dict[tuple[str, ...], list[int]] = {}
    for lineage, n, right in species.iter_rows():
        names = tuple(name for name in lineage if name)
        for depth in range(len(names) + 1):
            box = boxes.setdefault(names[:depth], [0, 0])
            box[0] += n
            box[1] += right
    top = _lowest_common(boxes)
    boxes = {key: box for key, box in boxes.items() if key[: len(top)] == top}
    rank_of = {tuple(n for n in t.lineage[: r + 1] if n): r.label for t in set(truth) for r in Rank if t[r]}
    share = [100 * right / n for n, right in boxes.values()]
    # The scale ends at the best family. Otherwise the whole tree of a weak model would be red.
    known = zip(share, boxes.items(), strict=True)
    best = max((s for s, (key, (n, _)) in known if rank_of.get(key) == "family" and n >= 10), default=100.0)
    figure = go.Figure(
        go.Treemap(
            ids=["/".join(key) or "Life" for key in boxes],
            labels=[_label(key, rank_of.get(key, "")) for key in boxes],
            parents=["" if key == top else "/".join(key[:-1]) or "Life" for key in boxes],
            values=[n for n, _ in boxes.values()],
            text=[f"{s:.0f}%" for s in share],
            branchvalues="total",
            maxdepth=6,
            marker={
                "colors": [round(s, 1) for s in share],
                "colorscale": SCALE,
                "cmin": 0,
                "cmax": min(100, 10 * int(np.ceil(max(best, 10) / 10))),
                "line": {"width": 0.6, "color": "rgba(255,255,255,.6)"},
                "colorbar": COLOUR_BAR,
            },
            customdata=[
                [rank_of.get(key, ""), right, n] for key, (n, right) in zip(boxes, boxes.values(), strict=True)
            ],
            textinfo="label+text",
            hovertemplate="<b>%{label}</b> %{customdata[0]}<br>%{customdata[1]} of %{value} right<extra></extra>",
            tiling={"pad": 2},
            pathbar={"thickness": 26},
        )
    )
    figure.update_layout(
        margin={"t": 30, "l": 4, "r": 4, "b": 56},
        font={"family": "system-ui, sans-serif", "size": 13},
        uniformtext={"minsize": 9, "mode": "hide"},
    )
    return figure


def _lowest_common(boxes: Mapping[tuple[str, ...], object]) -> tuple[str, ...]:
    """Return the lowest taxon above species that contains all photographs."""
    top: tuple[str, ...] = ()
    while len(below := [key for key in boxes if len(key) == len(top) + 1 and key[:-1] == top]) == 1:
        if not any(key[: len(below[0])] == below[0] and len(key) > len(below[0]) for key in boxes):
            break
        top = below[0]
    return top


def _label(key: tuple[str, ...], rank: str) -> str:
    if not key:
        return "Life"
    return " ".join(key[-2:]) if rank == "species" else key[-1]


def plot_levels(levels: Sequence[Level]) -> Any:
    """Return all t-SNE panels as one matplotlib figure."""
    columns = min(2, len(levels))
    lines = -(-len(levels) // columns)
    plot, axes = new_plot(2.1 * lines, columns=columns, lines=lines, squeeze=False)
    for panel in axes.ravel()[len(levels) :]:
        panel.axis("off")
    for panel, level in zip(axes.ravel(), levels, strict=False):
        _draw_level(panel, level)
        panel.legend(fontsize=5.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, markerscale=2,
                     columnspacing=0.6, handletextpad=0.1)  # fmt: skip
    return plot


def plot_models(levels_of: Mapping[str, Sequence[Level]]) -> Any:
    """Return the t-SNE panels of several models: one line per model, one column per rank (figure 5 of the paper)."""
    shown = list(dict.fromkeys((level.rank, level.within) for levels in levels_of.values() for level in levels))
    plot, axes = new_plot(2.7 * len(levels_of) + 0.8, width=2.4 * len(shown), columns=len(shown),
                          lines=len(levels_of), squeeze=False)  # fmt: skip
    for number, (name, levels) in enumerate(levels_of.items(), start=1):
        place = {(level.rank, level.within): level for level in levels}
        for column, (panel, which) in enumerate(zip(axes[number - 1], shown, strict=True)):
            if which not in place:
                panel.axis("off")
                continue
            _draw_level(panel, place[which])
            if column == 0:
                panel.set_ylabel(plot_label(name), fontsize=10)
            if number == len(levels_of):
                panel.legend(fontsize=6, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), markerscale=2)
    return plot


def _draw_level(panel: Any, level: Level) -> None:
    size = 2 if len(level.row_N) > 500 else 6
    for i, name in enumerate(level.names):
        here = level.xy_N2[level.colour_N == i]
        panel.scatter(here[:, 0], here[:, 1], s=size, color=LEVEL_COLOURS[i], alpha=0.6, lw=0, label=plot_label(name))
    title = RANK_LABELS[level.rank] + (f" within {level.within}" if level.within else "")
    panel.set_title(plot_label(title), fontsize=7.5, loc="left")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set(visible=True, color="#d9dfd8")


def plot_interactive(levels: list[Level], labels: list[str]) -> Any:
    """Return a plotly scatter plot with a menu of ranks; ``labels`` is the hover text of each image."""
    import plotly.graph_objects as go

    figure, owner = go.Figure(), []
    opened = next((number for number, level in enumerate(levels) if len(level.names) > 1), 0)
    for number, level in enumerate(levels):
        for i, name in enumerate(level.names):
            here = level.colour_N == i
            xy = np.round(level.xy_N2[here], 2)
            figure.add_scatter(
                x=xy[:, 0].tolist(), y=xy[:, 1].tolist(), mode="markers", name=name, visible=number == opened,
                marker={"color": LEVEL_COLOURS[i], "size": 6, "opacity": 0.7},
                text=[labels[row] for row in level.row_N[here]], hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
            owner.append(number)
    buttons = [
        {"label": RANK_LABELS[level.rank] + (f" in {level.within}" if level.within else ""), "method": "restyle",
         "args": [{"visible": [number == mine for mine in owner]}]}
        for number, level in enumerate(levels)
    ]  # fmt: skip
    menu = {"buttons": buttons, "active": opened, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom",
            "bgcolor": "#e8ece7", "font": {"color": "#1d2620", "size": 12}}  # fmt: skip
    axis = {"visible": False}
    figure.update_layout(updatemenus=[menu], xaxis=axis, yaxis={**axis, "scaleanchor": "x"}, showlegend=True,
                         legend={"orientation": "h", "y": -0.02}, margin={"t": 52, "l": 6, "r": 6, "b": 6},
                         font={"family": "system-ui, sans-serif", "size": 13})  # fmt: skip
    return figure
