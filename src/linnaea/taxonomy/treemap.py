"""Draw a clade as an interactive treemap or sunburst on one offline page, for up to a hundred thousand species."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from linnaea.counting import plural
from linnaea.page import Chart, Facts, Page, Section, Table, Text
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import ROOT, TaxonTree

MOST_BOXES = 4000
"""The largest number of boxes that a browser draws quickly. The largest taxa are shown, and the rest are combined."""
MOST_CHILDREN = 120
"""The largest number of boxes within one taxon; the rest are combined into one box."""
PALETTE = ("#2f6f4f", "#c98a2b", "#2a6f97", "#a4303f", "#7b4b94", "#6a994e", "#5b5f97", "#b5651d", "#3a7d7c", "#8a5a83")


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The boxes to draw, each for one taxon or for several small ones together (``node`` -1)."""

    node: Sequence[int]
    parent: Sequence[int]
    """Index of the parent box, -1 for the outermost."""
    label: Sequence[str]
    size: Sequence[int]
    """Number of species below it, or of whatever is counted."""
    n_summed: Sequence[int]
    """Number of taxa that a box represents without showing them."""


def count_species(tree: TaxonTree) -> npt.NDArray[np.int64]:
    """Return [n_nodes] the number of species at or below each node."""
    before = np.concatenate([[0], np.cumsum(tree.rank == Rank.SPECIES)])
    nodes = np.arange(tree.n_nodes)
    ends = np.maximum(np.searchsorted(tree.first_leaf, tree.last_leaf, side="right"), nodes + 1)
    return np.asarray(before[ends] - before[nodes])


def choose_boxes(
    tree: TaxonTree,
    top: int,
    *,
    counts: npt.NDArray[np.int64] | None = None,
    most: int = MOST_BOXES,
    most_children: int = MOST_CHILDREN,
) -> Boxes:
    """Return at most about ``most`` boxes of a clade, with the largest taxa opened first.

    ``counts`` [n_nodes] is the size of each taxon; by default, the number of species at or below it.
    """
    species = count_species(tree) if counts is None else counts
    node, parent, label, summed, value = [top], [-1], [name_of(tree, top)], [0], [max(int(species[top]), 1)]
    queue = [(-value[0], 0)]
    while queue and len(node) < most:
        _, box = heapq.heappop(queue)
        children = tree.children(node[box])
        sizes = np.maximum(species[children], 1)
        order = np.argsort(-sizes, kind="stable")
        # If only one box does not fit, show it instead of "1 more".
        n_shown = len(order) if len(order) <= most_children + 1 else most_children
        n_shown = min(n_shown, max(most - len(node) - 1, 0))
        for child in order[:n_shown]:
            if tree.subtree(int(children[child])).stop > children[child] + 1:
                heapq.heappush(queue, (-int(sizes[child]), len(node)))
            node.append(int(children[child]))
            parent.append(box)
            label.append(name_of(tree, int(children[child])))
            value.append(int(sizes[child]))
            summed.append(0)
        if rest := order[n_shown:].tolist():
            node.append(-1)
            parent.append(box)
            label.append(f"… {len(rest):,} more" if n_shown else f"{len(rest):,} taxa")
            value.append(int(sizes[rest].sum()))
            summed.append(sum(tree.subtree(int(c)).stop - int(c) for c in children[rest]))
    for _, box in queue:  # never opened
        inside = tree.subtree(node[box])
        summed[box] = inside.stop - inside.start - 1
    return Boxes(node=node, parent=parent, label=label, size=value, n_summed=summed)


def name_of(tree: TaxonTree, node: int) -> str:
    """Return the scientific name of a node, Life for the root."""
    return "Life" if node == ROOT else str(tree.scientific_names([node])[0])


def make_treemap_page(tree: TaxonTree, top: int, *, source: str) -> Page:
    """Return the page of a clade; ``source`` is its checklist and version."""
    boxes = choose_boxes(tree, top)
    name, species = name_of(tree, top), count_species(tree)
    inside = tree.subtree(top)
    below = np.bincount(tree.rank[inside].astype(np.int64) + 1, minlength=len(Rank) + 1)[1:]
    facts = {
        plural(int(n), rank.label): int(n) for rank, n in zip(Rank, below, strict=True) if n and rank > tree.rank[top]
    }
    children = tree.children(top)
    children = children[np.argsort(-species[children], kind="stable")]
    rows = [
        {"taxon": str(child_name), "rank": RANK_LABELS[tree.rank[child]], "species": int(species[child])}
        for child, child_name in zip(children, tree.scientific_names(children), strict=True)
    ] if len(children) else []  # fmt: skip
    return Page(
        name,
        f"{RANK_LABELS[tree.rank[top]] if top != ROOT else 'everything'} in {source}",
        [
            Section("At a glance", [Facts(facts)] if facts else [Text("The checklist has no taxa below it.")]),
            Section(
                "The clade",
                [
                    Text("The area is the number of species. Tap a box to open it, and the bar at the top to go back."),
                    Text(_said(boxes)),
                    Chart(make_figure(tree, boxes), f"Treemap of {name} by number of species", height=720),
                ],
            ),
            Section("Composition", [Table(rows, f"Taxa directly below {name}, the largest first.")]),
        ],
        footer=f"linnaea taxonomy tree, {source}. This page works offline.",
    )


