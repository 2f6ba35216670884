"""Export of a data set to other formats: Parquet for the Hub, TreeOfLife-10M's catalog, WebDataset, class folders.

Pictures are copied byte for byte. An export is a list of parts. Each part is a pure function of rows of the index,
written completely or not at all, in any order, by any number of workers. The same command resumes an interrupted
export, and the bytes are those of an uninterrupted one.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from linnaea import __version__
from linnaea.counting import count
from linnaea.data.engine import Engine
from linnaea.data.export_parts import (
    FACTS_COLUMNS,
    state_types,
    write_catalog_part,
    write_folders_part,
    write_parquet_part,
    write_tar_part,
)
from linnaea.data.shards import DataSet
from linnaea.data.splits import VAL
from linnaea.data.statistics import Statistics, load_licences, measure
from linnaea.errors import LinnaeaError
from linnaea.exchange import hold_output
from linnaea.jobs import OnProgress, claim_folder, ignore_progress, read_finished, run_parts
from linnaea.parquet import scan_parquet
from linnaea.storage import (
    atomic_path,
    explain_os_errors,
    remove_partial_files,
    sha256_of_file,
    write_atomically,
)
from linnaea.taxonomy.find import Finder

Format: TypeAlias = Literal["parquet", "catalog", "webdataset", "imagefolder"]

STATE_DIR = ".export"
"""The state of an unfinished export: its fingerprint, and a receipt for every finished part."""
MANIFEST = "export.json"
PART_BYTES = 500_000_000
CATALOG_ROWS = 100_000


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The options of an export."""

    form: Format
    split: str = ""
    """Export only this split."""
    within: str = ""
    """Export only this taxon: ``Lepidoptera`` or ``order:Lepidoptera``."""
    part_bytes: int = PART_BYTES
    """Bytes of photographs per Parquet file."""


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """The counts of an export."""

    n_images: int
    n_files: int
    n_taxa: int
    already_exported: bool = False


@dataclass(frozen=True, kw_only=True)
class PartTask:
    """A task to write some rows of the index to one file, or to the files of some class folders."""

    dataset_dir: Path
    output: Path
    form: Format
    name: str
    """Path of the file below ``output``, or the name of the receipt for class folders."""
    rows: tuple[int, ...]

    @property
    def length(self) -> int:
        """Number of photographs."""
        return len(self.rows)

    @property
    def receipt_path(self) -> Path:
        """The file that is written last; if it exists, the part is finished."""
        return self.output / STATE_DIR / f"{self.name}.json"


def export(
    dataset: DataSet,
    output: Path,
    config: ExportConfig,
    engine: Engine,
    on_progress: OnProgress = ignore_progress,
) -> ExportSummary:
    """Export a data set into the folder ``output``, or resume an interrupted export.

    Raises:
        LinnaeaError: nothing is selected; the folder holds something else; the disk is full.
    """
    with explain_os_errors(output), hold_output(output, kind="export"):
        if output.resolve() == dataset.directory.resolve() or output.resolve().is_relative_to(
            dataset.directory.resolve()
        ):
            raise LinnaeaError(f"{output}: this is the data set itself; choose another --output")
        fingerprint = _fingerprint(dataset, config)
        if (output / MANIFEST).exists():
            return _finished_before(output, fingerprint)
        rows = select_rows(dataset, config)
        if claim_folder(output, f"{STATE_DIR}/fingerprint", fingerprint, kind="an unfinished export"):
            remove_partial_files(output)
        tasks = list_parts(dataset, output, config, rows)
        run_parts(write_part, tasks, engine.map, on_progress)
        return _finish(dataset, output, config, tasks, fingerprint)


def select_rows(dataset: DataSet, config: ExportConfig) -> pl.DataFrame:
    """Return row, split, shard, size and taxon_id of the selected photographs, in the order of the index.

    Raises:
        LinnaeaError: the split or the taxon does not exist, or they have no photograph in common.
    """
    index = dataset.index.with_row_index("row").select("row", "split", "shard", "size", "taxon_id")
    if config.split:
        dataset.split(config.split)
        index = index.filter(pl.col("split") == config.split)
    if config.within:
        within = Finder.of_taxa(dataset.taxa, str(dataset.directory)).rows(config.within)
        index = index.join(dataset.taxa[within], on="taxon_id", how="semi")
    if index.is_empty():
        raise LinnaeaError(f"{dataset.directory}: no photograph of {config.within} in split {config.split}")
    return index.sort("row")


