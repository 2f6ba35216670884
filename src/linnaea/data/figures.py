"""Plots of a data set: the long tail, the tree as an icicle, the licences of each source, and sample photographs."""

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.counting import count
from linnaea.page import Card, Cards, new_plot, plot_label
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import TaxonTree, depth_first
from linnaea.taxonomy.treemap import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

    from linnaea.data.shards import DataSet

GREEN, AMBER, GREY = "#2f6f4f", "#c98a2b", "#8a8f87"
INK = "#1d2620"

PERMISSION_COLOURS = {"open": GREEN, "non-commercial": AMBER, "closed": "#b9beb6"}
ICICLE_WIDTH = 11.0
LOWEST = Rank.FAMILY
"""The lowest rank of the icicle."""
ROW_HEIGHTS = (0.5, 0.55, 0.75, 1.0, 1.0)
"""Heights in inches of the icicle's rows; the lower rows leave room for vertical names."""
LEANS = (0.0, 0.035, -0.035, 0.06, -0.05)
"""Differences in hue (0..1) between the classes of a kingdom and the kingdom."""
N_CARDS, N_KINGDOMS, CARD_SIDE = 6, 8, 220


@dataclass(frozen=True, kw_only=True)
class CountedTree:
    """The tree of a data set with the counts of its photographs."""

    tree: TaxonTree
    images: npt.NDArray[np.int64]
    """Number of photographs at or below each node, ``[n_nodes]``."""
    left: npt.NDArray[np.int64]
    """Number of photographs before each node in depth-first order, ``[n_nodes]``."""


def count_tree(dataset: "DataSet") -> CountedTree:
    """Return the taxa with photographs as a tree; this takes about a second per million taxa."""
    counts = dataset.index.group_by("taxon_id").agg(pl.len().alias("images"))
    taxa = depth_first(dataset.taxa.join(counts, on="taxon_id"))
    tree = TaxonTree.of(taxa)
    before = np.concatenate([[0], np.cumsum(taxa["images"].to_numpy().astype(np.int64))])
    return CountedTree(
        tree=tree, images=before[tree.last_leaf + 1] - before[tree.first_leaf], left=before[tree.first_leaf]
    )


def plot_long_tail(images_per_taxon: pl.Series) -> "Plot":
    """Plot images per taxon from the commonest to the rarest, with both axes logarithmic."""
    from matplotlib.ticker import FuncFormatter

    figure, axes = new_plot(1.9)
    counts = images_per_taxon.to_numpy()
    ranks = np.arange(1, len(counts) + 1)
    axes.plot(ranks, counts, color=GREEN, lw=1.3, solid_capstyle="round")
    axes.fill_between(ranks, counts, 0.5, color=GREEN, alpha=0.12, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="taxa, commonest first", ylabel="photographs of the taxon")
    axes.set(xlim=(0.93, max(len(counts), 2) * 1.15), ylim=(0.8, max(counts.max(initial=1) * 1.6, 3)))
    n_head = int((np.cumsum(counts) < counts.sum() / 2).sum()) + 1
    if 1 < n_head < len(counts):
        right = n_head * n_head < len(counts)  # the words stand where there is more room, above or below the curve
        axes.axvline(n_head, color=AMBER, lw=0.8, ls=(0, (4, 3)))
        axes.annotate(
            f"half of the photographs\nare of {n_head:,} taxa", (n_head, axes.get_ylim()[right]),
            xytext=(5, -2) if right else (-5, 3), textcoords="offset points", ha="left" if right else "right",
            va="top" if right else "bottom", fontsize=7, color="#8a5a12",
        )  # fmt: skip
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)
    return figure


