"""The report of a data set: one page that works offline, its figures as pictures, and a datasheet."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from linnaea.counting import agree, count
from linnaea.data.figures import (
    CountedTree,
    count_tree,
    make_cards,
    plot_icicle,
    plot_licences,
    plot_long_tail,
)
from linnaea.data.licences import NONE_STATED
from linnaea.data.naming import doubtful, not_found
from linnaea.data.plan import NAMES_FILE
from linnaea.data.shards import read_manifest
from linnaea.data.statistics import Statistics, load_licences, measure
from linnaea.page import Block, Chart, Details, Facts, Figure, Page, Section, Table, Text
from linnaea.parquet import read_parquet
from linnaea.storage import write_atomically
from linnaea.taxonomy.resolve import Status
from linnaea.taxonomy.tree import ROOT
from linnaea.taxonomy.treemap import Boxes, choose_boxes, make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

    from linnaea.data.shards import DataSet

MOST_BOXES = 2500
"""Maximum number of boxes of the interactive tree; the page stays below 10 MB and fast on a phone."""
FIGURE_DPI = 200
N_EXAMPLES = 3
N_NAMES = 50
"""Number of names in each table of the section on names."""

_TAIL_ALT = "photographs of each taxon from the commonest to the rarest, on logarithmic axes"


def write_report(dataset: "DataSet", reasons: Mapping[str, int]) -> Path:
    """Write ``report.html``, ``datasheet.md`` and ``figures/*.png``, and return the path of the page.

    ``reasons`` holds the number of rejects per reason.

    Raises:
        LinnaeaError: a file cannot be written, or a shard cannot be read.
    """
    statistics, counted = measure(dataset), count_tree(dataset)
    plots = {"long_tail": plot_long_tail(statistics.images_per_taxon), "icicle": plot_icicle(counted)}
    for name, plot in plots.items():
        write_atomically(dataset.directory / "figures" / f"{name}.png", _png(plot))
    manifest = read_manifest(dataset.directory)
    write_datasheet(dataset.directory, manifest, statistics)
    page = Page(
        dataset.directory.resolve().name,
        "The contents of this data set.",
        [
            Section("Summary", [Facts(_facts(statistics, reasons))]),
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
            Section("Splits", [Table(statistics.by_split), Text(_copies(manifest))]),
            Section("Names", _names(dataset, manifest)),
            Section("Sizes", [Table(statistics.sizes, "Quantiles: pixels, and bytes of the stored JPEG.")]),
            Section("Rejects", _rejects(dataset.directory, reasons)),
        ],
        footer="Made by `linnaea data build`. The same numbers as JSON: `linnaea data stats DIR --json`.",
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
        "taxa that hold half of the photographs": f"{statistics.n_head:,}",
        "rejected": f"{sum(reasons.values()):,}",
    }


def _photographs(dataset: "DataSet") -> list[Block]:
    licences = load_licences(dataset).filter(pl.col("licence_id") != NONE_STATED)
    grids = make_cards(dataset, dict(licences.select("key", "attribution").iter_rows()))
    note = "Random photographs, each of another taxon, with author and licence if they are known."
    return [Text(note), *(block for heading, cards in grids for block in (Text(heading), cards))]


def _tree(counted: CountedTree, plot: "Plot") -> list[Block]:
    boxes = choose_boxes(counted.tree, ROOT, counts=counted.images, most=MOST_BOXES)
    figure = make_figure(counted.tree, boxes, unit="photographs", icicle=True)
    alt = "the tree of life in this data set, boxes as wide as their number of photographs"
    said = "The width (or area) shows the number of photographs. Tap a box to zoom in, and the bar on top to zoom out."
    still = Figure(plot, "nested bars of the taxa from kingdom to family, as wide as their number of photographs")
    return [Text(f"{said} {_said(boxes)}"), Chart(figure, alt, height=680), Details("As a picture", [still])]


def _said(boxes: Boxes) -> str:
    hidden = sum(boxes.n_summed)
    if not hidden:
        return "All taxa are shown."
    shown = sum(node >= 0 for node in boxes.node) - 1
    return f"The {shown:,} taxa with the most photographs are shown; {hidden:,} smaller ones are combined."


def _long_tail(statistics: Statistics, plot: "Plot") -> list[Block]:
    quantiles = statistics.images_per_taxon_quantiles
    few = {f"taxa {words}": f"{n:,}" for words, n in statistics.taxa_by_size.items()}
    row = {("fewest" if q == 0 else "most" if q == 1 else "median" if q == 0.5 else f"{q:.0%}"): n
           for q, n in quantiles.items()}  # fmt: skip
    words = "Gini: 0 if all taxa have the same number of photographs, near 1 if a few have nearly all."
    return [
        Figure(plot, _TAIL_ALT),
        Facts({**few, "Gini": f"{statistics.gini:.2f}"}),
        Table([row], f"Photographs per taxon: quantiles over the taxa. {words}"),
    ]


def _licences(statistics: Statistics) -> list[Block]:
    permissions = dict(statistics.by_licence.select("licence", "allows").iter_rows())
    closed = "all rights reserved, no derivatives, unclear, or none stated"
    return [
        Figure(
            plot_licences(statistics.by_source_licence, permissions),
            "shares of open, non-commercial and closed licences of each source",
            f"open: any use, including changes; closed: {closed}. `licences.parquet` has each photograph's licence.",
        ),
        Table(statistics.by_licence, percent=["share"]),
        Details("Licences of each source", [Table(statistics.by_source_licence)]),
    ]


def _names(dataset: "DataSet", manifest: Mapping[str, Any]) -> list[Block]:
    """Return what was not found, what is doubtful and what was merged."""
    merged = manifest.get("merged") or {"labels": 0, "classes": 0}
    said = (
        f"Merged: {count(merged['labels'], 'label')} {agree(merged['labels'], 'is', 'are')}"
        f" {count(merged['classes'], 'class')}, by taxon and words beside the name."
    )
    if not (dataset.directory / NAMES_FILE).exists():
        return [Text(f"Names were kept as the sources write them. {said}")]
    names = read_parquet(dataset.directory / NAMES_FILE)
    found = names.group_by("status").len().sort("len", "status", descending=[True, False]).iter_rows()
    blocks: list[Block] = [Facts({status.replace("_", " "): f"{n:,}" for status, n in found})]
    renamed = names.filter(pl.col("status") == Status.SYNONYM).sort("records", "asked", descending=[True, False])
    kinds = {"Not found": not_found(names), "Doubtful": doubtful(names), "Synonyms, replaced": renamed}
    for what, rows in kinds.items():
        shown = rows.head(N_NAMES).select(
            pl.col("asked").alias("name"), "status", pl.col("matched_name").alias("read as"), "note", "records"
        )
        caption = f"{what}: {rows.height:,} {'name' if rows.height == 1 else 'names'}; all are in `{NAMES_FILE}`."
        blocks.append(Table(shown, caption) if rows.height else Text(f"{what}: none."))
    together = _merged(names, dataset.taxa)
    return [*blocks, Table(together, said) if together.height else Text("Merged: none; each label is one class.")]


def _merged(names: pl.DataFrame, taxa: pl.DataFrame) -> pl.DataFrame:
    """Return the classes of several labels, those of the most records first."""
    labels = names.filter((pl.col("label") != "") & pl.col("taxon_id").is_not_null())
    classes = labels.group_by("taxon_id").agg(pl.col("label").unique().sort(), pl.col("records").sum())
    shared = classes.filter(pl.col("label").list.len() > 1).join(taxa, on="taxon_id")
    shared = shared.sort("records", "taxon_id", descending=[True, False]).head(N_NAMES)
    name = pl.when(pl.col("common_name") == "").then("scientific_name").otherwise("common_name")
    return shared.select(name.alias("class"), pl.col("label").list.head(9).list.join(", ").alias("labels"), "records")


def _rejects(directory: Path, reasons: Mapping[str, int]) -> list[Block]:
    if not reasons:
        return [Text("None: every record is in the data set.")]
    table = read_parquet(directory / "rejects.parquet")
    rows = []
    for reason, n in reasons.items():
        examples = table.filter(pl.col("reason").str.starts_with(reason)).head(N_EXAMPLES)["record_id"]
        rows.append({"reason": reason, "records": n, "for example": ", ".join(examples)})
    return [Table(rows, "All rejects with their reasons are in `rejects.parquet`.")]


# The datasheet (Gebru et al., "Datasheets for Datasets", 2018), as far as the build knows the answers.


NOT_KNOWN = "Not known to the build; the publisher of the data set must fill this in."


def write_datasheet(directory: Path, manifest: Mapping[str, Any], statistics: Statistics) -> Path:
    """Write ``datasheet.md``; questions that only people can answer are marked as such."""
    path = directory / "datasheet.md"
    write_atomically(path, make_datasheet(directory.resolve().name, manifest, statistics))
    return path


def make_datasheet(name: str, manifest: Mapping[str, Any], statistics: Statistics) -> str:
    """Return the datasheet in Markdown: seven sections of questions (Gebru et al. 2018, section 3), reworded."""
    sections = {
        "Motivation": {
            "For what purpose was the data set made, and by whom?": NOT_KNOWN,
            "Who paid for it?": NOT_KNOWN,
        },
        "Composition": _composition(manifest, statistics),
        "Collection": _collection(manifest),
        "Preprocessing and labels": _preprocessing(manifest),
        "Uses": {
            "What is it for?": "Training and testing models that name organisms on photographs, at any rank.",
            "What could harm future uses?": (
                f"Taxa are covered unevenly (Gini {statistics.gini:.2f}; half of the photographs are of"
                f" {statistics.n_head:,} of {statistics.n_taxa:,} taxa), so scores averaged over photographs say little"
                " about rare taxa. Places, dates and photographers are as uneven as in the sources."
            ),
            "What should it not be used for?": NOT_KNOWN,
        },
        "Distribution": _distribution(statistics),
        "Maintenance": {
            "Who maintains it, and how can they be reached?": NOT_KNOWN,
            "Will it be updated?": (
                f"{NOT_KNOWN} Names can be updated in `taxa.parquet` without changing a photograph."
            ),
            "How can errors be found?": "`linnaea data check` compares every shard with its checksum in the manifest.",
        },
    }
    lines = [f"# Datasheet: {name}", "", "Written by the build from its manifest; the questions follow Gebru"
             " et al., *Datasheets for Datasets* (2018).", ""]  # fmt: skip
    for heading, answers in sections.items():
        lines += [f"## {heading}", ""]
        for question, answer in answers.items():
            lines += [f"**{question}**", "", answer, ""]
    return "\n".join(lines)


def _composition(manifest: Mapping[str, Any], statistics: Statistics) -> dict[str, str]:
    ranks = _table(
        ("rank", "distinct taxa", "photographs named at the rank"),
        ((row["rank"], f"{row['names']:,}", f"{row['images']:,} ({row['share']:.1%})")
         for row in statistics.by_rank.iter_rows(named=True)),
    )  # fmt: skip
    splits = _table(
        ("split", "photographs", "taxa"),
        ((row["split"], f"{row['images']:,}", f"{row['taxa']:,}") for row in statistics.by_split.iter_rows(named=True)),
    )
    rejected = ", ".join(f"{count:,}: {reason}" for reason, count in manifest["reasons"].items())
    counts = manifest["counts"]
    few = ", ".join(f"{n:,} {words}" for words, n in statistics.taxa_by_size.items())
    sizes = {row["quantile"]: row for row in statistics.sizes.iter_rows(named=True)}
    return {
        "What is an instance?": "One photograph with the name of the organism on it.",
        "How many are there?": (
            f"{count(statistics.n_images, 'photograph')} of"
            f" {count(statistics.n_taxa, 'taxon')}, {statistics.n_bytes / 1e6:,.0f} MB."
            f" Taxa: {few}; the median taxon has {statistics.images_per_taxon_quantiles[0.5]:,}.\n\n{ranks}"
        ),
        "Is it a sample of a larger set?": f"It is drawn from the sources. How these were sampled: {_lower(NOT_KNOWN)}",
        "What does an instance consist of?": (
            f"A JPEG (median {sizes['50%']['width']} x {sizes['50%']['height']} pixels), its source, record id and"
            " facts about rights, and a row of `taxa.parquet` with seven ranks, scientific and common name."
        ),
        "Is anything missing?": (
            f"{1 - statistics.share_complete:.1%} of the photographs are not named at all seven ranks,"
            f" {1 - statistics.share_common_name:.1%} have no common name."
        ),
        "What was left out?": (
            f"{counts['rejected']:,} of {counts['in']:,} records{f' ({rejected})' if rejected else ''};"
            " `rejects.parquet` lists each one with its reason."
        ),
        "Are there splits?": splits,
        "Are there errors and duplicates?": _duplicates(manifest),
        "Does it show people, or where protected organisms live?": NOT_KNOWN,
    }


def _duplicates(manifest: Mapping[str, Any]) -> str:
    rule = manifest["options"].get("duplicates") or {}
    looked_for = any(rule.get(kind, "keep") != "keep" for kind in ("exact", "near"))
    said = f"Copies were handled by this rule: `{rule}`." if looked_for else "Copies were not searched for."
    return f"{said} {_copies(manifest)} Labels are as accurate as in the sources."


def _copies(manifest: Mapping[str, Any]) -> str:
    """Say what a split keeps together: bursts, and copies under different names."""
    bursts, copies = manifest.get("bursts", {}), manifest.get("copies", {})
    said = []
    if bursts.get("groups"):
        said.append(
            f"{count(bursts['photographs'], 'photograph')} {agree(bursts['photographs'], 'is', 'are')}"
            f" of {count(bursts['groups'], 'burst')} (near copies, shots of one"
            " camera within a minute, numbered folders below a class); each burst is in one split."
        )
    if n_names := copies.get("near copies under different names", 0):
        said.append(
            f"{count(n_names, 'near copy')} {agree(n_names, 'has a different name', 'have different names')}; they are"
            " kept, those of one picture in one group."
        )
    return " ".join(said) or ("There are no bursts." if bursts else "Bursts were not searched for.")


def _collection(manifest: Mapping[str, Any]) -> dict[str, str]:
    rows = (
        (source.get("kind", ""), source.get("table") or source.get("root") or source.get("path") or "", _short(source))
        for source in manifest["inputs"]
    )
    return {
        "Where do the photographs come from?": _table(("kind", "place", "identified by"), rows),
        "Who took them, and when?": "Per photograph in `licences.parquet`, if the source states it.",
        "Was there consent of the people who took them?": f"Only as stated in their licences. {NOT_KNOWN}",
        "Was there an ethical review?": NOT_KNOWN,
    }


def _short(source: Mapping[str, str]) -> str:
    digest = source.get("sha256") or source.get("listing") or ""
    return f"`{digest[:16]}`" if digest else ""


def _preprocessing(manifest: Mapping[str, Any]) -> dict[str, str]:
    options = manifest["options"]
    if options.get("resize") == "squash-224":
        resized = "Squashed to 224 x 224 pixels (bicubic, JPEG quality 100), as in TreeOfLife-10M; shapes are lost."
    else:
        resized = (
            "Rotated upright by EXIF, converted to sRGB, transparency on white; short side at most"
            f" {options['short_side']} pixels with the aspect ratio kept, JPEG quality {options['quality']}; a JPEG"
            " that already fitted is kept byte for byte."
        )
    return {
        "What was done to the photographs?": resized,
        "What was done to the names?": (
            f"Names were resolved by this rule: `{options['names']}`."
            if (options.get("names") or {}).get("checklists")
            else "Cleaned (white space, authorship, qualifiers); ranks given by a source are kept unchanged."
        ),
        "Is the raw data kept?": "Not in the data set; `records.parquet` has the location of each original photograph.",
        "With what software?": f"Linnaea {manifest['linnaea']}; the same input and options give the same bytes"
        f" (fingerprint `{manifest['fingerprint'][:16]}`).",
    }  # fmt: skip


def _distribution(statistics: Statistics) -> dict[str, str]:
    licences = _table(
        ("licence", "allows", "photographs"),
        ((row["licence"], row["allows"], f"{row['images']:,} ({row['share']:.1%})")
         for row in statistics.by_licence.iter_rows(named=True)),
    )  # fmt: skip
    closed = int(statistics.by_licence.filter(pl.col("allows") == "closed")["images"].sum())
    warning = f" {count(closed, 'photograph')} must not be redistributed without permission." if closed else ""
    return {
        "Under which licences are the photographs?": f"Each under its own (`licences.parquet`).{warning}\n\n{licences}",
        "How is it passed on, and from when?": NOT_KNOWN,
    }


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    columns = list(head)
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
