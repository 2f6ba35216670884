"""The build of a data set from sources, in four resumable stages: read, settle, shards, finish.

*read* reads every source once into tables. *settle* decides each record's name, split and shard, and finds copies and
records that occur in a benchmark; it decodes pictures, in parts, only if these rules are on. *shards* writes one tar
and one part of the index per slice of the plan; this is a pure function of the slice, so it can run anywhere, in any
order, and twice. *finish* merges the parts. The same command resumes an interrupted build, and the bytes are those of
an uninterrupted one.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from linnaea import __version__
from linnaea.data.copies.leakage import Benchmark, EncodePictures
from linnaea.data.copies.rules import DuplicateRule
from linnaea.data.engine import Engine
from linnaea.data.images import DEFAULT_SHORT_SIDE, JPEG_QUALITY, ImageError, Resize
from linnaea.data.licences import LicenceRule, describe_licences
from linnaea.data.naming import NamingRule
from linnaea.data.plan import (
    DETAIL,
    NAMES_FILE,
    PLAN_FILE,
    REJECT_SCHEMA,
    REJECTS_FILE,
    REJECTS_TABLE,
    ROW_GROUP,
    TAXA_FILE,
    write_frames,
)
from linnaea.data.read import RecordTables, count_rows, read_sources
from linnaea.data.samples import SampleForm, make_facts
from linnaea.data.settle import COUNTS_FILE, SettleRules, describe_rules, settle
from linnaea.data.shards import INDEX_SCHEMA, DataSet, ShardWriter, taxa_from_table, write_parquet
from linnaea.data.sources import LICENCE_FACTS, LicensedSource, Source, read_location
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.table import TableSource
from linnaea.data.splits import SplitRule
from linnaea.errors import LinnaeaError
from linnaea.jobs import (
    CHOOSE_ANOTHER,
    OnProgress,
    claim_folder,
    hold_alone,
    ignore_progress,
    make_fingerprint,
    read_finished,
    run_parts,
)
from linnaea.parquet import read_parquet, scan_parquet
from linnaea.storage import (
    atomic_path,
    explain_os_errors,
    remove_partial_files,
    sha256_of_file,
    write_atomically,
)
from linnaea.tables import write_table
from linnaea.taxonomy.row import MergeBy, label_reader

BUILD_DIR = ".build"
"""The state of an unfinished build: its plan, and a receipt for every finished shard."""
MARKER = f"{BUILD_DIR}/fingerprint"
REMEDY = f"{CHOOSE_ANOTHER} or --overwrite"

MAX_SHARD_SIZE, MIN_SHARD_SIZE, N_SHARDS_AT_LEAST = 4000, 250, 64
"""Samples per shard (4,000 are about 100 MB); a small data set has fewer, because 64 shards keep every core at work."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """The options that decide the bytes of a data set, besides its sources."""

    short_side: int = DEFAULT_SHORT_SIDE
    """Maximum short side of a stored picture, in pixels; nothing is enlarged."""
    quality: int = JPEG_QUALITY
    """JPEG quality of resized pictures."""
    resize: Resize = "short-side"
    """``squash-224`` resizes to 224 x 224 as TreeOfLife-10M does; ``short_side`` and ``quality`` are then ignored."""
    licences: LicenceRule = field(default_factory=LicenceRule)
    """The allowed licences; other records are rejected with the reason."""
    shard_size: int = 0
    """Samples per shard; 0: 4000, fewer in a small data set."""
    captions: bool = False
    """Also store the texts for the trainers of open_clip and BioCLIP."""
    names: NamingRule = field(default_factory=NamingRule)
    """The rule for resolving names with checklists."""
    duplicates: DuplicateRule = field(default_factory=DuplicateRule)
    """The rule for pictures that occur several times."""
    benchmarks: tuple[Benchmark, ...] = ()
    """The benchmarks whose pictures and species the data set must not contain."""
    splits: SplitRule = field(default_factory=SplitRule)
    """The shares of the splits, if the source names none."""

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.shard_size < 0 or not 1 <= self.quality <= 100:
            raise ValueError("short side must be at least 16, shard size at least 1 (0: automatic), quality 1 to 100")
        if len({benchmark.name for benchmark in self.benchmarks}) < len(self.benchmarks):
            raise ValueError("two benchmarks have the same name")

    @property
    def form(self) -> SampleForm:
        """The options that decide a sample."""
        return SampleForm(short_side=self.short_side, quality=self.quality, resize=self.resize, captions=self.captions)


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """The counts of a build; ``n_in == n_out + n_rejected`` always holds."""

    n_in: int
    n_out: int
    n_rejected: int
    reasons: dict[str, int]
    already_built: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """A task to write one slice of the plan as one shard."""

    directory: Path
    name: str
    """The name of the shard, ``split/shard-000000``."""
    start: int
    length: int
    config: BuildConfig

    @property
    def split(self) -> str:
        return self.name.partition("/")[0]

    @property
    def tar_path(self) -> Path:
        return self.directory / f"{self.name}.tar"

    @property
    def build_dir(self) -> Path:
        return self.directory / BUILD_DIR

    @property
    def index_path(self) -> Path:
        return self.build_dir / "parts" / f"{self.name}.index.parquet"

    @property
    def rejects_path(self) -> Path:
        return self.build_dir / "parts" / f"{self.name}.rejects.parquet"

    @property
    def receipt_path(self) -> Path:
        """The file that is written last, with the shard's checksum and size; if it exists, the shard is finished."""
        return self.build_dir / "parts" / f"{self.name}.json"


