"""The report of a data set: one page that needs no network, its figures as pictures, and the datasheet beside it."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from linnaea.data.datasheet import write_datasheet
from linnaea.data.figures import (
    CountedTree,
    count_tree,
    make_cards,
    plot_icicle,
    plot_licences,
    plot_long_tail,
)
from linnaea.data.licences import NONE_STATED
from linnaea.data.statistics import Statistics, load_licences, measure
from linnaea.page import Block, Chart, Details, Facts, Figure, Page, Section, Table, Text
from linnaea.storage import write_atomically
from linnaea.taxonomy.tree import ROOT
from linnaea.taxonomy.treemap import Boxes, choose_boxes, make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

    from linnaea.data.shards import DataSet

MOST_BOXES = 2500
"""Of the interactive tree: the page stays below 10 MB and quick on a phone for any number of taxa."""
FIGURE_DPI = 200
N_EXAMPLES = 3

_TAIL_ALT = "photographs of each taxon from the commonest to the rarest, on logarithmic axes"


def write_report(dataset: "DataSet", reasons: Mapping[str, int]) -> Path:
    """Write ``report.html``, ``datasheet.md`` and ``figures/*.png``; ``reasons`` counts the rejects. Returns the page.

    Raises:
        LinnaeaError: a file cannot be written, or a shard cannot be read.
    """
    statistics, counted = measure(dataset), count_tree(dataset)
    plots = {"long_tail": plot_long_tail(statistics.images_per_taxon), "icicle": plot_icicle(counted)}
    for name, plot in plots.items():
        write_atomically(dataset.directory / "figures" / f"{name}.png", _png(plot))
    manifest = json.loads((dataset.directory / "manifest.json").read_text())
    write_datasheet(dataset.directory, manifest, statistics)
    page = Page(
        dataset.directory.resolve().name,
        "What is in this data set.",
        [
            Section("In short", [Facts(_facts(statistics, reasons))]),
            Section("Photographs", _photographs(dataset)),
            Section("The tree", _tree(counted, plots["icicle"])),
            Section("The long tail", _long_tail(statistics, plots["long_tail"])),
            Section("Licences", _licences(statistics)),
            Section(
                "Sources", [Table(statistics.by_source, percent=["complete"], caption="complete: all ranks named")]
            ),
            Section(
                "Ranks", [Table(statistics.by_rank, percent=["share"], caption="names: distinct taxa at the rank")]
            ),
            Section("Splits", [Table(statistics.by_split)]),
            Section("Sizes", [Table(statistics.sizes, "Of the stored pictures: pixels, and bytes of the JPEG.")]),
            Section("Rejects", _rejects(dataset.directory, reasons)),
        ],
        footer="Made by `linnaea data build`. Numbers for machines: `linnaea data stats DIR --json`.",
    )
    path = dataset.directory / "report.html"
    page.write(path)
    return path


def _png(plot: "Plot") -> bytes:
    stream = io.BytesIO()
    plot.savefig(stream, format="png", dpi=FIGURE_DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def _facts(statistics: Statistics, reasons: Mapping[str, int]) -> dict[str, str]:
    species = statistics.by_rank.filter(pl.col("rank") == "species")["names"].sum()
    return {
        "photographs": f"{statistics.n_images:,}",
        "taxa": f"{statistics.n_taxa:,}",
        "species": f"{species:,}",
        "with all seven ranks": f"{statistics.share_complete:.0%}",
        "with a common name": f"{statistics.share_common_name:.0%}",
        "taxa that hold half of them": f"{statistics.n_head:,}",
        "rejected": f"{sum(reasons.values()):,}",
    }


def _photographs(dataset: "DataSet") -> list[Block]:
    licences = load_licences(dataset).filter(pl.col("licence_id") != NONE_STATED)
    grids = make_cards(dataset, dict(licences.select("key", "attribution").iter_rows()))
    note = (
        "Drawn at random, each of another taxon. Below a photograph stand its author and licence where they are known."
    )
    return [Text(note), *(block for heading, cards in grids for block in (Text(heading), cards))]


def _tree(counted: CountedTree, plot: "Plot") -> list[Block]:
    boxes = choose_boxes(counted.tree, ROOT, counts=counted.images, most=MOST_BOXES)
    figure = make_figure(counted.tree, boxes, unit="photographs", icicle=True)
    alt = "the tree of life in this data set, boxes as wide as their number of photographs"
    said = "The width (or area) is the number of photographs. Tap a box to go in, the bar on top to come back."
    still = Figure(plot, "nested bars of the taxa from kingdom to family, as wide as their number of photographs")
    return [Text(f"{said} {_said(boxes)}"), Chart(figure, alt, height=680), Details("As a picture", [still])]


def _said(boxes: Boxes) -> str:
    hidden = sum(boxes.n_summed)
    if not hidden:
        return "All taxa are here."
    shown = sum(node >= 0 for node in boxes.node) - 1
    return f"Shown are the {shown:,} taxa with most photographs; {hidden:,} smaller ones are summed up."


def _long_tail(statistics: Statistics, plot: "Plot") -> list[Block]:
    quantiles = statistics.images_per_taxon_quantiles
    few = {f"taxa {words}": f"{n:,}" for words, n in statistics.taxa_by_size.items()}
    row = {("fewest" if q == 0 else "most" if q == 1 else "median" if q == 0.5 else f"{q:.0%}"): n
           for q, n in quantiles.items()}  # fmt: skip
    words = "Gini: 0 where all taxa have the same number of photographs, near 1 where few have nearly all."
    return [
        Figure(plot, _TAIL_ALT),
        Facts({**few, "Gini": f"{statistics.gini:.2f}"}),
        Table([row], f"Photographs of a taxon: quantiles over the taxa. {words}"),
    ]


def _licences(statistics: Statistics) -> list[Block]:
    permissions = dict(statistics.by_licence.select("licence", "allows").iter_rows())
    closed = "all rights reserved, no derivatives, unclear, or none stated"
    return [
        Figure(
            plot_licences(statistics.by_source_licence, permissions),
            "shares of open, non-commercial and closed licences of each source",
            f"open: any use, changes too; closed: {closed}. Each photograph's own is in `licences.parquet`.",
        ),
        Table(statistics.by_licence, percent=["share"]),
        Details("Licences of each source", [Table(statistics.by_source_licence)]),
    ]


def _rejects(directory: Path, reasons: Mapping[str, int]) -> list[Block]:
    if not reasons:
        return [Text("None: every record became a photograph.")]
    table = pl.read_parquet(directory / "rejects.parquet")
    rows = []
    for reason, count in reasons.items():
        examples = table.filter(pl.col("reason").str.starts_with(reason)).head(N_EXAMPLES)["record_id"]
        rows.append({"reason": reason, "records": count, "for example": ", ".join(examples)})
    return [Table(rows, "Every one of them, with its reason, is in `rejects.parquet`.")]
