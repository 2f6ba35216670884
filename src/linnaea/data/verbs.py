"""The verbs of data sets: build, check, describe, repair, export, download and synthesize.

Each one opens its input, shows progress in a terminal or a notebook, and returns a typed result. The commands under
``linnaea data`` call these functions and print the result.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from linnaea.counting import count
from linnaea.data.build import BuildConfig, BuildSummary, remove_build
from linnaea.data.build import build as build_from_sources
from linnaea.data.copies.leakage import Benchmark
from linnaea.data.copies.rules import DuplicateRule
from linnaea.data.engine import Engine, LocalEngine
from linnaea.data.export import ExportConfig, ExportSummary, Format
from linnaea.data.export import export as run_export
from linnaea.data.images import DEFAULT_SHORT_SIDE, Resize
from linnaea.data.licences import LicenceRule
from linnaea.data.naming import describe_names, make_naming
from linnaea.data.no_organism import NAMES, write_pictures, write_things
from linnaea.data.repair import Repair, iter_problems
from linnaea.data.repair import repair as run_repair
from linnaea.data.report import write_report
from linnaea.data.shards import DataSet, read_manifest
from linnaea.data.sources import Source
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.table import TableSource
from linnaea.data.splits import BenchmarkDraw, SplitRule
from linnaea.data.statistics import Statistics, measure
from linnaea.data.synthetic import SyntheticConfig, SyntheticSummary
from linnaea.data.synthetic import synthesize as draw
from linnaea.errors import LinnaeaError, UsageError
from linnaea.progress import progress_bar
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.row import MergeBy

if TYPE_CHECKING:
    from linnaea.data.download.url_table import DownloadSummary

Duplicates = Literal["keep", "drop", "group"]
PathLike = str | Path


@dataclass(frozen=True, kw_only=True)
class BuiltDataSet:
    """The result of :func:`build`: the data set, and the counts of all records."""

    directory: Path
    """Folder of the data set; :meth:`open` opens it."""
    summary: BuildSummary
    """Records in, images out, rejects by reason."""
    notes: tuple[str, ...] = ()
    """Notes on the reading of folders, the names that checklists resolved, and the copies found in benchmarks."""
    warnings: tuple[str, ...] = ()
    """Signs of a probable mistake, such as a benchmark without any match."""

    def open(self) -> DataSet:
        """Open the data set.

        Raises:
            LinnaeaError: The data set has no photographs.
        """
        return DataSet.open(self.directory)

    def __repr__(self) -> str:
        one = self.summary
        return (
            f"<data set {self.directory}: {one.n_in} records in = {one.n_out} images out + {one.n_rejected} rejected>"
        )


def build(
    source: PathLike, output: PathLike, *,
    class_level: int = 0,
    root: PathLike | None = None, path_column: str = "filepath", label_column: str = "",
    split_column: str = "", split_table: PathLike | None = None, group_column: str = "",
    val: float = 0.05, test: float = 0.05, unseen: float = 0.0, unseen_rank: str = "species", seed: int = 0,
    resolve: bool = True, checklist: Sequence[str] = (), merge_by: MergeBy = "class",
    duplicates: Duplicates = "keep", bursts: Literal["group", "keep"] = "group",
    benchmark: Sequence[PathLike] = (), benchmark_species: bool = False, draw_benchmark: PathLike | None = None,
    short_side: int = DEFAULT_SHORT_SIDE, resize: Resize = "short-side", licences: str = "any",
    shard_size: int = 0, captions: bool = False,
    workers: int = 0, engine: Literal["local", "ray"] = "local", ray_address: str = "",
    overwrite: bool = False, on_note: Callable[[str], None] = lambda note: None,
) -> BuiltDataSet:  # fmt: skip
    """Build a data set from a folder of class folders, a table of photographs, or a configuration.

    The same call resumes an interrupted build, and leaves a finished one unchanged.

    ```python
    built = linnaea.build("class-folders/", "data/", duplicates="group")
    print(built.summary.n_out, "photographs of", len(built.open().taxa_list), "taxa")
    ```

    ``source`` is a folder with one folder of photographs per class, a table (CSV, TSV, Parquet, Excel) with one row
    per photograph, or a TOML file of sources and options. With a TOML file, only ``workers``, ``engine``,
    ``ray_address`` and ``overwrite`` apply besides. Names are resolved unless ``resolve`` is false. The options are
    those of ``linnaea data build --help``. ``on_note`` is called with each note; the result holds all notes.

    Raises:
        UsageError: Options contradict each other.
        LinnaeaError: The source cannot be read or has no photographs, or the folder holds something else.
    """
    path, directory = Path(source), Path(output)
    if path.suffix.lower() == ".toml":
        from linnaea.data.config import read_config

        content = read_config(path)
        sources, config = content.sources, content.build
    else:
        table = TableSource(
            table=path, root=_path(root) or path.parent, path_column=path_column, label_column=label_column,
            split_column=split_column, split_table=_path(split_table), group_column=group_column,
        )  # fmt: skip
        is_folder = path.is_dir() or not path.suffix
        sources = (FolderSource(root=path, class_level=class_level) if is_folder else table,)
        with _as_usage_error():
            drawn = BenchmarkDraw(names=Path(draw_benchmark)) if draw_benchmark else None
            config = BuildConfig(
                short_side=short_side, resize=resize, shard_size=shard_size, captions=captions,
                splits=SplitRule(val=val, test=test, unseen=unseen, unseen_rank=Rank.parse(unseen_rank), seed=seed,
                                 benchmark=drawn, bursts=bursts),
                licences=LicenceRule(allow=licences),
                names=make_naming(checklist, resolve=resolve, merge_by=merge_by),
                duplicates=DuplicateRule(exact=duplicates, near=duplicates),
                benchmarks=make_benchmarks([Path(one) for one in benchmark], by_taxon=benchmark_species),
            )  # fmt: skip
    if overwrite:
        remove_build(directory)
    chosen_engine = _make_engine(engine, workers, ray_address, sources, directory)
    return _build(sources, directory, config, chosen_engine, on_note)


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


@contextmanager
def _as_usage_error() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def make_benchmarks(paths: Sequence[Path], *, by_taxon: bool) -> tuple[Benchmark, ...]:
    """Return benchmarks named after their folder or table, or after their path if two have the same name."""
    names = [path.stem if path.is_file() else path.resolve().name for path in paths]
    named = {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}
    return tuple(Benchmark(name=name, path=path, by_taxon=by_taxon) for name, path in named.items())


def _make_engine(
    engine: Literal["local", "ray"], workers: int, ray_address: str, sources: Sequence[Source], output: Path
) -> Engine:
    if engine == "local":
        if ray_address:
            raise UsageError("--ray-address: needs --engine ray")
        return LocalEngine(workers)
    from linnaea.data.ray_engine import RayEngine

    of_sources = (value for source in sources for value in vars(source).values() if isinstance(value, Path))
    return RayEngine(ray_address, n_workers=workers, must_see=[output, *dict.fromkeys(of_sources)])


def _build(
    sources: Sequence[Source], directory: Path, config: BuildConfig, engine: Engine, on_note: Callable[[str], None]
) -> BuiltDataSet:
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        on_note(line)

    for line in _how_read(sources):
        note(line)
    with progress_bar("building", "images") as on_progress:
        summary = build_from_sources(sources, directory, config, engine, on_progress)
    if summary.already_built:
        note(f"{directory}: already built from the same input; nothing to do")
    if summary.n_out and not (directory / "report.html").exists():
        note(f"report: {write_report(DataSet.open(directory), summary.reasons)}")
    settled, warnings = _what_was_settled(directory)
    for line in settled:
        note(line)
    return BuiltDataSet(directory=directory, summary=summary, notes=tuple(notes), warnings=tuple(warnings))


def _how_read(sources: Sequence[Source]) -> Iterator[str]:
    """Yield how each level of class folders is read."""
    for source in sources:
        if isinstance(source, FolderSource):
            yield from (f"{source.name}: {line}" if len(sources) > 1 else line for line in source.tree.levels)


def _what_was_settled(directory: Path) -> tuple[list[str], list[str]]:
    """Return notes on names and benchmarks, and warnings, mainly about filters that matched nothing."""
    manifest = read_manifest(directory)
    notes, warnings = [], []
    notes += describe_names(directory, manifest)
    if (bursts := manifest.get("bursts")) and bursts["groups"]:
        notes.append(
            f"bursts: {count(bursts['photographs'], 'photograph')} in"
            f" {count(bursts['groups'], 'group')}, each in one split"
        )
    for name, counts in manifest.get("benchmarks", {}).items():
        numbers = ", ".join(f"{n:,} {what}" for what, n in counts.items() if isinstance(n, int))
        notes.append(f"benchmark {name}: {numbers}")
        missing, n_species = len(counts.get("not in the sources", ())), counts.get("species", 0)
        if missing == n_species > 0:
            warnings.append(
                f"benchmark {name}: none of its names is a species of the sources ({count(n_species, 'name')})"
            )
    return notes, warnings


@dataclass(frozen=True, kw_only=True)
class CheckedDataSet:
    """The result of :func:`check_data`."""

    directory: Path
    n_images: int
    n_shards: int
    n_taxa: int
    problems: tuple[str, ...]
    """One line for each broken shard, sample or table."""

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is broken."""
        return not self.problems


