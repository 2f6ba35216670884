"""``linnaea data``: build, check and describe data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, FAILED, SOME_FAILED, Commands, data_download, data_export
from linnaea.cli.console import progress_bar, say, warn
from linnaea.errors import UsageError

if TYPE_CHECKING:
    from linnaea.data.build import BuildConfig, BuildSummary
    from linnaea.data.sources import Source

UnseenRank = Literal["species", "genus", "family"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a data set from a folder of class folders, or from a table of photographs."""

    output: Path
    """Folder of the data set; the same command goes on with an interrupted build."""
    folder: Path | None = None
    """A folder with one folder of photographs per class."""
    table: Path | None = None
    """A CSV, TSV or Parquet table with a row per photograph."""
    root: Path | None = None
    """Folder that the paths of the table are relative to (default: the table's own)."""
    path_column: str = "filepath"
    """Column of the table that holds the path."""
    label_column: str = ""
    """Column that holds the label; not needed where there are columns named after ranks."""
    split_column: str = ""
    """Column that holds the split."""
    split_table: Path | None = None
    """Another table: the path column and, beside it, the split; a row that is not in it is rejected."""
    group_column: str = ""
    """Column of a key; photographs with the same key stay in one split."""
    val: float = 0.05
    """Share of the photographs for validation, where the input names no split."""
    test: float = 0.05
    """Share of the photographs for the test."""
    unseen: float = 0.0
    """Share of the taxa that are held out with all their photographs."""
    unseen_rank: UnseenRank = "species"
    """Rank at which taxa are held out."""
    seed: int = 0
    """Another seed gives other splits."""
    short_side: int = 256
    """Short side of the stored photographs at most, in pixels."""
    resize: Literal["short-side", "squash-224"] = "short-side"
    """squash-224: 224 x 224 whatever the shape, to the byte as TreeOfLife-10M."""
    licences: str = "any"
    """Which licences come in: any, open, non-commercial, or a list such as CC0-1.0,CC-BY; the rest is rejected."""
    shard_size: int = 0
    """Samples per shard (0: 4000, fewer in a small data set, so that every core has work)."""
    captions: bool = False
    """Also store the texts that open_clip's and BioCLIP's trainers read."""
    workers: int = 0
    """Processes (0: one per core)."""
    engine: Literal["local"] = "local"
    """Where the work runs."""
    overwrite: bool = False
    """Remove the data set that is in the output folder, finished or not, and build from the start."""

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.table is None):
            raise ValueError("give either --folder or --table")


def build(options: Build) -> int:
    """Run the build and account for every record."""
    from linnaea.data.build import build as run_build
    from linnaea.data.build import remove_build
    from linnaea.data.engine import LocalEngine
    from linnaea.data.report import write_report
    from linnaea.data.shards import DataSet

    source, config = _source(options), _config(options)
    if options.overwrite:
        remove_build(options.output)
    with progress_bar("building", "images") as on_progress:
        summary = run_build([source], options.output, config, LocalEngine(options.workers), on_progress)
    if summary.already_built:
        say(f"{options.output}: already built from the same input; nothing to do")
    if summary.n_out and not (options.output / "report.html").exists():
        say(f"report: {write_report(DataSet.open(options.output), summary.reasons)}")
    return _account(summary, options.output)


def _source(options: Build) -> "Source":
    from linnaea.data.sources.folder import FolderSource
    from linnaea.data.sources.table import TableSource

    if options.folder is not None:
        return FolderSource(root=options.folder)
    assert options.table is not None
    return TableSource(
        table=options.table,
        root=options.root or options.table.parent,
        path_column=options.path_column,
        label_column=options.label_column,
        split_column=options.split_column,
        split_table=options.split_table,
        group_column=options.group_column,
    )


