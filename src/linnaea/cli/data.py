"""``linnaea data``: build, check and describe data sets."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, FAILED, SOME_FAILED, Commands, data_download, data_export, data_repair
from linnaea.cli.console import say, warn

if TYPE_CHECKING:
    from linnaea.data.build import BuildSummary

UnseenRank = Literal["species", "genus", "family"]


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a data set from a folder of class folders, a table of photographs, or sources named in a configuration."""

    output: Path
    """Folder of the data set; the same command goes on with an interrupted build."""
    folder: Path | None = None
    """A folder with one folder of photographs per class."""
    class_level: int = 0
    """The level of folders below --folder that holds the classes, from 1 (0: found by the names)."""
    table: Path | None = None
    """A table (CSV, TSV, .xlsx or Parquet) with a row per photograph."""
    config: Path | None = None
    """A TOML file with sources and options (docs/sources); other options of the build are then not looked at."""
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
    resolve: bool = False
    """Settle names by the embedded checklist (or by --checklist); what it cannot settle stays as the input has it."""
    checklist: tuple[str, ...] = ()
    """Settle names by these checklists: names or files, in order of preference."""
    duplicates: Literal["keep", "drop", "group"] = "keep"
    """Exact and near copies: keep them all, keep the first, or keep them together in one split."""
    benchmark: tuple[Path, ...] = ()
    """Folders, tables or data sets that are tested on elsewhere: copies of their photographs are rejected."""
    benchmark_species: bool = False
    """Also reject every photograph of the species of the benchmarks."""
    draw_benchmark: Path | None = None
    """A file of species' names: 30 photographs each of those with as many go into a split `benchmark`, the others of
    these species into `held-back`."""
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
    engine: Literal["local", "ray"] = "local"
    """Where the work runs: processes of this machine, or a Ray cluster whose nodes share inputs and output."""
    ray_address: str = ""
    """Address of the Ray cluster, host:6379 or auto (default: $RAY_ADDRESS, else this machine)."""
    overwrite: bool = False
    """Remove the data set that is in the output folder, finished or not, and build from the start."""

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.folder, self.table, self.config)) != 1:
            raise ValueError("give either --folder or --table, or --config")
        if self.class_level < 0 or (self.class_level and self.folder is None):
            raise ValueError("--class-level is at least 1, and goes with --folder")
        if self.config is not None and self.config.suffix.lower() != ".toml":
            raise ValueError(f"--config {self.config}: give a file whose name ends in .toml")


def build(options: Build) -> int:
    """Run the build and account for every record."""
    from linnaea.data.verbs import build

    chosen = dict(vars(options))
    sources = [chosen.pop(name) for name in ("folder", "table", "config")]
    source = next(source for source in sources if source is not None)
    built = build(source, chosen.pop("output"), on_note=say, **chosen)
    for warning in built.warnings:
        warn(warning)
    return _account(built.summary, built.directory)


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
    from linnaea.data.verbs import check_data

    checked = check_data(options.directory, decode=options.decode, on_problem=warn)
    if not checked.is_whole:
        n_problems = len(checked.problems)
        warn(f"{options.directory}: {n_problems} problems; mend them with `linnaea data repair {options.directory}`")
        return FAILED
    print(f"{checked.n_images} images in {checked.n_shards} shards, {checked.n_taxa} taxa: all good")
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

    from rich.table import Table

    from linnaea.cli.console import results
    from linnaea.data.verbs import describe_data

    statistics = describe_data(options.directory)
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
    from linnaea.data.verbs import synthesize

    summary = synthesize(**vars(options))
    print(
        f"{summary.n_images} images of {summary.n_species} species in {summary.n_genera} genera"
        f" and {summary.n_families} families"
    )
    return DONE


@dataclass(frozen=True, kw_only=True)
class DrawNothing:
    """Draw pictures that show no organism: walls, cloth, pages, rooms, lights (`labels calibrate --no-organism`)."""

    directory: tyro.conf.Positional[Path]
    """Folder to draw into."""
    images: int = 400
    """How many."""
    size: int = 256
    """Width and height, pixels."""
    seed: int = 0
    """Another seed draws other pictures."""
    cutouts: tuple[Path, ...] = ()
    """Folders of PNG with transparency, photographs of things; each is laid on a drawn picture, in turn."""

    def __post_init__(self) -> None:
        if self.images < 1 or self.size < 16:
            raise ValueError("--images is at least 1 and --size at least 16")


def draw_nothing(options: DrawNothing) -> int:
    """Draw; the same seed gives the same pictures."""
    from linnaea.data.verbs import draw_no_organism

    paths = draw_no_organism(**vars(options))
    print(f"{len(paths)} pictures")
    return DONE


COMMANDS: Commands = {
    "build": (Build, build),
    "check": (Check, check),
    "stats": (Stats, stats),
    "synthesize": (Synthesize, synthesize),
    "no-organism": (DrawNothing, draw_nothing),
    **data_download.COMMANDS,
    **data_repair.COMMANDS,
    **data_export.COMMANDS,
}
