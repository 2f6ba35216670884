"""``linnaea data``: build, check and describe data sets."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from linnaea.cli import DONE, FAILED, SOME_FAILED, Commands
from linnaea.cli.console import say, tell, warn
from linnaea.counting import agree, count

if TYPE_CHECKING:
    from linnaea.data.build import BuildSummary
    from linnaea.data.download.url_table import DownloadSummary


UnseenRank = Literal["species", "genus", "family"]
N_REASONS = 20
"""Number of reject reasons that are printed; rejects.parquet holds all."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build a data set from a folder of class folders, a table of photographs, or sources named in a configuration."""

    output: Path
    """Folder of the data set; the same command resumes an interrupted build."""
    folder: Path | None = None
    """A folder with one folder of photographs per class."""
    class_level: int = 0
    """Level of the class folders below --folder, counted from 1 (0: found by the names)."""
    table: Path | None = None
    """A table (CSV, TSV, .xlsx or Parquet) with one row per photograph."""
    config: Path | None = None
    """A TOML file with sources and options (docs/sources); the other options of the build are then ignored."""
    root: Path | None = None
    """Folder that the paths in the table are relative to (default: the folder of the table)."""
    path_column: str = "filepath"
    """Column of the table that holds the path."""
    label_column: str = ""
    """Column that holds the label; not needed if the table has rank columns."""
    split_column: str = ""
    """Column that holds the split."""
    split_table: Path | None = None
    """A second table with the path column and a column of splits; photographs that are not in it are rejected."""
    group_column: str = ""
    """Column of a group key; photographs with the same key stay in one split."""
    bursts: Literal["group", "keep"] = "group"
    """Keep the photographs of one burst (near copies, one camera within a minute, numbered folders) in one split, where
    the input names neither a split nor a group."""
    val: float = 0.05
    """Share of the photographs for validation, if the input names no split."""
    test: float = 0.05
    """Share of the photographs for testing."""
    unseen: float = 0.0
    """Share of the taxa that are held out with all their photographs."""
    unseen_rank: UnseenRank = "species"
    """Rank at which taxa are held out."""
    seed: int = 0
    """Seed of the splits."""
    resolve: bool = True
    """Resolve names with the embedded checklist (or --checklist); names that it cannot resolve stay unchanged. With
    --no-resolve all names are kept as they are."""
    checklist: tuple[str, ...] = ()
    """Resolve names with these checklists: names or files, in order of preference."""
    merge_by: Literal["class", "taxon"] = "class"
    """Labels over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class keeps
    them apart, taxon merges them."""
    duplicates: Literal["keep", "drop", "group"] = "keep"
    """Exact and near copies: keep all, drop all but the first, or group them in one split."""
    benchmark: tuple[Path, ...] = ()
    """Folders, tables or data sets that are used as benchmarks: copies of their photographs are rejected."""
    benchmark_species: bool = False
    """Also reject every photograph of the benchmarks' species."""
    draw_benchmark: Path | None = None
    """A file of species names. For each species with at least 30 photographs, 30 go into the split `benchmark` and
    the rest into `held-back`."""
    short_side: int = 256
    """Maximum short side of the stored photographs, in pixels."""
    resize: Literal["short-side", "squash-224"] = "short-side"
    """squash-224: resize to 224 x 224 without the aspect ratio, byte for byte as in TreeOfLife-10M."""
    licences: str = "any"
    """Allowed licences: any, open, non-commercial, or a list such as CC0-1.0,CC-BY; other records are rejected."""
    shard_size: int = 0
    """Samples per shard (0: 4000, fewer in a small data set, so that every core has work)."""
    captions: bool = False
    """Also store the texts for the trainers of open_clip and BioCLIP."""
    workers: int = 0
    """Processes (0: one per core)."""
    engine: Literal["local", "ray"] = "local"
    """Run the build in processes of this machine, or on a Ray cluster whose nodes share inputs and output."""
    ray_address: str = ""
    """Address of the Ray cluster, host:6379 or auto (default: $RAY_ADDRESS, else this machine)."""
    overwrite: bool = False
    """Remove an existing data set in the output folder, finished or not, and start again."""

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.folder, self.table, self.config)) != 1:
            raise ValueError("give either --folder or --table, or --config")
        if self.class_level < 0 or (self.class_level and self.folder is None):
            raise ValueError("--class-level must be at least 1 and needs --folder")
        if self.config is not None and self.config.suffix.lower() != ".toml":
            raise ValueError(f"--config {self.config}: give a file whose name ends in .toml")


