"""From sources to a data set, in three resumable stages: plan, shards, finish.

*plan* reads every source once and decides, before any pixel is looked at, each record's key, split, taxon and
shard. *shards* turns each slice of the plan into one tar and one part of the index: a pure function of the
slice, so it can run anywhere, in any order, twice. *finish* merges the parts. Whatever interrupts a build, the
same command goes on, and the bytes are those of a build that was never interrupted.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from linnaea import __version__
from linnaea.data.engine import Engine
from linnaea.data.images import DEFAULT_SHORT_SIDE, JPEG_QUALITY, ImageError, prepare
from linnaea.data.shards import (
    INDEX_SCHEMA,
    DataSet,
    ShardWriter,
    make_taxa_table,
    sha256_of_file,
    sort_taxa,
    taxa_from_table,
    write_parquet,
)
from linnaea.data.sources import LICENCE_FACTS, Record, Rejected, Source, read_location
from linnaea.data.splits import SplitRule, assign_splits
from linnaea.errors import LinnaeaError
from linnaea.storage import atomic_path, explain_os_errors, write_atomically
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType

OnProgress = Callable[[int, int | None], None]

CAPTION_MEMBERS: dict[str, TextType] = {
    "txt": TextType.TAXON_COM,
    **{f"{text_type}.txt": text_type for text_type in TRAINING_TEXT_TYPES},
}
"""Text members for other trainers: open_clip's reads ``txt``, BioCLIP's the five others."""

PLAN_SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "split": pl.String,
    "source": pl.String,
    "record_id": pl.String,
    "location": pl.String,
    "group": pl.String,
    "facts": pl.String,
    "taxon": pl.Int32,
}
REJECT_SCHEMA: dict[str, Any] = dict.fromkeys(("source", "record_id", "location", "reason"), pl.String)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """What decides the bytes of a data set, besides its sources."""

    short_side: int = DEFAULT_SHORT_SIDE
    """Longest allowed short side of a stored picture, pixels; nothing is enlarged."""
    quality: int = JPEG_QUALITY
    """JPEG quality of resized pictures."""
    shard_size: int = 4000
    """Samples per shard."""
    captions: bool = False
    """Also store the texts that open_clip's and BioCLIP's trainers read."""
    splits: SplitRule = field(default_factory=SplitRule)
    """Shares of the splits where the source names none."""

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.shard_size < 1 or not 1 <= self.quality <= 100:
            raise ValueError("short side is at least 16, shard size at least 1, quality 1 to 100")


@dataclass(frozen=True, kw_only=True)
class BuildSummary:
    """What came of a build: ``n_in == n_out + n_rejected``, always."""

    n_in: int
    n_out: int
    n_rejected: int
    reasons: dict[str, int]
    already_built: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardTask:
    """One slice of the plan, to become one shard."""

    directory: Path
    name: str
    """``split/shard-000000``"""
    start: int
    length: int
    config: BuildConfig

    @property
    def tar_path(self) -> Path:
        return self.directory / f"{self.name}.tar"

    @property
    def part_path(self) -> Path:
        """Written last: where it exists, the shard is finished."""
        return self.directory / ".build" / "parts" / f"{self.name}.parquet"

    @property
    def rejects_path(self) -> Path:
        return self.part_path.with_suffix(".rejects.parquet")


def build(
    sources: Sequence[Source],
    directory: Path,
    config: BuildConfig,
    engine: Engine,
    on_progress: OnProgress = lambda done, total: None,
) -> BuildSummary:
    """Build a data set (DESIGN section 3) in ``directory``, or go on with an interrupted build.

    Raises:
        LinnaeaError: the folder holds something else or a build from other inputs; the disk is full.
    """
    fingerprint = _fingerprint(sources, config)
    if (directory / "manifest.json").exists():
        return _finished_before(directory, fingerprint)
    with explain_os_errors(directory):
        _open_build_folder(directory, fingerprint)
        if not (directory / ".build" / "plan.parquet").exists():
            make_plan(sources, directory / ".build", config)
        tasks = list_tasks(directory, config)
        _run_tasks(tasks, engine, on_progress)
        return _finish(sources, directory, config, tasks, fingerprint)


def make_key(source: str, record_id: str) -> str:
    """The sample's key: a hash of source and record id, never random."""
    return hashlib.blake2b(f"{source}\0{record_id}".encode(), digest_size=12).hexdigest()