def build(
    sources: Sequence[Source],
    directory: Path,
    config: BuildConfig,
    engine: Engine,
    on_progress: OnProgress = ignore_progress,
    encode: EncodePictures | None = None,
) -> BuildSummary:
    """Build a data set (DESIGN section 3) in ``directory``, or resume an interrupted build.

    ``encode`` is needed by benchmarks that also reject similar pictures (:attr:`Benchmark.min_cosine`).

    Raises:
        LinnaeaError: the folder holds something else or a build from other inputs, another build is running in it,
            there are no records, or the disk is full.
    """
    read = [_read_by(source, config.names.merge_by) for source in sources]
    sources = [LicensedSource(source=source, rule=config.licences) for source in read]
    with explain_os_errors(directory):
        fingerprint = _fingerprint(sources, config)
        if (directory / "manifest.json").exists():
            return _finished_before(directory, fingerprint)
        claim_folder(directory, MARKER, fingerprint, kind="an unfinished build", remedy=REMEDY)
        with hold_alone(directory, f"{BUILD_DIR}/lock", kind="build"):
            remove_partial_files(directory)
            if not (directory / BUILD_DIR / PLAN_FILE).exists():
                reading = _read(sources, directory)
                settle(reading, _rules(config, reading.n_records), engine, on_progress, encode)
            tasks = list_tasks(directory, config)
            run_parts(make_shard, tasks, engine.map, on_progress)
            return _finish(sources, directory, config, tasks, fingerprint)


def _read_by(source: Source, merge_by: MergeBy) -> Source:
    """Return the source with the reader of labels that the rule for names asks for."""
    if merge_by == "taxon" and isinstance(source, FolderSource | TableSource):
        return replace(source, label_to_taxon=label_reader(merge_by))
    return source


def remove_build(directory: Path) -> None:
    """Remove a data set or an unfinished build, and no other files in its folder.

    Raises:
        LinnaeaError: the folder holds neither.
    """
    if not directory.exists():
        return
    if not (directory / "manifest.json").exists() and not (directory / BUILD_DIR).exists():
        if any(directory.iterdir()):
            raise LinnaeaError(f"{directory}: not a data set, so nothing was removed; choose another --output")
        return
    with explain_os_errors(directory):
        for name in ("manifest.json", "index.parquet", "licences.parquet", "report.html", "taxonomy_history.parquet",
                     "datasheet.md", "figures/icicle.png", "figures/long_tail.png",
                     TAXA_FILE, REJECTS_FILE, REJECTS_TABLE, PLAN_FILE, NAMES_FILE):  # fmt: skip
            (directory / name).unlink(missing_ok=True)
        for shard in directory.glob("*/shard-*.tar"):
            shard.unlink()
        remove_partial_files(directory)
        for folder in (path for path in directory.iterdir() if path.is_dir() and not any(path.iterdir())):
            folder.rmdir()
        shutil.rmtree(directory / BUILD_DIR, ignore_errors=True)