def check_data(
    data: PathLike, *, decode: bool = False, on_problem: Callable[[str], None] = lambda problem: None
) -> CheckedDataSet:
    """Check every shard, every sample and the tables of a data set; with ``decode`` also decode every photograph.

    ``on_problem`` is called with each problem as it is found.

    Raises:
        LinnaeaError: There is no finished data set.
    """
    dataset, problems = DataSet.open(Path(data)), []
    with progress_bar("checking", "images") as on_progress:
        for problem in iter_problems(dataset, decode=decode, on_progress=on_progress):
            problems.append(problem)
            on_problem(problem)
    shards = dataset.index["shard"].n_unique()
    return CheckedDataSet(directory=dataset.directory, n_images=len(dataset), n_shards=shards,
                          n_taxa=dataset.taxa.height, problems=tuple(problems))  # fmt: skip


def describe_data(data: PathLike) -> Statistics:
    """Count a data set's photographs per split, source, rank and licence, and measure how evenly taxa are covered.

    Raises:
        LinnaeaError: There is no finished data set.
    """
    return measure(DataSet.open(Path(data)))


def repair_data(data: PathLike) -> Repair:
    """Rebuild the broken or missing shards of a data set, byte for byte.

    Raises:
        LinnaeaError: There is no finished data set, or a table that a repair needs is broken.
    """
    with progress_bar("repairing", "shards") as on_progress:
        return run_repair(Path(data), on_progress)