def _config(options: Build) -> "BuildConfig":
    from linnaea.data.build import BuildConfig
    from linnaea.data.licences import LicenceRule
    from linnaea.data.splits import SplitRule
    from linnaea.taxonomy.ranks import Rank

    try:
        rule = SplitRule(
            val=options.val,
            test=options.test,
            unseen=options.unseen,
            unseen_rank=Rank.parse(options.unseen_rank),
            seed=options.seed,
        )
        return BuildConfig(
            short_side=options.short_side,
            resize=options.resize,
            licences=LicenceRule(allow=options.licences),
            shard_size=options.shard_size,
            captions=options.captions,
            splits=rule,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _account(summary: "BuildSummary", output: Path) -> int:
    for reason, count in summary.reasons.items():
        warn(f"{count:,} rejected: {reason}")
    if summary.n_rejected:
        warn(f"every reject with its reason is in {output / 'rejects.parquet'}")
    print(f"{summary.n_in} records in = {summary.n_out} images out + {summary.n_rejected} rejected", flush=True)
    return SOME_FAILED if summary.n_rejected else DONE


@dataclass(frozen=True, kw_only=True)
class Check:
    """Check a data set: every shard, every sample, the tables beside them."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set."""
    decode: bool = False
    """Also decode every photograph."""


def check(options: Check) -> int:
    """Report what is broken, shard by shard; 1 if anything is."""
    from linnaea.data.check import iter_problems
    from linnaea.data.shards import DataSet

    dataset = DataSet.open(options.directory)
    n_problems = 0
    with progress_bar("checking", "images") as on_progress:
        for problem in iter_problems(dataset, decode=options.decode, on_progress=on_progress):
            warn(problem)
            n_problems += 1
    if n_problems:
        warn(f"{options.directory}: {n_problems} problems; remove the broken shards' data set and build it again")
        return FAILED
    shards, taxa = dataset.index["shard"].n_unique(), dataset.taxa.height
    print(f"{len(dataset)} images in {shards} shards, {taxa} taxa: all good")
    return DONE


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Describe a data set: counts per split, source, rank and licence; how evenly taxa are covered."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set."""
    json: bool = False
    """Print everything as one JSON object."""


def stats(options: Stats) -> int:
    """Print the counts as tables, or as JSON."""
    import json

    from rich.table import Table

    from linnaea.cli.console import results
    from linnaea.data.shards import DataSet
    from linnaea.data.statistics import measure

    statistics = measure(DataSet.open(options.directory))
    if options.json:
        print(json.dumps(statistics.as_json(), indent=1, ensure_ascii=False))
        return DONE
    for frame in (statistics.by_split, statistics.by_source, statistics.by_rank, statistics.by_licence,
                  statistics.sizes):  # fmt: skip
        table = Table(*frame.columns)
        for row in frame.iter_rows():
            table.add_row(*map(_show_cell, row))
        results.print(table)
    quantiles = ", ".join(f"{q:.0%}: {n:,}" for q, n in statistics.images_per_taxon_quantiles.items())
    print(f"images per taxon: {quantiles}; Gini {statistics.gini:.3f}")
    print("taxa " + ", ".join(f"{words}: {n:,}" for words, n in statistics.taxa_by_size.items()))
    print(
        f"all seven ranks: {statistics.share_complete:.1%} of images; common name: {statistics.share_common_name:.1%}"
    )
    print(f"{statistics.n_images} images, {statistics.n_taxa} taxa; {statistics.n_head} taxa hold half of the images")
    return DONE


def _show_cell(cell: object) -> str:
    match cell:
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.1%}"
        case _:
            return str(cell)


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Draw a small artificial tree of life: class folders of photographs and a table, never a built data set."""

    directory: tyro.conf.Positional[Path]
    """Folder to draw into."""
    species: int = 240
    """How many species."""
    images: int = 16
    """Photographs per species."""
    size: int = 96
    """Width and height of the photographs, pixels."""
    seed: int = 0
    """Another seed draws another tree of life."""
    workers: int = 0
    """Processes (0: one per core)."""


def synthesize(options: Synthesize) -> int:
    """Draw; an interrupted run goes on, a finished one is left alone."""
    from linnaea.data.synthetic import SyntheticConfig
    from linnaea.data.synthetic import synthesize as draw

    try:
        config = SyntheticConfig(
            n_species=options.species, n_images=options.images, size=options.size, seed=options.seed
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    with progress_bar("drawing", "images") as on_progress:
        summary = draw(options.directory, config, n_workers=options.workers, on_progress=on_progress)
    print(
        f"{summary.n_images} images of {summary.n_species} species in {summary.n_genera} genera"
        f" and {summary.n_families} families"
    )
    return DONE


COMMANDS: Commands = {
    "build": (Build, build),
    "check": (Check, check),
    "stats": (Stats, stats),
    "synthesize": (Synthesize, synthesize),
    **data_download.COMMANDS,
    **data_export.COMMANDS,
}