def _read(sources: Sequence[Source], directory: Path) -> RecordTables:
    reading = read_sources(sources, directory / BUILD_DIR)
    if reading.n_in == 0:
        remove_build(directory)
        names = ", ".join(source.name for source in sources)
        raise LinnaeaError(f"{names}: has no photographs; give class folders with photographs or a table with rows")
    return reading


def _rules(config: BuildConfig, n_records: int) -> SettleRules:
    part_size = config.shard_size or _choose_shard_size(n_records)
    return SettleRules(names=config.names, duplicates=config.duplicates, benchmarks=config.benchmarks,
                       splits=config.splits, part_size=part_size)  # fmt: skip


def list_tasks(directory: Path, config: BuildConfig) -> list[ShardTask]:
    """Return the shards of the plan: the samples of every split in key order, in slices."""
    counts = scan_parquet(directory / BUILD_DIR / PLAN_FILE).group_by("split").len().sort("split").collect()
    size = config.shard_size or _choose_shard_size(int(counts["len"].sum()))
    tasks, start = [], 0
    for split, n_samples in counts.iter_rows():
        for number, first in enumerate(range(0, n_samples, size)):
            length = min(size, n_samples - first)
            name = f"{split}/shard-{number:06d}"
            tasks.append(ShardTask(directory=directory, name=name, start=start + first, length=length, config=config))
        start += n_samples
    return tasks


