"""A datasheet as Gebru et al. propose it ("Datasheets for Datasets", 2018), as far as the build knows the answers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.statistics import Statistics
from linnaea.storage import write_atomically

NOT_KNOWN = "Not known to the build; to be filled in by the people who publish the data set."


def write_datasheet(directory: Path, manifest: Mapping[str, Any], statistics: Statistics) -> Path:
    """Write ``datasheet.md``. What people alone can know says so, and stays for them to fill in."""
    path = directory / "datasheet.md"
    write_atomically(path, make_datasheet(directory.resolve().name, manifest, statistics))
    return path


def make_datasheet(name: str, manifest: Mapping[str, Any], statistics: Statistics) -> str:
    """The datasheet in Markdown: seven sections of questions (Gebru et al. 2018, section 3), in our words."""
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
                " about rare ones. Where and when photographs were taken, and by whom, is as uneven as the sources."
            ),
            "What should it not be used for?": NOT_KNOWN,
        },
        "Distribution": _distribution(statistics),
        "Maintenance": {
            "Who maintains it, and how can they be reached?": NOT_KNOWN,
            "Will it be updated?": (
                f"{NOT_KNOWN} Names can be brought up to date in `taxa.parquet` without touching a photograph."
            ),
            "How can errors be found?": "`linnaea data check` compares every shard with its checksum in the manifest.",
        },
    }
    lines = [f"# Datasheet: {name}", "", "Written by the build from what its manifest knows; the questions follow Gebru"
             " et al., *Datasheets for Datasets* (2018).", ""]  # fmt: skip
    for heading, answers in sections.items():
        lines += [f"## {heading}", ""]
        for question, answer in answers.items():
            lines += [f"**{question}**", "", answer, ""]
    return "\n".join(lines)


def _composition(manifest: Mapping[str, Any], statistics: Statistics) -> dict[str, str]:
    ranks = _table(
        ("rank", "distinct taxa", "photographs named so far"),
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
            f"{statistics.n_images:,} photographs of {statistics.n_taxa:,} taxa, {statistics.n_bytes / 1e6:,.0f} MB."
            f" Taxa: {few}; the median taxon has {statistics.images_per_taxon_quantiles[0.5]:,}.\n\n{ranks}"
        ),
        "Is it a sample of a larger set?": f"Of what the sources hold; how they were sampled: {_lower(NOT_KNOWN)}",
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
            " `rejects.parquet` lists every one with its reason."
        ),
        "Are there splits?": splits,
        "Are there errors and duplicates?": _duplicates(manifest),
        "Does it show people, or where protected organisms live?": NOT_KNOWN,
    }


def _duplicates(manifest: Mapping[str, Any]) -> str:
    rule = manifest["options"].get("duplicates") or {}
    looked_for = any(rule.get(kind, "keep") != "keep" for kind in ("exact", "near"))
    said = f"Copies were settled by this rule: `{rule}`." if looked_for else "Copies were not looked for."
    return f"{said} Labels are those of the sources, and as right as these."


def _collection(manifest: Mapping[str, Any]) -> dict[str, str]:
    rows = (
        (source.get("kind", ""), source.get("table") or source.get("root") or source.get("path") or "", _short(source))
        for source in manifest["inputs"]
    )
    return {
        "Where do the photographs come from?": _table(("kind", "place", "identified by"), rows),
        "Who took them, and when?": "Per photograph in `licences.parquet`, where the source says so.",
        "Was there consent of the people who took them?": f"Only what their licences say. {NOT_KNOWN}",
        "Was there an ethical review?": NOT_KNOWN,
    }


def _short(source: Mapping[str, str]) -> str:
    digest = source.get("sha256") or source.get("listing") or ""
    return f"`{digest[:16]}`" if digest else ""


def _preprocessing(manifest: Mapping[str, Any]) -> dict[str, str]:
    options = manifest["options"]
    if options.get("resize") == "squash-224":
        resized = "Squashed to 224 x 224 pixels (bicubic, JPEG quality 100), as TreeOfLife-10M; shapes are lost."
    else:
        resized = (
            "Turned upright by EXIF, converted to sRGB, transparency on white; short side at most"
            f" {options['short_side']} pixels with the shape kept, JPEG quality {options['quality']}; a JPEG that"
            " already fitted is kept byte for byte."
        )
    return {
        "What was done to the photographs?": resized,
        "What was done to the names?": (
            f"Names were settled by this rule: `{options['names']}`."
            if (options.get("names") or {}).get("checklists")
            else "Cleaned (white space, authorship, qualifiers); where a source fills ranks they are taken as they are."
        ),
        "Is the raw data kept?": "Not in the data set; `records.parquet` says where each photograph was read.",
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
    warning = f" {closed:,} photographs may not be passed on without asking." if closed else ""
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
