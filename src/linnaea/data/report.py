"""What is in a data set: statistics per split, source, rank and licence; the long tail; the tree as an icicle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from linnaea.page import Facts, Figure, Page, Section, Table, Text
from linnaea.taxonomy.ranks import RANK_LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

    from linnaea.data.shards import DataSet

GREEN, AMBER, GREY = "#2f6f4f", "#c98a2b", "#8a8f87"
HEAD_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts of a data set; every frame is small enough to print."""

    n_images: int
    n_bytes: int
    n_taxa: int
    by_split: pl.DataFrame
    """split, images, taxa, shards, bytes"""
    by_source: pl.DataFrame
    """source, images, taxa, complete (share of images whose seven ranks are all named)"""
    by_rank: pl.DataFrame
    """rank, names (distinct taxa at that rank), images (that are named at least so far), share"""
    images_per_taxon: pl.Series
    """Images of each taxon that has any, most first."""

    @property
    def n_head(self) -> int:
        """How many of the commonest taxa hold half of the images."""
        return int((self.images_per_taxon.cum_sum() < HEAD_SHARE * self.n_images).sum()) + 1


def measure(dataset: "DataSet") -> Statistics:
    """Count everything the report shows; one join of index and taxa, a few seconds for ten million images."""
    index, taxa = dataset.index, dataset.taxa
    joined = index.select("split", "shard", "source", "size", "taxon_id").join(
        taxa.select("taxon_id", *RANK_LABELS), on="taxon_id", how="left"
    )
    complete = pl.all_horizontal(pl.col(label) != "" for label in RANK_LABELS)
    images_taxa = (pl.len().alias("images"), pl.col("taxon_id").n_unique().alias("taxa"))
    by_split = joined.group_by("split").agg(
        *images_taxa, pl.col("shard").n_unique().alias("shards"), pl.col("size").sum().alias("bytes")
    )
    by_source = joined.group_by("source").agg(*images_taxa, complete.mean().alias("complete"))
    per_taxon = index.group_by("taxon_id").len()["len"].sort(descending=True)
    return Statistics(
        n_images=index.height,
        n_bytes=int(index["size"].sum()),
        n_taxa=per_taxon.len(),
        by_split=by_split.sort("split"),
        by_source=by_source.sort("images", descending=True),
        by_rank=_count_ranks(joined),
        images_per_taxon=per_taxon.alias("images"),
    )