def export_data(
    data: PathLike, output: PathLike, *, format: Format, split: str = "", within: str = "", workers: int = 0
) -> ExportSummary:
    """Write a data set as Parquet for the Hub, TreeOfLife-10M's catalog, WebDataset with texts, or class folders.

    The same call resumes an interrupted export. ``split`` and ``within`` (a taxon, such as ``"Lepidoptera"`` or
    ``"order:Lepidoptera"``) select a part of the data set.

    Raises:
        LinnaeaError: Nothing is selected; the folder holds something else; the disk is full.
    """
    config, dataset = ExportConfig(form=format, split=split, within=within), DataSet.open(Path(data))
    with progress_bar("exporting", "images") as on_progress:
        return run_export(dataset, Path(output), config, LocalEngine(workers), on_progress)


def download(
    table: PathLike,
    output: PathLike,
    *,
    url_column: str = "url",
    contact: str = "",
    connections: int = 128,
    per_host: int = 8,
    timeout: float = 120.0,
    max_megabytes: float = 100.0,
    attempts: int = 5,
    retry_failed: bool = False,
    part: str = "1/1",
    ignore_robots: bool = False,
    allow_private: bool = False,
) -> "DownloadSummary":
    """Fetch the images of a table of URLs politely; the same call resumes an interrupted download.

    The options are those of ``linnaea data download --help``.

    Raises:
        UsageError: An option is out of range.
        LinnaeaError: The table cannot be read, lacks the column, or has no rows for this ``part``.
    """
    from linnaea.data.download.fetch import DownloadConfig
    from linnaea.data.download.politeness import HostLimits
    from linnaea.data.download.url_table import download as fetch_table

    number, _, n_parts = part.partition("/")
    if not (number.isdecimal() and n_parts.isdecimal()):
        raise UsageError(f"--part {part}: must look like 2/8")
    with _as_usage_error():
        config = DownloadConfig(
            url_column=url_column, contact=contact, max_connections=connections, timeout_s=timeout,
            host=HostLimits(max_connections=per_host), max_bytes=int(max_megabytes * 1e6), max_attempts=attempts,
            retry_failed=retry_failed, part=(int(number), int(n_parts)), ignore_robots=ignore_robots,
            allow_private=allow_private,
        )  # fmt: skip
    with progress_bar("downloading", "URLs") as on_progress:
        summary = fetch_table(Path(table), Path(output), config, on_progress)
    if summary.n_in == 0:
        raise LinnaeaError(f"{output}: the table has no rows (for this --part)")
    return summary