def _said(boxes: Boxes) -> str:
    hidden = sum(boxes.n_summed)
    shown = sum(node >= 0 for node in boxes.node) - 1
    if not hidden:
        return "The one taxon below it is shown." if shown == 1 else f"All {shown:,} taxa below it are shown."
    return (
        f"The {shown:,} largest taxa are shown. Pale boxes and boxes without inner ones combine {hidden:,} smaller"
        " ones. To see them, draw a smaller clade: `linnaea taxonomy tree NAME --plot FILE`."
    )


def make_figure(tree: TaxonTree, boxes: Boxes, *, unit: str = "species", icicle: bool = False) -> Any:
    """Return a plotly figure with buttons for treemap and sunburst, and first for an icicle plot if ``icicle`` is set.

    ``unit`` names the things that box sizes count.
    """
    import plotly.graph_objects as go

    traces = _make_traces(boxes, [_note(tree, boxes, i, unit) for i in range(len(boxes.node))], icicle)
    figure = go.Figure([trace.update(visible=i == 0) for i, trace in enumerate(traces.values())])
    figure.update_layout(
        margin={"t": 44, "l": 4, "r": 4, "b": 4},
        updatemenus=[_make_menu([*traces])],
        font={"family": "system-ui, sans-serif", "size": 13},
        uniformtext={"minsize": 11 if icicle else 9, "mode": "hide"},
    )
    return figure


def _make_traces(boxes: Boxes, notes: Sequence[str], icicle: bool) -> dict[str, Any]:
    """Return the plots of a figure by the labels of their buttons, the one that is shown first before the others."""
    import plotly.graph_objects as go

    ids = [str(i) for i in range(len(boxes.node))]
    colours = colour_boxes(boxes)
    shared = {
        "ids": ids,
        "labels": [*boxes.label],
        "parents": ["" if parent < 0 else str(parent) for parent in boxes.parent],
        "values": _adding_up(boxes),
        "branchvalues": "total",
        "customdata": notes,
        "maxdepth": 3,
        "hovertemplate": "<b>%{label}</b><br>%{customdata}<extra></extra>",
        "marker": {"colors": colours, "line": {"width": 0.6, "color": "rgba(255,255,255,.6)"}},
    }
    on_two_lines = [label if label.startswith("…") else label.replace(" ", "<br>", 1) for label in boxes.label]
    treemap = go.Treemap(
        **shared, text=on_two_lines, textinfo="text", tiling={"pad": 2}, pathbar={"thickness": 26},
        root={"color": "rgba(0,0,0,0)"},
    )  # fmt: skip
    traces = {"treemap": treemap, "sunburst": go.Sunburst(**shared, insidetextorientation="auto")}
    if not icicle:
        return traces
    first = go.Icicle(
        **{**shared, "maxdepth": 6, "marker": {"colors": colours, "line": {"width": 0.3, "color": "white"}}},
        tiling={"orientation": "v", "pad": 0},
        pathbar={"thickness": 26},
        textinfo="label",
        textposition="middle center",
    )
    return {"icicle": first} | traces


def _make_menu(labels: Sequence[str]) -> dict[str, Any]:
    """Return buttons, each of which shows one plot and hides the others."""
    buttons = [
        {"label": label, "method": "restyle", "args": [{"visible": [i == shown for i in range(len(labels))]}]}
        for shown, label in enumerate(labels)
    ]
    return {
        "type": "buttons",
        "direction": "right",
        "buttons": buttons,
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 6, "l": 4},
        "bgcolor": "#e8ece7",
        "font": {"color": "#1d2620", "size": 12},
    }


def _adding_up(boxes: Boxes) -> list[int]:
    """Return values in which a parent is at least the sum of its children (a genus without species counts as one)."""
    values = list(boxes.size)
    sums = [0] * len(values)
    for i in range(len(values) - 1, -1, -1):
        values[i] = max(values[i], sums[i])
        if boxes.parent[i] >= 0:
            sums[boxes.parent[i]] += values[i]
    return values


def _note(tree: TaxonTree, boxes: Boxes, box: int, unit: str) -> str:
    node, n = boxes.node[box], boxes.size[box]
    rank = "smaller taxa combined" if node < 0 else "" if node == ROOT else RANK_LABELS[tree.rank[node]]
    return rank if rank == unit else f"{rank}<br>{n:,} {unit}"


def colour_boxes(boxes: Boxes) -> list[str]:
    """Return one hue per taxon directly below the top, lighter further down, and pale for combined taxa."""
    colours, depths = ["#d9dfd8"], [0]
    n_hues = 0
    for node, parent in zip(boxes.node[1:], boxes.parent[1:], strict=True):
        depths.append(depths[parent] + 1)
        if node < 0:
            colours.append(lighter(colours[parent], 0.55))
        elif parent == 0:
            colours.append(PALETTE[n_hues % len(PALETTE)])
            n_hues += 1
        else:
            colours.append(lighter(colours[parent]))
    return colours


def lighter(colour: str, by: float = 0.12) -> str:
    """Return a colour mixed with a share of white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * by):02x}" for part in parts)