def build(options: Build) -> int:
    """Run the build and print the counts of all records."""
    from linnaea.data.verbs import build

    chosen = dict(vars(options))
    sources = [chosen.pop(name) for name in ("folder", "table", "config")]
    source = next(source for source in sources if source is not None)
    built = build(source, chosen.pop("output"), on_note=say, **chosen)
    for warning in built.warnings:
        warn(warning)
    return _account(built.summary, built.directory)


def _warn_of_rejects(summary: "BuildSummary | DownloadSummary", output: Path) -> None:
    for reason, n in list(summary.reasons.items())[:N_REASONS]:
        warn(f"{n:,} rejected: {reason}")
    if summary.n_rejected:
        warn(f"all rejects with their reasons: {output / 'rejects.csv'} (and rejects.parquet)")


def _account(summary: "BuildSummary", output: Path) -> int:
    _warn_of_rejects(summary, output)
    tell(f"{summary.n_in} records in = {summary.n_out} images out + {summary.n_rejected} rejected", flush=True)
    if summary.n_in and not summary.n_out:
        warn(f"no record became an image{_remedy(summary)}")
        return FAILED
    return SOME_FAILED if summary.n_rejected else DONE


def _remedy(summary: "BuildSummary") -> str:
    from linnaea.data.sources.folder import OUTSIDE

    if OUTSIDE not in summary.reasons:
        return ""
    return (
        "; put the photographs of each taxon into a folder with its name, or give --table FILE with a column of paths "
        "and one of names"
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """Check a data set: every shard, every sample and the tables."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set."""
    decode: bool = False
    """Also decode every photograph."""


def check(options: Check) -> int:
    """Print every problem; return 1 if there are any."""
    from linnaea.data.verbs import check_data

    checked = check_data(options.directory, decode=options.decode, on_problem=warn)
    if not checked.is_whole:
        n_problems = len(checked.problems)
        warn(f"{options.directory}: {n_problems} problems; repair them with `linnaea data repair {options.directory}`")
        return FAILED
    tell(
        f"{count(checked.n_images, 'image', '')} in {count(checked.n_shards, 'shard', '')},"
        f" {count(checked.n_taxa, 'taxon', '')}: all good"
    )
    return DONE


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Describe a data set: counts per split, source, rank and licence, and how evenly taxa are covered."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set."""
    json: bool = False
    """Print one JSON object."""


def stats(options: Stats) -> int:
    """Print the counts as tables, or as JSON."""

    from rich.table import Table

    from linnaea.cli.console import results
    from linnaea.data.verbs import describe_data

    statistics = describe_data(options.directory)
    if options.json:
        tell(json.dumps(statistics.as_json(), indent=1, ensure_ascii=False))
        return DONE
    for frame in (statistics.by_split, statistics.by_source, statistics.by_rank, statistics.by_licence,
                  statistics.sizes):  # fmt: skip
        table = Table(*frame.columns)
        for row in frame.iter_rows():
            table.add_row(*map(_show_cell, row))
        results.print(table)
    quantiles = ", ".join(f"{q:.0%}: {n:,}" for q, n in statistics.images_per_taxon_quantiles.items())
    tell(f"images per taxon: {quantiles}; Gini {statistics.gini:.3f}")
    tell("taxa " + ", ".join(f"{words}: {n:,}" for words, n in statistics.taxa_by_size.items()))
    tell(f"all seven ranks: {statistics.share_complete:.1%} of images; common name: {statistics.share_common_name:.1%}")
    tell(
        f"{count(statistics.n_images, 'image', '')}, {count(statistics.n_taxa, 'taxon', '')};"
        f" {count(statistics.n_head, 'taxon', '')} {agree(statistics.n_head, 'holds', 'hold')} half of the images"
    )
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
    """Draw a small artificial tree of life: class folders of photographs and a table, as input of a build."""

    directory: tyro.conf.Positional[Path]
    """Output folder."""
    species: int = 240
    """Number of species."""
    images: int = 16
    """Photographs per species."""
    size: int = 96
    """Width and height of the photographs, in pixels."""
    seed: int = 0
    """Seed of the tree of life."""
    workers: int = 0
    """Processes (0: one per core)."""


def synthesize(options: Synthesize) -> int:
    """Draw the tree; an interrupted run is resumed, and a finished one stays unchanged."""
    from linnaea.data.verbs import synthesize

    summary = synthesize(**vars(options))
    tell(
        f"{count(summary.n_images, 'image', '')} of"
        f" {count(summary.n_species, 'species', '')} in {count(summary.n_genera, 'genus', '')}"
        f" and {count(summary.n_families, 'family', '')}"
    )
    return DONE


@dataclass(frozen=True, kw_only=True)
class DrawNothing:
    """Draw pictures without an organism: walls, cloth, pages, blank ones (for `labels calibrate --no-organism`)."""

    directory: tyro.conf.Positional[Path]
    """Output folder."""
    images: int = 400
    """Number of pictures."""
    size: int = 256
    """Width and height, in pixels."""
    seed: int = 0
    """Seed of the pictures."""
    cutouts: tuple[Path, ...] = ()
    """Folders of PNG cut-outs of objects with transparency; each one is placed on a drawn picture, in turn."""
    kinds: tuple[str, ...] = ()
    """The kinds to draw, in turn: wall, cloth, bricks, sky, page, chart, room, lights, machine, blank. Default: all."""

    def __post_init__(self) -> None:
        if self.images < 1 or self.size < 16:
            raise ValueError("--images must be at least 1 and --size at least 16")


def draw_nothing(options: DrawNothing) -> int:
    """Draw the pictures; the same seed gives the same pictures."""
    from linnaea.data.verbs import draw_no_organism

    paths = draw_no_organism(**vars(options))
    tell(count(len(paths), "picture", ""))
    return DONE


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Rebuild the broken or missing shards of a data set, byte for byte."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set; the original photographs must be at the paths that the build read."""


def repair(options: Repair) -> int:
    """Repair the data set and print each record that is lost; return 3 if anything is still broken."""
    from linnaea.data.verbs import repair_data

    result = repair_data(options.directory)
    for lost in result.lost:
        warn(f"{lost.shard}: {lost.source} {lost.record_id} ({lost.location}): {lost.reason}")
    for note in result.notes:
        warn(note)
    broken = len({lost.shard for lost in result.lost})
    tell(
        f"{count(result.n_checked, 'shard', '')} checked, {count(len(result.mended), 'file', '')} repaired,"
        f" {broken + len(result.notes)} still broken ({count(len(result.lost), 'photograph', '')} lost)",
        flush=True,
    )
    return DONE if result.is_whole else SOME_FAILED


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a data set as Parquet for the Hub, TreeOfLife-10M's catalog, WebDataset with texts, or class folders."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set."""
    output: Path
    """Output folder; the same command resumes an interrupted export."""
    format: Literal["parquet", "catalog", "webdataset", "imagefolder"]
    """Parquet files with pictures; catalog.csv; WebDataset shards with texts for trainers; one folder per taxon."""
    split: str = ""
    """Export only this split."""
    within: str = ""
    """Export only this taxon: Lepidoptera, order:Lepidoptera."""
    workers: int = 0
    """Processes (0: one per core)."""
    push: str = ""
    """Repository of the hub to upload the folder to as a data set, OWNER/NAME (log in to the hub first)."""


def export(options: Export) -> int:
    """Write the export and print its counts and the number of photographs that must not be redistributed."""
    from linnaea.data.verbs import export_data
    from linnaea.model.hub import check_repo_name, push_folder

    chosen = dict(vars(options))
    if push := chosen.pop("push"):
        check_repo_name(push)
    summary = export_data(chosen.pop("directory"), **chosen)
    if summary.already_exported:
        say(f"{options.output}: already exported with the same options; nothing to do")
    tell(
        f"{count(summary.n_images, 'image', '')} of {count(summary.n_taxa, 'taxon', '')}"
        f" in {count(summary.n_files, 'file', '')}: {options.output}",
        flush=True,
    )
    if push:
        tell(f"pushed: {push_folder(options.output, push, kind='dataset')}", flush=True)
    return DONE


@dataclass(frozen=True, kw_only=True)
class Download:
    """Fetch the images of a table of URLs; the same command resumes an interrupted download."""

    table: tyro.conf.Positional[Path]
    """CSV, TSV or Parquet table with a column of URLs; checksums in columns md5 and sha256 are verified."""
    output: Path
    """Output folder for files, ledger, images.parquet, rejects.parquet and hosts.parquet."""
    url_column: str = "url"
    """Column that holds the URL."""
    contact: str = ""
    """Your e-mail address or web page, sent to every host in the User-Agent."""
    connections: int = 128
    """Concurrent requests over all hosts."""
    per_host: int = 8
    """Maximum of concurrent requests to one host; starts at 2 and adapts to the host."""
    timeout: float = 120.0
    """Maximum time per picture, in seconds."""
    max_megabytes: float = 100.0
    """Maximum size of a file, in megabytes."""
    attempts: int = 5
    """Attempts per URL after temporary errors."""
    retry_failed: bool = False
    """Retry URLs that failed in earlier runs with temporary errors (timeouts, 5xx, unreachable hosts)."""
    part: str = "1/1"
    """"2/8": this is machine 2 of 8, and each fetches its own hosts. Give every machine its own output folder."""
    ignore_robots: bool = False
    """Ignore robots.txt and X-Robots-Tag. Only for your own servers."""
    allow_private: bool = False
    """Also fetch from this machine and from private networks."""


def download(options: Download) -> int:
    """Fetch the images and print the counts of all rows."""
    from linnaea.data.verbs import download

    if not options.contact:
        warn("no --contact given: hosts cannot report problems to you, and some (Wikimedia) refuse your requests")
    chosen = dict(vars(options))
    return _account_for_files(download(chosen.pop("table"), chosen.pop("output"), **chosen), options.output)


def _account_for_files(summary: "DownloadSummary", output: Path) -> int:
    for host in summary.hosts.head(10).iter_rows(named=True):
        gave_up = f" - {host['gave_up']}" if host["gave_up"] else ""
        say(
            f"  {host['host']}: {count(host['n_files'], 'file')}, {host['n_bytes'] / 1e6:,.1f} MB,"
            f" {host['n_rejected']:,} rejected, {host['n_refusals']:,} refusals{gave_up}"
        )
    if summary.hosts.height > 10:
        say(f"  and {summary.hosts.height - 10:,} more hosts, in {output / 'hosts.parquet'}")
    _warn_of_rejects(summary, output)
    say(
        f"{count(summary.n_files, 'file')}, {summary.n_bytes / 1e6:,.1f} MB;"
        f" {count(summary.n_fetched, 'URL')} completed by this run"
    )
    tell(f"{summary.n_in} records in = {summary.n_out} files out + {summary.n_rejected} rejected", flush=True)
    return SOME_FAILED if summary.n_rejected else DONE


COMMANDS: Commands = {
    "build": (Build, build),
    "check": (Check, check),
    "stats": (Stats, stats),
    "synthesize": (Synthesize, synthesize),
    "no-organism": (DrawNothing, draw_nothing),
    "download": (Download, download),
    "repair": (Repair, repair),
    "export": (Export, export),
}