def make_plan(sources: Sequence[Source], folder: Path, config: BuildConfig) -> None:
    """Read every source; write ``plan.parquet``, ``taxa.parquet`` and ``rejects.parquet`` into ``folder``."""
    taxa: dict[Taxon, int] = {}
    rows: list[tuple[Any, ...]] = []
    rejects: list[tuple[str, str, str, str]] = []
    seen: set[str] = set()
    for source in sources:
        for item in source.records():
            if isinstance(item, Rejected):
                rejects.append((item.source, item.record_id, item.location, item.reason))
                continue
            key = make_key(item.source, item.record_id)
            if key in seen:
                rejects.append((item.source, item.record_id, item.location, "occurs twice (same source and record id)"))
                continue
            seen.add(key)
            rows.append(_plan_row(key, item, taxa.setdefault(item.taxon, len(taxa))))
    plan = pl.DataFrame(rows, schema=PLAN_SCHEMA, orient="row")
    table = make_taxa_table(taxa)
    number_of = {taxon: number for number, taxon in enumerate(sort_taxa(taxa))}
    renumber = pl.Series("taxon_id", [number_of[taxon] for taxon in taxa], dtype=pl.Int32)
    plan = plan.with_columns(renumber.gather(plan["taxon"]).alias("taxon_id")).drop("taxon")
    plan = assign_splits(plan.join(table.select("taxon_id", *RANK_LABELS), on="taxon_id", how="left"), config.splits)
    straddling = plan.filter(pl.col("reason") != "").select(*REJECT_SCHEMA)
    plan = plan.filter(pl.col("reason") == "").drop("reason", *RANK_LABELS).sort("split", "key")
    all_rejects = pl.concat([pl.DataFrame(rejects, schema=REJECT_SCHEMA, orient="row"), straddling])
    write_parquet(table, folder / "taxa.parquet")
    write_parquet(all_rejects, folder / "rejects.parquet")
    write_parquet(plan, folder / "plan.parquet")


def _plan_row(key: str, record: Record, taxon: int) -> tuple[Any, ...]:
    facts = json.dumps(dict(record.facts), ensure_ascii=False, sort_keys=True)
    return (key, record.split, record.source, record.record_id, record.location, record.group, facts, taxon)


def list_tasks(directory: Path, config: BuildConfig) -> list[ShardTask]:
    """The shards of the plan: per split, ``shard_size`` samples each, in the order of their keys."""
    counts = pl.scan_parquet(directory / ".build" / "plan.parquet").group_by("split").len().sort("split").collect()
    tasks, start = [], 0
    for split, n_samples in counts.iter_rows():
        for number, first in enumerate(range(0, n_samples, config.shard_size)):
            length = min(config.shard_size, n_samples - first)
            name = f"{split}/shard-{number:06d}"
            tasks.append(ShardTask(directory=directory, name=name, start=start + first, length=length, config=config))
        start += n_samples
    return tasks


def _run_tasks(tasks: list[ShardTask], engine: Engine, on_progress: OnProgress) -> None:
    total = sum(task.length for task in tasks)
    todo = [task for task in tasks if not task.part_path.exists()]
    done = total - sum(task.length for task in todo)
    on_progress(done, total)
    for n_samples in engine.map(make_shard, todo):
        done += n_samples
        on_progress(done, total)


def make_shard(task: ShardTask) -> int:
    """Write one shard with its part of the index and of the rejects; returns how many records it took.

    Raises:
        LinnaeaError: the shard cannot be written.
    """
    import cv2

    cv2.setNumThreads(1)  # the engine's workers are the parallelism
    build_dir = task.directory / ".build"
    plan = pl.scan_parquet(build_dir / "plan.parquet").slice(task.start, task.length).collect()
    taxa = taxa_from_table(pl.read_parquet(build_dir / "taxa.parquet")) if task.config.captions else []
    rows: list[tuple[Any, ...]] = []
    rejects: list[tuple[str, ...]] = []
    with atomic_path(task.tar_path) as partial, partial.open("wb") as stream:
        writer = ShardWriter(stream)
        for record in plan.iter_rows(named=True):
            try:
                picture = prepare(
                    read_location(record["location"]), short_side=task.config.short_side, quality=task.config.quality
                )
            except ImageError as error:
                rejects.append((record["source"], record["record_id"], record["location"], str(error)))
                continue
            facts = {"source": record["source"], "record_id": record["record_id"], **json.loads(record["facts"])}
            texts = make_texts(taxa[record["taxon_id"]]) if taxa else {}
            offset = writer.add(record["key"], picture.jpeg, facts, texts)
            place = (record["key"], record["split"], f"{task.name}.tar", offset, len(picture.jpeg))
            origin = (record["taxon_id"], record["source"], record["group"])
            rows.append((*place, *origin, picture.width, picture.height, picture.sha256))
        writer.close()
    if not rows:
        task.tar_path.unlink()
    write_parquet(pl.DataFrame(rejects, schema=REJECT_SCHEMA, orient="row"), task.rejects_path)
    write_parquet(pl.DataFrame(rows, schema=INDEX_SCHEMA, orient="row"), task.part_path)
    return task.length