def list_parts(dataset: DataSet, output: Path, config: ExportConfig, rows: pl.DataFrame) -> list[PartTask]:
    """Return the parts of an export, a function of the selection only."""
    pieces: list[tuple[str, list[int]]] = []
    match config.form:
        case "parquet":
            for split in rows.partition_by("split", maintain_order=True):
                number = split.select((pl.col("size").cum_sum() - pl.col("size")) // config.part_bytes)["size"]
                # Parts are numbered without gaps, also after a photograph that is larger than a part.
                parts = split.with_columns(part=number.rank("dense") - 1).partition_by("part", maintain_order=True)
                pieces += [
                    (f"data/{part['split'][0]}-{i:05d}-of-{len(parts):05d}.parquet", part["row"].to_list())
                    for i, part in enumerate(parts)
                ]
        case "catalog":
            every = rows["row"].to_list()
            pieces = [
                (f"{STATE_DIR}/parts/{start:012d}.csv", every[start : start + CATALOG_ROWS])
                for start in range(0, len(every), CATALOG_ROWS)
            ]
        case "webdataset" | "imagefolder":
            for part in rows.partition_by("shard", maintain_order=True):
                shard = part["shard"][0]
                pieces.append((shard if config.form == "webdataset" else f"{shard}.csv", part["row"].to_list()))
    return [
        PartTask(dataset_dir=dataset.directory, output=output, form=config.form, name=name, rows=tuple(numbers))
        for name, numbers in pieces
    ]


@lru_cache(maxsize=2)
def _opened(directory: Path, _stamp: int) -> DataSet:
    """Return the data set, opened once per worker."""
    return DataSet.open(directory)


def load_facts(dataset: DataSet) -> pl.DataFrame:
    """Return licence columns and record facts, one row per row of the index.

    Only the row groups with the keys of ``dataset`` are read, so the cost of a part does not depend on the size of the
    data set.
    """
    licences = load_licences(dataset).drop("source", strict=False)
    path = dataset.directory / "records.parquet"
    if not path.exists():
        return licences.with_columns(pl.lit("").alias(name) for name in FACTS_COLUMNS)
    keys = dataset.index["key"]
    here = scan_parquet(path).filter(pl.col("key").is_between(pl.lit(keys.min()), pl.lit(keys.max())))
    records = here.select("key", *FACTS_COLUMNS).collect()
    joined = licences.join(records, on="key", how="left", maintain_order="left")
    return joined.with_columns(pl.col(*FACTS_COLUMNS).fill_null(""))


def write_part(task: PartTask) -> int:
    """Write one part and its receipt, and return its number of photographs.

    Raises:
        LinnaeaError: a shard cannot be read, or the part cannot be written.
    """
    manifest = task.dataset_dir / "manifest.json"
    dataset = _opened(task.dataset_dir, manifest.stat().st_mtime_ns)
    rows = list(task.rows)
    path = task.output / task.name
    table = _describe(dataset, rows)
    receipt: dict[str, object]
    if task.form == "imagefolder":
        receipt = {"files": write_folders_part(dataset, table, task.output)}
    else:
        write = {"parquet": write_parquet_part, "catalog": write_catalog_part, "webdataset": write_tar_part}[task.form]
        with atomic_path(path) as partial:
            write(dataset, table, partial)
            receipt = {"bytes": partial.stat().st_size, "sha256": sha256_of_file(partial)}
    write_atomically(task.receipt_path, json.dumps(receipt))
    return len(rows)


def _describe(dataset: DataSet, rows: list[int]) -> pl.DataFrame:
    """Return the rows of the index with names, licence and record facts; ``row`` is the row number in the index."""
    index = dataset.index[rows].with_columns(row=pl.Series(rows, dtype=pl.Int64))
    names = dataset.taxa.with_columns(pl.col(pl.String).fill_null(""))
    index = index.join(names, on="taxon_id", how="left", maintain_order="left")
    facts = load_facts(replace(dataset, index=dataset.index[rows]))
    return pl.concat([index, facts.drop("key")], how="horizontal")


def _finish(
    dataset: DataSet, output: Path, config: ExportConfig, tasks: Sequence[PartTask], fingerprint: str
) -> ExportSummary:

    receipts = {task.name: json.loads(task.receipt_path.read_text()) for task in tasks}
    rows = [row for task in tasks for row in task.rows]
    selected = replace(dataset, index=dataset.index[rows])
    if config.form == "catalog":
        receipts = {"catalog.csv": _join_tables(output / "catalog.csv", [output / task.name for task in tasks])}
    if config.form == "imagefolder":
        n_files = sum(receipt["files"] for receipt in receipts.values())
        receipts = _join_metadata(output, tasks)
    else:
        n_files = len(receipts)
    if config.form in _SPLIT_FILES:
        write_card(selected, output, config.form)
    n_taxa = int(selected.index["taxon_id"].n_unique())
    summary = ExportSummary(n_images=len(rows), n_files=n_files, n_taxa=n_taxa)
    manifest = {
        "linnaea": __version__,
        "fingerprint": fingerprint,
        "options": asdict(config),
        "counts": {"images": summary.n_images, "files": summary.n_files, "taxa": summary.n_taxa},
        "files": receipts,
    }
    write_atomically(output / MANIFEST, json.dumps(manifest, indent=1))
    shutil.rmtree(output / STATE_DIR)
    return summary


def _join_tables(path: Path, parts: Sequence[Path]) -> dict[str, object]:
    """Join ``parts``, CSV tables with the same header, into one file."""
    with atomic_path(path) as partial:
        with partial.open("wb") as stream:
            for number, part in enumerate(parts):
                content = part.read_bytes()
                stream.write(content if number == 0 else content.partition(b"\n")[2])
        return {"bytes": partial.stat().st_size, "sha256": sha256_of_file(partial)}


def _join_metadata(output: Path, tasks: Sequence[PartTask]) -> dict[str, dict[str, object]]:
    """Write one ``metadata.csv`` per split, at the path that ``datasets`` reads.

    ``datasets`` guesses the type of each column file by file, and loads no split if two differ.
    """
    splits: dict[str, list[Path]] = {}
    for task in tasks:
        splits.setdefault(task.name.partition("/")[0], []).append(output / STATE_DIR / "metadata" / task.name)
    names = {split: f"{split}/metadata.csv" for split in splits}
    receipts = {name: _join_tables(output / name, splits[split]) for split, name in names.items()}
    for path in state_types([output / name for name in names.values()]):
        receipts[path.relative_to(output).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    return receipts


def _fingerprint(dataset: DataSet, config: ExportConfig) -> str:
    manifest = dataset.directory / "manifest.json"
    names = sha256_of_file(dataset.directory / "taxa.parquet")  # a change of taxonomy is another export
    return hashlib.sha256(f"{sha256_of_file(manifest)} {names} {sorted(asdict(config).items())}".encode()).hexdigest()


def _finished_before(output: Path, fingerprint: str) -> ExportSummary:
    manifest = read_finished(output / MANIFEST, fingerprint, kind="an export")
    counts = manifest["counts"]
    return ExportSummary(n_images=counts["images"], n_files=counts["files"], n_taxa=counts["taxa"],
                         already_exported=True)  # fmt: skip


# The card (README.md) in the form of the Hub: a YAML header, then text.


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))  # fmt: skip
_SPLIT_FILES = {"parquet": "data/{}-*.parquet", "imagefolder": "{}/**", "webdataset": "{}/*.tar"}
"""The files of a split; ``datasets`` knows train, validation and test by itself, and leaves out other folders."""
_VALIDATION = "validation"
"""The name that ``datasets`` gives the split ``val`` without a card."""
_HUB_LICENCES = {"CC0-1.0": "cc0-1.0", "MIT": "mit", "Apache-2.0": "apache-2.0", "GFDL": "gfdl"}


