"""Write a comparison as an HTML page and as Markdown, with error bars, published scores and significant differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl

from linnaea.counting import count
from linnaea.evaluate.embedding_structure import Level
from linnaea.evaluate.evaluation_plots import plot_models
from linnaea.page import Block, Details, Facts, Figure, Page, Section, Table, Text, new_plot, plot_label, unsigned_zero

COLOURS = ("#2f6f4f", "#c98a2b", "#3b6ea5", "#a5433b", "#6b4ea0", "#4b4b4b")
GREY = "#9aa19a"
MOST_ROWS = 24

READING = (
    "The classes (species) are the sample. Error bars are 95% intervals for other classes like these: photographs of a"
    " class are drawn together. Two runs on the same images are compared image by image, and the p-value is that of a"
    " sign-flip test over classes, with Holm's adjustment for the number of comparisons on this page. A difference is"
    " significant if its interval excludes zero and the adjusted p-value is below 0.05. With fewer than six classes no"
    " difference can be. Runs that do not name the classes are compared over single images, which says nothing about"
    " other classes.\n\nPublished numbers come without single answers, so they cannot be tested."
    " Their authors measured them on their own copies of the data."
)

STRUCTURE = (
    "Figure 5 of the BioCLIP paper for each model: t-SNE of the photographs of a clade, coloured by the six taxa with"
    " the most photographs; the next rank shows the largest of them. A layout is a picture, not a measurement; the"
    " table measures the vectors themselves. Neighbours: the share of a photograph's five nearest that have its taxon."
    " Correlation: Spearman's, of the distance of two vectors with the height of their lowest common ancestor."
)


def write_comparison(
    folder: Path,
    scores: pl.DataFrame,
    pairs: pl.DataFrame,
    tables: Mapping[str, pl.DataFrame],
    published: Mapping[str, pl.DataFrame],
    structure: Section | None = None,
) -> Path:
    """Write ``compare.html`` into ``folder`` from the tables of :mod:`linnaea.evaluate.comparison`; return its path."""
    ours = scores.filter("ours")
    facts = Facts(
        {
            "models" if ours["model"].n_unique() != 1 else "model": ours["model"].n_unique(),
            "tasks and data sets": ours["what"].n_unique(),
            "differences tested": pairs["p_value"].count(),
            "significant differences": pairs.filter(pl.col("verdict").str.ends_with("is better")).height,
        }
    )
    sections = [Section("At a glance", [facts, *_verdicts(pairs), Details("How to read this", [Text(READING)])])]
    for name, table in tables.items():
        part = ours.filter((pl.col("score") == name) & pl.col("value").is_not_null())
        blocks: list[Block] = []
        if part.height:
            figure = plot_scores(part)
            caption = f"Accuracy with 95% intervals. {_speaks_for(part)}"
            blocks.append(Figure(figure, f"accuracy with error bars: {name}", caption))
        blocks.append(Table(_in_tenths(table), caption="In percent."))
        sections.append(Section(name[0].upper() + name[1:], blocks))
    if structure is not None:
        sections.append(structure)
    if pairs.height:
        cells = _in_tenths(pairs_in_points(pairs))
        sections.append(Section("All pairs", [Table(cells, caption="Percentage points, second minus first.")]))
    everything: list[Block] = [Details(source, [Table(_in_tenths(table))]) for source, table in published.items()]
    sections.append(Section("All published numbers, by source", everything))
    page = Page("Comparison", ", ".join(ours["model"].unique(maintain_order=True)), sections,
                footer="Made by `linnaea compare`.")  # fmt: skip
    page.write(folder / "compare.html")
    return folder / "compare.html"


def structure_section(
    folder: Path, structures: Mapping[str, Mapping[str, Sequence[Level]]], scores: pl.DataFrame | None
) -> Section | None:
    """Return the section with the t-SNE panels of all models, or ``None`` if there are none; write them as PNG files.

    The file of the only task or data set is ``structure.png``; several have a number.
    """
    if not structures or scores is None:
        return None
    blocks: list[Block] = [Text(STRUCTURE)]
    for number, (what, levels_of) in enumerate(structures.items(), start=1):
        path = folder / ("structure.png" if len(structures) == 1 else f"structure-{number}.png")
        plot = plot_models(levels_of)
        plot.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})
        alt = f"t-SNE of each rank for {', '.join(levels_of)}"
        blocks.append(Figure(plot, alt, f"{what}: one line per model, one column per rank."))
    return Section("The tree in the vectors", [*blocks, Table(round_scores(scores))])


def round_scores(scores: pl.DataFrame) -> list[dict[str, str]]:
    """Return scores of structure as text: shares with one decimal, others with two."""
    return [
        {name: "" if value is None else str(value) if isinstance(value, str)
         else f"{value:.1f}" if name.endswith("(%)") else f"{value:.2f}" for name, value in row.items()}
        for row in scores.iter_rows(named=True)
    ]  # fmt: skip


def _in_tenths(table: pl.DataFrame) -> list[dict[str, str]]:
    return [{column: format_cell(value) for column, value in row.items()} for row in table.iter_rows(named=True)]


def _speaks_for(rows: pl.DataFrame) -> str:
    """Say for how many classes the intervals speak."""
    known = rows["n_classes"].drop_nulls().to_list()
    if not known:
        return "The classes are not known; the intervals are over single photographs."
    few, many = min(known), max(known)
    return f"Over {count(few, 'class')}." if few == many else f"Over {few:,} to {count(many, 'class')}."


def _verdicts(pairs: pl.DataFrame) -> list[Block]:
    lines = []
    for row in pairs.filter(pl.col("p_value").is_not_null()).iter_rows(named=True):
        low, high = sorted((100 * row["low"], 100 * row["high"]))
        span = f"{100 * row['difference']:+.1f} points ({low:+.1f} to {high:+.1f})"
        over = count(row["n_images"], "photograph")
        over = over if row["n_classes"] is None else f"{count(row['n_classes'], 'class')}, {over}"
        against = f"{row['second']} against {row['first']}"
        lines.append(f"{row['what']}, {row['score']}: {against} {span}, over {over}: {row['verdict']}.")
    return [Text("\n\n".join(lines[:MOST_ROWS]))] if lines else []


def plot_scores(scores: pl.DataFrame) -> Any:
    """Draw a dot with its interval for each task and model, with one colour per model."""
    whats = scores["what"].unique(maintain_order=True).to_list()[:MOST_ROWS]
    models = scores["model"].unique(maintain_order=True).to_list()
    plot, axes = new_plot(0.75 + 0.15 * len(whats) * max(len(models), 2))
    for number, model in enumerate(models):
        for row in scores.filter(pl.col("model") == model).iter_rows(named=True):
            if row["what"] in whats:
                shift = (number - (len(models) - 1) / 2) * 0.7 / max(len(models), 2)
                place = whats.index(row["what"]) + shift
                colour = COLOURS[number % len(COLOURS)]
                if row["low"] is not None:
                    axes.hlines(place, 100 * row["low"], 100 * row["high"], color=colour, lw=1.3)
                label = plot_label(model) if row["what"] == whats[0] else None
                axes.plot(100 * row["value"], place, "o", ms=4, color=colour, label=label)
    axes.set_yticks(range(len(whats)), [plot_label(fill(what, 24)) for what in whats])
    axes.set_ylim(len(whats) - 0.4, -0.6)
    axes.set(xlabel="right (%)")
    axes.set_xlim(0, 1.04 * axes.get_xlim()[1])
    axes.grid(axis="x", color="#e3e3e3", lw=0.6)
    axes.set_axisbelow(True)
    if len(models) > 1:
        plot.legend(loc="outside upper left", ncols=min(len(models), 2), frameon=False, fontsize=7)
    return plot


def pairs_in_points(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the table of pairs for display: differences in percentage points, p-values with two digits."""
    return pairs.select(
        "what", "score", "first", "second",
        (pl.col("difference") * 100).alias("difference"), (pl.col("low") * 100).alias("low"),
        (pl.col("high") * 100).alias("high"), "only_first", "only_second",
        pl.col("p_value").map_elements(_two_digits, return_dtype=pl.String),
        pl.col("p_adjusted").map_elements(_two_digits, return_dtype=pl.String), "n_images", "n_classes", "verdict",
    )  # fmt: skip


def _two_digits(value: float) -> str:
    return f"{value:.2g}"


def as_markdown(tables: Mapping[str, pl.DataFrame], pairs: pl.DataFrame) -> str:
    """Return the tables as Markdown, in percent with one decimal."""
    parts = ["# Comparison", ""]
    for name, table in tables.items():
        parts += [f"## {name} (%)", "", *_markdown_rows(table), ""]
    if pairs.height:
        parts += ["## Differences between our runs (points)", "", *_markdown_rows(pairs_in_points(pairs)), ""]
    return "\n".join(parts)


def _markdown_rows(table: pl.DataFrame) -> list[str]:
    head = [f"| {' | '.join(table.columns)} |", f"|{'|'.join('---' for _ in table.columns)}|"]
    return head + [f"| {' | '.join(map(format_cell, row))} |" for row in table.iter_rows()]


def format_cell(value: object) -> str:
    """Return the text of a cell: numbers with one decimal, and ``|`` replaced because it separates columns."""
    match value:
        case None:
            return ""
        case float() if np.isnan(value):
            return ""
        case float():
            return unsigned_zero(f"{value:.1f}")
        case _:
            return str(value).replace("|", "/")
