"""The card (README.md) of an exported data set, as the Hub reads it: YAML on top, then words for people."""

import json
from pathlib import Path

from linnaea.data.shards import DataSet
from linnaea.data.statistics import Statistics, measure
from linnaea.storage import write_atomically

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip
_HUB_LICENCES = {"CC0-1.0": "cc0-1.0", "MIT": "mit", "Apache-2.0": "apache-2.0", "GFDL": "gfdl"}


def write_card(dataset: DataSet, output: Path, form: str) -> None:
    """Write ``README.md``; ``dataset`` is what was exported of it."""
    write_atomically(output / "README.md", make_card(dataset.directory.resolve().name, measure(dataset), form))


def make_card(name: str, statistics: Statistics, form: str) -> str:
    """The card as text; strings in its header are JSON, which is YAML."""
    header = [
        "---",
        f"pretty_name: {json.dumps(name)}",
        f"license: {_hub_licence(statistics)}",
        "task_categories:",
        "- image-classification",
        "- zero-shot-image-classification",
        "tags:",
        "- biology",
        "- taxonomy",
        "size_categories:",
        f"- {next((word for limit, word in _SIZES if statistics.n_images < limit), 'n>1T')}",
    ]
    if form == "parquet":
        header += ["configs:", "- config_name: default", "  data_files:"]
        for split in statistics.by_split["split"]:
            word = split.replace("-", "_")  # the Hub allows no hyphen
            header += [f"  - split: {json.dumps(word)}", f"    path: {json.dumps(f'data/{split}-*.parquet')}"]
    header.append("---")
    splits = "\n".join(
        f"| {row['split']} | {row['images']:,} | {row['taxa']:,} |" for row in statistics.by_split.iter_rows(named=True)
    )
    licences = "\n".join(
        f"| {row['licence']} | {row['allows']} | {row['images']:,} |"
        for row in statistics.by_licence.iter_rows(named=True)
    )
    ranks = ", ".join(f"{row['names']:,} at {row['rank']}" for row in statistics.by_rank.iter_rows(named=True))
    return f"""{chr(10).join(header)}

# {name}

{statistics.n_images:,} photographs of {statistics.n_taxa:,} taxa ({ranks} rank).
{statistics.share_complete:.0%} of the photographs are named at all seven ranks, {statistics.share_common_name:.0%} have
a common name. `species` is the epithet alone, `scientific_name` the whole name; a rank that is not known is empty.

| split | photographs | taxa |
|---|---:|---:|
{splits}

## Licences

Every photograph has its own: `licence_id`, and a line of attribution to print beside it. "closed" means all rights
reserved, no derivatives, unclear, or none stated: ask before you pass these on.

| licence | allows | photographs |
|---|---|---:|
{licences}

Made with Linnaea.
"""


def _hub_licence(statistics: Statistics) -> str:
    """The Hub's word where all photographs share one licence, else ``other``."""
    licences = statistics.by_licence["licence"].to_list()
    if len(licences) != 1:
        return "other"
    licence = licences[0]
    if licence.startswith("CC-BY") and licence[-1].isdigit():
        return str(licence.lower())
    return _HUB_LICENCES.get(licence, "other")
