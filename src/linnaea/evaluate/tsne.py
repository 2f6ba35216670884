"""Figure 5 of BioCLIP (arXiv 2311.18803): t-SNE of image vectors, rank by rank down the most photographed lineage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

N_SHOWN = 6
"""Taxa told apart at each rank: the most photographed ones, as in the paper."""
MOST_IMAGES = 2_000
FEWEST_IMAGES = 20
COLOURS = ("#2f6f4f", "#c98a2b", "#2a6f97", "#a4303f", "#7b4b94", "#8a9a2c")


@dataclass(frozen=True, kw_only=True)
class Level:
    """One panel: the images of one clade, coloured by the taxa of a rank within it."""

    rank: Rank
    within: str
    """Name of the clade; empty for all images."""
    row_N: NDArray[np.int64]
    """Rows of the images."""
    xy_N2: NDArray[np.float64]
    colour_N: NDArray[np.int64]
    """Place in ``names``."""
    names: tuple[str, ...]


def lay_out(
    feature_NE: Float32[ndarray, "N E"], taxon_NR: Int[ndarray, "N 7"], taxa: list[Taxon], *, seed: int = 0
) -> list[Level]:
    """The panels from kingdom to species: at each rank the six taxa with most images are shown, then the largest is
    entered. ``taxon_NR`` numbers the taxa (-1 unnamed), ``taxa`` is the truth of each image. At most 2,000 images a
    panel, drawn with ``seed``; a panel of the same images as the one above keeps its layout.
    """
    rows, within = np.arange(len(feature_NE)), ""
    levels: list[Level] = []
    for rank in Rank:
        own = taxon_NR[rows, rank]
        numbers, counts = np.unique(own[own >= 0], return_counts=True)
        if not len(numbers):  # nobody here is named at this rank
            continue
        shown = numbers[np.lexsort((numbers, -counts))][:N_SHOWN]
        chosen = rows[np.isin(own, shown)]
        if len(chosen) > MOST_IMAGES:
            chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST_IMAGES, replace=False))
        if len(chosen) < FEWEST_IMAGES:
            break
        same = bool(levels) and np.array_equal(levels[-1].row_N, chosen)
        xy = levels[-1].xy_N2 if same else _embed(feature_NE[chosen], seed)
        place = {int(number): i for i, number in enumerate(shown)}
        colour = np.array([place[int(number)] for number in taxon_NR[chosen, rank]])
        names = tuple(_name(taxa[chosen[int(np.argmax(colour == i))]], rank) for i in range(len(shown)))
        levels.append(Level(rank=rank, within=within, row_N=chosen, xy_N2=xy, colour_N=colour, names=names))
        rows, within = rows[own == shown[0]], names[0]
    return levels


def _name(taxon: Taxon, rank: Rank) -> str:
    return taxon.scientific_name if rank == Rank.SPECIES else taxon[rank]


def _embed(feature_NE: Float32[ndarray, "N E"], seed: int) -> NDArray[np.float64]:
    from openTSNE import TSNE

    perplexity = min(30, max(2, (len(feature_NE) - 1) // 3))
    tsne = TSNE(perplexity=perplexity, metric="cosine", initialization="pca", random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit(np.ascontiguousarray(feature_NE, np.float64)), np.float64)


def plot_levels(levels: list[Level]) -> Any:
    """All panels as one matplotlib figure."""
    from matplotlib.figure import Figure

    columns = min(4, len(levels))
    lines = -(-len(levels) // columns)
    plot = Figure(figsize=(3.1 * columns, 3.5 * lines), layout="constrained")
    axes = np.atleast_1d(plot.subplots(lines, columns)).ravel()
    for panel in axes[len(levels) :]:
        panel.axis("off")
    for panel, level in zip(axes, levels, strict=False):
        size = 3 if len(level.row_N) > 500 else 10
        for i, name in enumerate(level.names):
            here = level.xy_N2[level.colour_N == i]
            panel.scatter(here[:, 0], here[:, 1], s=size, color=COLOURS[i], alpha=0.6, lw=0, label=name)
        title = RANK_LABELS[level.rank] + (f" within {level.within}" if level.within else "")
        panel.set_title(title, fontsize=9, loc="left")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_color("#d9dfd8")
        panel.legend(fontsize=6.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, markerscale=2)
    return plot


def plot_interactive(levels: list[Level], labels: list[str]) -> Any:
    """A plotly scatter with a switch between ranks; ``labels`` says what each image shows."""
    import plotly.graph_objects as go

    figure, owner = go.Figure(), []
    opened = next((number for number, level in enumerate(levels) if len(level.names) > 1), 0)
    for number, level in enumerate(levels):
        for i, name in enumerate(level.names):
            here = level.colour_N == i
            xy = np.round(level.xy_N2[here], 2)
            figure.add_scatter(
                x=xy[:, 0].tolist(), y=xy[:, 1].tolist(), mode="markers", name=name, visible=number == opened,
                marker={"color": COLOURS[i], "size": 6, "opacity": 0.7},
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
