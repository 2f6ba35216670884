"""Open a task's photographs in place as a data set with raw and resolved labels."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.counting import agree, count
from linnaea.data.images import ImageError
from linnaea.data.shards import INDEX_SCHEMA, DataSet, make_taxa_table
from linnaea.data.sources import is_member, read_location
from linnaea.errors import LinnaeaError
from linnaea.evaluate.tasks import Task
from linnaea.evaluate.tasks.layouts import COLUMNS
from linnaea.storage import open_regular
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.resolve import Resolver, Status
from linnaea.taxonomy.row import NO_NAME, read_taxon
from linnaea.taxonomy.taxon import Taxon

SURE = (Status.ACCEPTED, Status.SYNONYM, Status.VERNACULAR, Status.FUZZY, Status.GENUS_ONLY, Status.HIGHER_RANK)
"""Statuses of a resolution that may replace a label."""


@dataclass(frozen=True)
class TaskImages(DataSet):
    """The images of a task, as a data set in which every file is its own shard.

    Published scores are computed on the original files, so the images are not resized or recompressed as in a build.
    """

    raw_labels: Mapping[int, str] = field(default_factory=dict, repr=False)
    """The published label of every class, by taxon id."""
    extra: pl.DataFrame = field(default_factory=pl.DataFrame, repr=False)
    """The columns of the task's table beyond :data:`~linnaea.evaluate.tasks.layouts.COLUMNS` (``cluster``,
    ``sentence``, ``trait/NAME`` ...), with one row per row of the index."""
    n_resolved: int = 0
    """Number of classes whose label names a known taxon."""
    as_published: bool = False
    """True if the numbers of images and classes match the published ones, as far as these are known."""
    n_missing: int = 0
    """Number of listed images that are missing on disk."""

    def read(self, row: int) -> bytes:
        """Return the bytes of the file of one row of the index.

        Raises:
            LinnaeaError: The file cannot be read.
        """
        path = self.directory / str(self.index["shard"][row])
        if is_member(str(path)):
            return _read_member(path)
        try:
            with open_regular(path) as stream:
                return stream.read()
        except OSError as error:
            raise LinnaeaError(f"{path}: {error.strerror}") from error

    def without(self, rows: Collection[int]) -> "TaskImages":
        """Return the images without some rows of the index; classes stay, also those without an image."""
        kept = pl.Series([row not in rows for row in range(len(self))], dtype=pl.Boolean)
        return replace(
            self, index=self.index.filter(kept), extra=self.extra.filter(kept) if self.extra.width else self.extra
        )

    def iter_facts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield nothing, because the original files have no facts besides their label."""
        return iter(())


def open_task(
    task: Task,
    root: Path,
    *,
    allow_different: bool = False,
    resolver: Resolver | None = None,
) -> TaskImages:
    """Read a task's labels and find its images; ``resolver`` finds the taxon of classes without ranks in the lists.

    Raises:
        LinnaeaError: The layout is not the published one, or the counts differ. With ``allow_different``, different
            counts are accepted unless no image is left.
    """
    table = task.read(root)
    sizes = [_size(root / file) for file in table["file"]]
    there = table.filter(pl.Series([size is not None for size in sizes], dtype=pl.Boolean))
    _check(task, root, table, there, allow_different)
    names = {label: task.taxon_of.get(label, taxon) for label, taxon in class_names(there).items()}
    open_labels = [label for label, taxon in names.items() if taxon is None]
    taxa = name_classes(names, resolve_labels(open_labels, resolver) if resolver and open_labels else {})
    taxa_table = make_taxa_table(taxa.values())
    key = [*RANK_LABELS, "common_name"]
    id_of = {row[:-1]: row[-1] for row in taxa_table.select(*key, "taxon_id").iter_rows()}
    number = {label: id_of[*taxon.lineage, taxon.common_name] for label, taxon in taxa.items()}
    return TaskImages(
        directory=root,
        index=_make_index(task, root, there, [size for size in sizes if size is not None], number),
        taxa=taxa_table,
        raw_labels={number[label]: label for label in taxa},
        extra=there.drop(COLUMNS),
        n_resolved=sum(any(taxon.lineage) for taxon in taxa.values()),
        as_published=not _differences(task, root, table, there),
        n_missing=table.height - there.height,
    )


def _make_index(
    task: Task, root: Path, there: pl.DataFrame, sizes: Sequence[int], taxon_of: Mapping[str, int]
) -> pl.DataFrame:
    """Return the index of a task's images, each of which is a shard of its own; every file is read once."""
    files = there["file"].to_list()
    with ThreadPoolExecutor(4) as pool:
        hashes = list(pool.map(lambda file: _hash(root / file), files))
    return pl.DataFrame(
        {
            "key": files,
            "split": [split or task.name for split in there["split"]],
            "shard": files,
            "offset": [0] * len(files),
            "size": sizes,
            "taxon_id": [taxon_of[label] for label in there["label"]],
            "source": [task.name] * len(files),
            "group": [""] * len(files),
            "width": [0] * len(files),
            "height": [0] * len(files),
            "sha256": hashes,
            "pdq": [None] * len(files),
        },
        schema=INDEX_SCHEMA,
    )