def _choose_shard_size(n_records: int) -> int:
    return max(MIN_SHARD_SIZE, min(MAX_SHARD_SIZE, -(-n_records // N_SHARDS_AT_LEAST)))


def make_shard(task: ShardTask) -> int:
    """Write one shard with its part of the index and of the rejects, and return its number of records.

    Raises:
        LinnaeaError: the shard cannot be written.
    """
    import cv2

    cv2.setNumThreads(1)  # the engine's workers are the parallelism
    plan = scan_parquet(task.build_dir / PLAN_FILE).slice(task.start, task.length).collect()
    texts = _texts_by_taxon(task, plan) if task.config.captions else {}
    rows: list[tuple[Any, ...]] = []
    rejects: list[tuple[str, ...]] = []
    with atomic_path(task.tar_path) as partial:
        with partial.open("wb") as stream:
            writer = ShardWriter(stream)
            for record in plan.iter_rows(named=True):
                try:
                    rows.append(_add_sample(writer, task, record, texts.get(record["taxon_id"], {})))
                except ImageError as error:
                    rejects.append((record["source"], record["record_id"], record["location"], str(error)))
            writer.close()
        receipt = {"sha256": sha256_of_file(partial), "bytes": partial.stat().st_size} if rows else {}
    if not rows:
        task.tar_path.unlink()
    write_parquet(pl.DataFrame(rejects, schema=REJECT_SCHEMA, orient="row"), task.rejects_path)
    write_parquet(pl.DataFrame(rows, schema=INDEX_SCHEMA, orient="row"), task.index_path)
    write_atomically(task.receipt_path, json.dumps(receipt))
    return task.length


def _add_sample(writer: ShardWriter, task: ShardTask, record: dict[str, Any], texts: dict[str, str]) -> tuple[Any, ...]:
    """Add one record to the shard and return its row of the index."""
    picture = task.config.form.make_picture(read_location(record["location"]))
    offset = writer.add(record["key"], picture.jpeg, make_facts(record), texts)
    place = (record["key"], record["split"], f"{task.name}.tar", offset, len(picture.jpeg))
    origin = (record["taxon_id"], record["source"], record["group"])
    return (*place, *origin, picture.width, picture.height, picture.sha256, record["pdq"])


def _texts_by_taxon(task: ShardTask, plan: pl.DataFrame) -> dict[int, dict[str, str]]:
    ids = plan["taxon_id"].unique().to_list()
    taxa = scan_parquet(task.build_dir / TAXA_FILE).filter(pl.col("taxon_id").is_in(ids)).collect()
    make_texts = task.config.form.make_texts
    return {number: make_texts(taxon) for number, taxon in zip(taxa["taxon_id"], taxa_from_table(taxa), strict=True)}


def _finish(
    sources: Sequence[Source], directory: Path, config: BuildConfig, tasks: list[ShardTask], fingerprint: str
) -> BuildSummary:
    build_dir = directory / BUILD_DIR
    stored, index_path = Counter[str](), directory / "index.parquet"

    def index() -> Iterator[pl.DataFrame]:
        for task in tasks:
            part = read_parquet(task.index_path)
            stored.update({task.split: part.height} if part.height else {})
            yield part

    write_frames(index(), INDEX_SCHEMA, index_path)
    planned = read_parquet(build_dir / REJECTS_FILE)
    rejects = pl.concat([planned, *(read_parquet(task.rejects_path) for task in tasks)])
    n_in = planned.height + sum(task.length for task in tasks)
    rejects = rejects.sort("source", "record_id", "reason", "location")
    write_parquet(rejects, directory / REJECTS_FILE)
    write_table(rejects, directory / REJECTS_TABLE)
    write_licences(build_dir / PLAN_FILE, index_path, directory / "licences.parquet")
    for name in (name for name in (TAXA_FILE, PLAN_FILE, NAMES_FILE) if (build_dir / name).exists()):
        with atomic_path(directory / name) as partial:
            shutil.copyfile(build_dir / name, partial)
    kinds = Counter(reason.partition(DETAIL)[0] for reason in rejects["reason"])
    tally = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    summary = BuildSummary(n_in=n_in, n_out=stored.total(), n_rejected=rejects.height, reasons=dict(tally))
    receipts = {f"{task.name}.tar": json.loads(task.receipt_path.read_text()) for task in tasks}
    manifest = {
        "format": 1,
        "linnaea": __version__,
        "fingerprint": fingerprint,
        "inputs": [source.describe() for source in sources],
        "options": _options(config),
        "counts": {"in": summary.n_in, "out": summary.n_out, "rejected": summary.n_rejected},
        "reasons": summary.reasons,
        **json.loads((build_dir / COUNTS_FILE).read_text()),
        "splits": dict(sorted(stored.items())),
        "shards": {name: receipt for name, receipt in receipts.items() if receipt},
    }
    write_atomically(directory / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    shutil.rmtree(build_dir)
    return summary


def write_licences(plan_path: Path, index_path: Path, path: Path) -> None:
    """Write facts, licence and attribution of every stored picture, with one column per fact that occurs.

    Plan and index have the same order and are read side by side.

    Raises:
        LinnaeaError: plan and index do not belong to one data set.
    """
    facts = [pl.col("facts").str.json_path_match(f"$.{name}").fill_null("").alias(name) for name in LICENCE_FACTS]
    plan = scan_parquet(plan_path).select("key", "source", *facts)
    occurs = plan.select((pl.col(name) != "").any() for name in LICENCE_FACTS).collect(engine="streaming")
    columns = ["key", "source", *(name for name in LICENCE_FACTS if occurs[name][0])]
    keys, n_planned = scan_parquet(index_path).select("key"), count_rows(plan_path)
    n_written = 0

    def rows() -> Iterator[pl.DataFrame]:
        nonlocal n_written
        for first in range(0, n_planned, ROW_GROUP):
            planned = plan.slice(first, ROW_GROUP).select(columns).collect()
            stored = planned.join(
                keys.slice(n_written, ROW_GROUP).collect(), on="key", how="semi", maintain_order="left"
            )
            n_written += stored.height
            yield describe_licences(stored)

    write_frames(rows(), dict.fromkeys((*columns, "licence_id", "attribution"), pl.String), path)
    if n_written != count_rows(index_path):
        raise LinnaeaError(f"{index_path}: has pictures that are not in {plan_path}; build the data set again")


def _fingerprint(sources: Sequence[Source], config: BuildConfig) -> str:
    inputs = [*(source.describe() for source in sources), describe_rules(_rules(config, 0))]
    return make_fingerprint({"inputs": inputs, "options": _options(config), "format": 1})


def _options(config: BuildConfig) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return options


def _finished_before(directory: Path, fingerprint: str) -> BuildSummary:
    manifest = read_finished(directory / "manifest.json", fingerprint, kind="a data set", remedy=REMEDY)
    shutil.rmtree(directory / BUILD_DIR, ignore_errors=True)
    remove_partial_files(directory)  # of a page or a figure, which are written after the build
    counts = manifest["counts"]
    DataSet.open(directory)
    return BuildSummary(n_in=counts["in"], n_out=counts["out"], n_rejected=counts["rejected"],
                        reasons=manifest["reasons"], already_built=True)  # fmt: skip