def write_card(dataset: DataSet, output: Path, form: str) -> None:
    """Write ``README.md``; ``dataset`` holds the exported photographs only."""
    write_atomically(output / "README.md", make_card(dataset.directory.resolve().name, measure(dataset), form))


def make_card(name: str, statistics: Statistics, form: str) -> str:
    """Return the text of the card; strings in its header are JSON, which is valid YAML."""
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
    header += ["configs:", "- config_name: default", "  data_files:"]
    splits_here = set(statistics.by_split["split"])
    for split in statistics.by_split["split"]:
        word = split.replace("-", "_")  # the Hub allows no hyphen
        if split == VAL and form != "parquet" and _VALIDATION not in splits_here:
            word = _VALIDATION
        header += [f"  - split: {json.dumps(word)}", f"    path: {json.dumps(_SPLIT_FILES[form].format(split))}"]
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

{count(statistics.n_images, "photograph")} of {count(statistics.n_taxa, "taxon")} ({ranks} rank).
{statistics.share_complete:.0%} of the photographs are named at all seven ranks, {statistics.share_common_name:.0%} have
a common name. `species` is the epithet only, `scientific_name` the whole name; an unknown rank is empty.

| split | photographs | taxa |
|---|---:|---:|
{splits}

## Licences

Every photograph has its own licence: `licence_id`, and a line of attribution to print beside it. "closed" means all
rights reserved, no derivatives, unclear, or none stated: ask for permission before you redistribute these.

| licence | allows | photographs |
|---|---|---:|
{licences}

Made with Linnaea.
"""


def _hub_licence(statistics: Statistics) -> str:
    """Return the Hub's name of the licence that all photographs share, or ``other``."""
    licences = statistics.by_licence["licence"].to_list()
    if len(licences) != 1:
        return "other"
    licence = licences[0]
    if licence.startswith("CC-BY") and licence[-1].isdigit():
        return str(licence.lower())
    return _HUB_LICENCES.get(licence, "other")