def make_texts(taxon: Taxon) -> dict[str, str]:
    """The text members of a sample: every one a caption in the paper's template, none empty."""
    return {name: taxon.caption(text_type, PHOTO_TEMPLATE) for name, text_type in CAPTION_MEMBERS.items()}


def _finish(
    sources: Sequence[Source], directory: Path, config: BuildConfig, tasks: list[ShardTask], fingerprint: str
) -> BuildSummary:
    build_dir = directory / ".build"
    empty = pl.DataFrame(schema=INDEX_SCHEMA)
    index = pl.concat([empty, *(pl.read_parquet(task.part_path) for task in tasks)])
    rejects = pl.concat(
        [pl.read_parquet(build_dir / "rejects.parquet"), *(pl.read_parquet(task.rejects_path) for task in tasks)]
    ).sort("source", "record_id", "reason")
    n_in = pl.scan_parquet(build_dir / "plan.parquet").select(pl.len()).collect().item()
    n_in += pl.scan_parquet(build_dir / "rejects.parquet").select(pl.len()).collect().item()
    write_parquet(index, directory / "index.parquet")
    write_parquet(pl.read_parquet(build_dir / "taxa.parquet"), directory / "taxa.parquet")
    write_parquet(rejects, directory / "rejects.parquet")
    write_parquet(_licences(build_dir / "plan.parquet", index), directory / "licences.parquet")
    reasons = Counter(rejects["reason"].to_list())
    summary = BuildSummary(
        n_in=n_in, n_out=index.height, n_rejected=rejects.height, reasons=dict(reasons.most_common())
    )
    manifest = {
        "format": 1,
        "linnaea": __version__,
        "fingerprint": fingerprint,
        "inputs": [source.describe() for source in sources],
        "options": asdict(config),
        "counts": {"in": summary.n_in, "out": summary.n_out, "rejected": summary.n_rejected},
        "reasons": summary.reasons,
        "splits": dict(sorted(Counter(index["split"].to_list()).items())),
        "shards": {
            f"{task.name}.tar": {"sha256": sha256_of_file(task.tar_path), "bytes": task.tar_path.stat().st_size}
            for task in tasks
            if task.tar_path.exists()
        },
    }  # fmt: skip
    write_atomically(directory / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False))
    shutil.rmtree(build_dir)
    return summary


def _licences(plan_path: Path, index: pl.DataFrame) -> pl.DataFrame:
    """Licence and attribution facts of every stored picture; one column per fact that occurs."""
    plan = pl.read_parquet(plan_path, columns=["key", "facts"]).join(index.select("key", "source"), on="key")
    facts = [json.loads(text) for text in plan["facts"]]
    columns = {
        name: [fact.get(name, "") for fact in facts] for name in LICENCE_FACTS if any(name in fact for fact in facts)
    }
    return plan.select("key", "source").with_columns(pl.Series(name, values) for name, values in columns.items())


def _fingerprint(sources: Sequence[Source], config: BuildConfig) -> str:
    content = {"inputs": [source.describe() for source in sources], "options": asdict(config), "format": 1}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished_before(directory: Path, fingerprint: str) -> BuildSummary:
    manifest = json.loads((directory / "manifest.json").read_text())
    if manifest["fingerprint"] != fingerprint:
        raise LinnaeaError(
            f"{directory}: holds a data set built from other inputs or options; choose another --output or remove it"
        )
    shutil.rmtree(directory / ".build", ignore_errors=True)
    counts = manifest["counts"]
    DataSet.open(directory)
    return BuildSummary(n_in=counts["in"], n_out=counts["out"], n_rejected=counts["rejected"],
                        reasons=manifest["reasons"], already_built=True)  # fmt: skip


def _open_build_folder(directory: Path, fingerprint: str) -> None:
    build_dir = directory / ".build"
    marker = build_dir / "fingerprint"
    if marker.exists():
        if marker.read_text() != fingerprint:
            raise LinnaeaError(
                f"{directory}: holds an unfinished build from other inputs or options;"
                " choose another --output or remove it"
            )
    elif directory.exists() and any(path for path in directory.iterdir() if path.name != ".build"):
        raise LinnaeaError(f"{directory}: is not empty and no data set; choose another --output")
    else:
        write_atomically(marker, fingerprint)
    for partial in directory.rglob(".*.partial"):  # left by a writer that was killed
        partial.unlink(missing_ok=True)