def _count_ranks(joined: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for depth, label in enumerate(RANK_LABELS):
        named = joined.filter(pl.col(label) != "")
        # A name counts once per lineage: homonyms in different kingdoms are different taxa.
        names = named.select(RANK_LABELS[: depth + 1]).unique().height
        share = named.height / max(joined.height, 1)
        rows.append({"rank": label, "names": names, "images": named.height, "share": share})
    return pl.DataFrame(rows)


def write_report(dataset: "DataSet", reasons: Mapping[str, int]) -> Path:
    """Write ``report.html`` into the data set's folder; ``reasons`` counts the rejects."""
    statistics = measure(dataset)
    facts = {
        "photographs": f"{statistics.n_images:,}",
        "taxa": f"{statistics.n_taxa:,}",
        "taxa that hold half of them": f"{statistics.n_head:,}",
        "megabytes": f"{statistics.n_bytes / 1e6:,.0f}",
        "rejected": f"{sum(reasons.values()):,}",
    }
    rejects = [{"reason": reason, "records": count} for reason, count in reasons.items()]
    icicle_alt = "nested bars of the taxa from kingdom to family, as wide as their number of photographs"
    tail_alt = "photographs of each taxon from the commonest to the rarest, falling over several powers of ten"
    page = Page(
        dataset.directory.resolve().name,
        "What is in this data set.",
        [
            Section("In short", [Facts(facts)]),
            Section("The tree", [Figure(plot_icicle(dataset), icicle_alt, "Width: number of photographs.")]),
            Section("The long tail", [Figure(plot_long_tail(statistics.images_per_taxon), tail_alt)]),
            Section("Splits", [Table(statistics.by_split)]),
            Section(
                "Sources", [Table(statistics.by_source, percent=["complete"], caption="complete: all ranks named")]
            ),
            Section(
                "Ranks", [Table(statistics.by_rank, percent=["share"], caption="names: distinct taxa at the rank")]
            ),
            Section("Rejects", [Table(rejects) if rejects else Text("None: every record became a photograph.")]),
        ],
        footer="Made by `linnaea data build`.",
    )
    path = dataset.directory / "report.html"
    page.write(path)
    return path


def plot_long_tail(images_per_taxon: pl.Series) -> "Plot":
    """Images per taxon from the commonest to the rarest, both axes logarithmic."""
    from matplotlib.figure import Figure as Plot

    figure = Plot(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    counts = images_per_taxon.to_numpy()
    axes.plot(range(1, len(counts) + 1), counts, color=GREEN, lw=1.8)
    axes.fill_between(range(1, len(counts) + 1), counts, 0.5, color=GREEN, alpha=0.12, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="taxa, commonest first", ylabel="images", ylim=(0.8, None))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_icicle(dataset: "DataSet", ranks: Sequence[str] = RANK_LABELS[:5], n_labels: int = 60) -> "Plot":
    """The tree as an icicle: width is the number of images, one row per rank, the widest taxa named."""
    from matplotlib.figure import Figure as Plot

    counts = dataset.index.group_by("taxon_id").len("images")
    lineages = dataset.taxa.select("taxon_id", *ranks).join(counts, on="taxon_id").drop("taxon_id")
    table = lineages.group_by(ranks).agg(pl.col("images").sum()).sort(ranks)
    figure = Plot(figsize=(10, 0.62 * len(ranks) + 0.3), layout="constrained")
    axes = figure.subplots()
    boxes = [box for depth in range(len(ranks)) for box in _boxes(table, ranks[: depth + 1])]
    total = int(table["images"].sum())
    named = {id(box) for box in sorted(boxes, key=lambda box: -box["width"])[:n_labels]}
    colours = _kingdom_colours([box["name"] for box in boxes if box["depth"] == 0])
    for box in boxes:
        shade = 0.95 - 0.12 * box["depth"]
        axes.barh(-box["depth"], box["width"], left=box["left"], height=0.96, color=colours[box["kingdom"]],
                  alpha=shade if box["name"] else 0.12, ec="white", lw=0.5)  # fmt: skip
        if id(box) in named and box["width"] > 0.008 * len(box["name"]) * total:
            axes.text(box["left"] + box["width"] / 2, -box["depth"], box["name"], ha="center", va="center",
                      fontsize=8, color="white")  # fmt: skip
    axes.set_yticks([-depth for depth in range(len(ranks))], ranks)
    axes.set(xlim=(0, total), xticks=[])
    axes.spines[:].set_visible(False)
    return figure


def _boxes(table: pl.DataFrame, ranks: Sequence[str]) -> list[dict[str, Any]]:
    """One box per taxon at the last of ``ranks``, in depth-first order, so that children lie under parents."""
    grouped = table.group_by(ranks, maintain_order=True).agg(pl.col("images").sum())
    left = grouped["images"].cum_sum() - grouped["images"]
    rows = zip(grouped[ranks[-1]], grouped[ranks[0]], left, grouped["images"], strict=True)
    return [
        {"name": name, "kingdom": kingdom, "depth": len(ranks) - 1, "left": start, "width": width}
        for name, kingdom, start, width in rows
    ]


def _kingdom_colours(kingdoms: Sequence[str]) -> dict[str, str]:
    palette = (AMBER, GREEN, "#7b4b94", "#2a6f97", "#a4303f", "#5b5f97", "#6a994e")
    return {kingdom: palette[i % len(palette)] if kingdom else GREY for i, kingdom in enumerate(sorted(set(kingdoms)))}