def plot_icicle(counted: CountedTree) -> "Plot":
    """Plot the tree as an icicle: the width is the number of images, one row per rank, with names where they fit."""
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure as Plot
    from matplotlib.patches import Rectangle

    tree, total = counted.tree, max(int(counted.images[0]), 1)
    # Boxes narrower than a quarter of a pixel of the largest screen are not drawn; 20,000 families take a second.
    shown = (tree.rank >= 0) & (tree.rank <= LOWEST) & (counted.images * 8000 > total)
    nodes = [int(node) for node in np.flatnonzero(shown)]
    bottom = [-sum(ROW_HEIGHTS[: row + 1]) for row in range(len(ROW_HEIGHTS))]
    colours = _icicle_colours(counted)
    points = {node: float(counted.images[node]) / total * (ICICLE_WIDTH - 0.8) * 72 for node in nodes}
    boxes = [
        Rectangle((counted.left[n], bottom[tree.rank[n]]), counted.images[n], ROW_HEIGHTS[tree.rank[n]] - 0.02)
        for n in nodes
    ]
    figure = Plot(figsize=(ICICLE_WIDTH, sum(ROW_HEIGHTS) + 0.15), layout="constrained")
    axes = figure.subplots()
    edges = [min(0.5, points[n] / 12) for n in nodes]
    fills = [colours[n] for n in nodes]
    axes.add_collection(PatchCollection(boxes, facecolors=fills, edgecolors="white", linewidths=edges))
    for node, name in zip(nodes, tree.scientific_names(nodes) if nodes else (), strict=True):
        row = int(tree.rank[node])
        level, upright = points[node] > len(name) * 5.2 + 6, ROW_HEIGHTS[row] * 72 > len(name) * 4.4 + 5
        if level or (upright and points[node] > 10):
            middle = counted.left[node] + counted.images[node] / 2
            axes.text(
                middle, bottom[row] + ROW_HEIGHTS[row] / 2, plot_label(name), ha="center", va="center",
                fontsize=8.5 if level else 7.5, rotation=0 if level else 90,
                color="white" if _is_dark(colours[node]) else INK,
            )  # fmt: skip
    middles = [low + height / 2 for low, height in zip(bottom, ROW_HEIGHTS, strict=True)]
    axes.set_yticks(middles, RANK_LABELS[: LOWEST + 1])
    axes.set(xlim=(0, total), ylim=(bottom[-1], 0), xticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _icicle_colours(counted: CountedTree) -> dict[int, tuple[float, ...]]:
    """Return the colours: a hue per kingdom, the largest first; classes vary around it; lower ranks are lighter."""
    import colorsys

    from matplotlib.colors import to_rgb

    tree = counted.tree
    tops = tree.children(0)
    order = tops[np.argsort(-counted.images[tops], kind="stable")]
    hue = {int(top): colorsys.rgb_to_hsv(*to_rgb(PALETTE[i % len(PALETTE)])) for i, top in enumerate(order)}
    colours: dict[int, tuple[float, ...]] = {}
    place = [0] * len(RANK_LABELS)
    for node in (int(n) for n in np.flatnonzero((tree.rank >= 0) & (tree.rank <= LOWEST))):
        rank, parent = int(tree.rank[node]), int(tree.parent[node])
        place[rank] += 1
        if node not in hue:
            tint, saturation, value = hue[parent]
            lean = LEANS[place[rank] % len(LEANS)] if rank == Rank.CLASS else 0.0
            hue[node] = ((tint + lean) % 1.0, saturation, value)
        red_green_blue = np.array(colorsys.hsv_to_rgb(*hue[node]))
        white = min(0.1 * (int(tree.depth[node]) - 1) + 0.06 * (place[rank] % 2), 0.7)
        colours[node] = tuple(red_green_blue * (1 - white) + white)
    return colours


def _is_dark(colour: tuple[float, ...]) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.6


def plot_licences(by_source_licence: pl.DataFrame, permissions: Mapping[str, str]) -> "Plot":
    """Plot the shares of open, non-commercial and closed licences of each source."""
    counted = by_source_licence.with_columns(allows=pl.col("licence").replace_strict(permissions, default="closed"))
    totals = counted.group_by("source").agg(pl.col("images").sum().alias("total")).sort("total", "source").tail(30)
    shares = counted.group_by("source", "allows").agg(pl.col("images").sum()).join(totals, on="source")
    figure, axes = new_plot(0.2 * totals.height + 0.6)
    left = np.zeros(totals.height)
    for allows, colour in PERMISSION_COLOURS.items():
        part = totals.join(shares.filter(pl.col("allows") == allows).drop("total"), on="source", how="left",
                           maintain_order="left")  # fmt: skip
        width = (part["images"].fill_null(0) / part["total"]).to_numpy()
        axes.barh(
            [plot_label(fill(source, 20)) for source in totals["source"]],
            width,
            left=left,
            color=colour,
            height=0.72,
            label=allows,
        )
        left += width
    axes.set(xlim=(0, 1), xticks=[0, 0.25, 0.5, 0.75, 1], xticklabels=["0%", "25%", "50%", "75%", "100%"])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=7)
    return figure


def make_cards(dataset: "DataSet", attributions: Mapping[str, str]) -> list[tuple[str, Cards]]:
    """Return random photographs (keys are hashes), each of another taxon: one grid per kingdom, the largest first."""
    taxa = dataset.taxa.select("taxon_id", "kingdom", "genus", "scientific_name", "common_name")
    rows = dataset.index.with_row_index("row").select("row", "key", "taxon_id").join(taxa, on="taxon_id")
    kingdoms = rows.group_by("kingdom").len().sort("len", "kingdom", descending=[True, False])
    grids: list[tuple[str, Cards]] = []
    for kingdom, n_images in kingdoms.head(N_KINGDOMS).iter_rows():
        of_kingdom = rows.filter(pl.col("kingdom") == kingdom).sort("key")
        drawn = of_kingdom.unique("taxon_id", keep="first", maintain_order=True).head(N_CARDS)
        cards = [_make_card(dataset, row, attributions) for row in drawn.iter_rows(named=True)]
        heading = f"{kingdom or 'No kingdom named'}: {count(n_images, 'photograph')}"
        grids.append((heading, Cards([card for card in cards if card])))
    return grids


def _make_card(dataset: "DataSet", row: Mapping[str, object], attributions: Mapping[str, str]) -> Card | None:
    import cv2
    import simplejpeg

    from linnaea.data.images import ImageError, decode

    try:
        picture = decode(dataset.read(int(str(row["row"]))), min_short_side=CARD_SIDE)
    except ImageError:  # a data set from elsewhere; `data check` reports it
        return None
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(picture[top : top + side, left : left + side])
    if side > CARD_SIDE:
        square = np.asarray(cv2.resize(square, (CARD_SIDE, CARD_SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    scientific, common = str(row["scientific_name"] or ""), str(row["common_name"] or "")
    names = [name for name in (common, scientific) if name]
    attribution = attributions.get(str(row["key"]), "")
    jpeg = simplejpeg.encode_jpeg(square, quality=82, colorspace="RGB", colorsubsampling="420")
    return Card(jpeg, f"photograph of {' or '.join(names)}", [*names, *([attribution] if attribution else [])],
                latin=[scientific] if row["genus"] else [])  # fmt: skip