def synthesize(
    directory: PathLike, *, species: int = 240, images: int = 16, size: int = 96, seed: int = 0, workers: int = 0
) -> SyntheticSummary:
    """Draw a small artificial tree of life: class folders with ``images`` photographs per species, and a table.

    An interrupted drawing is resumed, and a finished one stays unchanged. ``size`` is the width and height in pixels.

    Raises:
        UsageError: A number is out of range.
        LinnaeaError: The folder holds something else.
    """
    with _as_usage_error():
        config = SyntheticConfig(n_species=species, n_images=images, size=size, seed=seed)
    with progress_bar("drawing", "images") as on_progress:
        return draw(Path(directory), config, n_workers=workers, on_progress=on_progress)


def draw_no_organism(
    directory: PathLike,
    *,
    images: int = 400,
    size: int = 256,
    seed: int = 0,
    cutouts: Sequence[PathLike] = (),
    kinds: Sequence[str] = (),
) -> list[Path]:
    """Draw pictures without an organism (walls, cloth, pages, rooms, lights, blank ones) and return their paths.

    They calibrate when a model abstains. ``cutouts`` are folders of PNG files with transparency; each is placed on a
    drawn picture, in turn. ``kinds`` are the kinds to draw, in turn; all, if none is named.

    Raises:
        UsageError: A number is out of range, there is no such kind, or kinds are named together with cut-outs.
        LinnaeaError: The folders have no PNG file.
    """
    if images < 1 or size < 16:
        raise UsageError("--images must be at least 1 and --size at least 16")
    if unknown := sorted({*kinds} - {*NAMES}):
        raise UsageError(f"--kinds {' '.join(unknown)}: write some of {', '.join(NAMES)}")
    if kinds and cutouts:
        raise UsageError("--kinds: objects are placed on all kinds; leave out --kinds or --cutouts")
    if not cutouts:
        return write_pictures(Path(directory), images, seed=seed, size=size, kinds=kinds)
    files = sorted(path for place in cutouts for path in Path(place).rglob("*.png"))
    return write_things(Path(directory), files, images, seed=seed, size=size)