def _check(task: Task, root: Path, table: pl.DataFrame, there: pl.DataFrame, allow_different: bool) -> None:
    """Raise LinnaeaError if the images, classes or checksum of the list differ from what was published."""
    if there.is_empty():
        raise LinnaeaError(f"{root}: {count(table.height, 'listed image')}, all missing (first: {table['file'][0]})")
    if not allow_different and (wrong := _differences(task, root, table, there)):
        raise LinnaeaError(
            f"{root}: {', '.join(wrong)} for task {task.name}; see {task.where}, or give --allow-different"
        )


def _differences(task: Task, root: Path, table: pl.DataFrame, there: pl.DataFrame) -> list[str]:
    found = {"images": there.height, "classes": there["label"].n_unique()}
    wanted = {"images": task.n_images, "classes": task.n_classes}
    wrong = [f"{found[name]:,} {name} instead of {n:,}" for name, n in wanted.items() if n not in (None, found[name])]
    if not wrong and there.height < table.height:
        n_missing = table.height - there.height
        wrong = [f"{n_missing:,} of {count(table.height, 'listed image')} {agree(n_missing, 'is', 'are')} missing"]
    if task.label_sha256 and _hash(root / task.label_file) != task.label_sha256:
        wrong.append(f"{task.label_file} is a different version (its checksum differs)")
    return wrong


def class_names(table: pl.DataFrame) -> dict[str, Taxon | None]:
    """Return every label in order of its first image, with the taxon that the list gives, or ``None``."""
    rows = table.unique("label", keep="first", maintain_order=True).select("label", *RANK_LABELS, "common_name")
    return {row["label"]: _taxon_of_row(row) for row in rows.iter_rows(named=True)}


def _taxon_of_row(row: Mapping[str, str]) -> Taxon | None:
    taxon = read_taxon(row)
    if isinstance(taxon, Taxon):
        return taxon if any(taxon.lineage) else None
    if taxon == NO_NAME:
        return None
    raise LinnaeaError(f"label {row['label']!r}: {taxon}")


def name_classes(given: Mapping[str, Taxon | None], found: Mapping[str, Taxon]) -> dict[str, Taxon]:
    """Return a taxon for every label: the given one, else the one found, else the label's words as a common name.

    Each label gets a different taxon. If several labels share one (a crop and its diseases), each keeps the lineage
    and gets its own words as the common name.
    """
    taxa = {label: taxon or found.get(label) for label, taxon in given.items()}
    n_with: dict[Taxon | None, int] = {}
    for taxon in taxa.values():
        n_with[taxon] = n_with.get(taxon, 0) + 1
    named: dict[str, Taxon] = {}
    used: set[Taxon] = set()
    for label, taxon in taxa.items():
        if taxon is None or n_with[taxon] > 1:
            taxon = Taxon(taxon.lineage if taxon else ("",) * len(RANK_LABELS), common_name=_words(label))  # type: ignore[arg-type]  # noqa: PLW2901
        number = 1
        while taxon in used:
            number += 1
            taxon = Taxon(taxon.lineage, common_name=f"{_words(label)} ({number})")  # noqa: PLW2901
        used.add(taxon)
        named[label] = taxon
    return named


def resolve_labels(labels: Sequence[str], resolver: Resolver) -> dict[str, Taxon]:
    """Return the taxon, at any rank, of every label that names one with certainty; leave out doubtful labels."""
    found = {}
    for label, row in zip(labels, resolver.resolve(labels).iter_rows(named=True), strict=True):
        if row["status"] in SURE and any(row[rank] for rank in RANK_LABELS):
            lineage = {rank: row[rank] or "" for rank in RANK_LABELS}
            # Keep the label's own English name if the checklist has no common name.
            words = _words(label) if row["status"] == Status.VERNACULAR else ""
            found[label] = Taxon.of(lineage, common_name=row["common_name"] or words)
    return found


def _words(label: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in label.replace("_", " ")).split()) or "?"


def _read_member(path: Path) -> bytes:
    try:
        return read_location(str(path))
    except ImageError as error:
        raise LinnaeaError(f"{path}: {error}") from error


def _size(path: Path) -> int | None:
    if is_member(str(path)):
        return int(str(path).rpartition("::")[2])
    try:
        return path.stat().st_size
    except OSError:
        return None


def _hash(path: Path) -> str:
    if is_member(str(path)):
        return hashlib.sha256(_read_member(path)).hexdigest()
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LinnaeaError(f"{path}: {error.strerror}") from error
