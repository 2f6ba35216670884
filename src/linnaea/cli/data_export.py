"""``linnaea data export``: a data set in the formats of others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a data set as Parquet for the Hub, TreeOfLife-10M's catalog, WebDataset with texts, or class folders."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set."""
    output: Path
    """Folder to write into; the same command goes on with an interrupted export."""
    format: Literal["parquet", "catalog", "webdataset", "imagefolder"]
    """Parquet with pictures inside; catalog.csv; shards with the texts that trainers read; one folder per taxon."""
    split: str = ""
    """Export this split alone."""
    within: str = ""
    """Export this taxon alone: Lepidoptera, order:Lepidoptera."""
    workers: int = 0
    """Processes (0: one per core)."""


def export(options: Export) -> int:
    """Export, and say what was written and how much of it may not be passed on."""
    from linnaea.data.verbs import export_data

    chosen = dict(vars(options))
    summary = export_data(chosen.pop("directory"), **chosen)
    if summary.already_exported:
        say(f"{options.output}: already exported with the same options; nothing to do")
    print(
        f"{summary.n_images} images of {summary.n_taxa} taxa in {summary.n_files} files: {options.output}", flush=True
    )
    return DONE


COMMANDS: Commands = {"export": (Export, export)}
