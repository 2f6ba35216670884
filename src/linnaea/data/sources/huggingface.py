"""Data sets of the Hugging Face hub: image files with ``metadata.csv|jsonl|parquet``, or Parquet files with pictures.

Pictures inside Parquet cannot be read one at a time. They are copied once into a plain tar in the cache folder (as
large as the pictures) and read there in place.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from linnaea.data.images import ImageError, read_image_file
from linnaea.data.sources import LICENCE_FACTS, Record, Rejected
from linnaea.data.sources.normal import describe_files, hash_text, iter_records, normal, read_blocks
from linnaea.errors import LinnaeaError, UsageError
from linnaea.storage import atomic_path, cache_dir, check_regular, is_inside, resolve_inside
from linnaea.tables import match_columns, need_columns, shorten_columns
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import read_taxon
from linnaea.taxonomy.taxon import Taxon

METADATA = ("metadata.parquet", "metadata.jsonl", "metadata.csv")
_LABELS = ("scientific_name", "label", "labels", "species_name", "name")


@dataclass(frozen=True, kw_only=True)
class HuggingFaceSource:
    """A folder in the form that the hub's ``imagefolder`` or ``parquet`` loader reads."""

    folder: Path
    label_column: str = ""
    """Column with the label; needed if there are no rank columns."""
    image_column: str = "image"
    """Column of Parquet files that holds the pictures."""
    group_column: str = ""
    split_column: str = ""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def describe(self) -> dict[str, str]:
        files = [f"{path.relative_to(self.folder)} {path.stat().st_size}" for path in self._tables]
        columns = " ".join((self.label_column, self.image_column, self.group_column, self.split_column))
        return describe_files("huggingface", self.folder, files=hash_text("\n".join(files)), columns=columns)

    @cached_property
    def _tables(self) -> list[Path]:
        """The metadata files, or the Parquet files if there are none."""
        if not self.folder.is_dir():
            raise LinnaeaError(f"{self.folder}: no such folder")
        found = sorted(path for name in METADATA for path in self.folder.rglob(name))
        found = found or sorted(self.folder.rglob("*.parquet"))
        if not found:
            raise UsageError(f"{self.folder}: holds neither {', '.join(METADATA)} nor Parquet files")
        return found

    def records(self) -> Iterator[Record | Rejected]:
        for path in self._tables:
            blocks = self._with_files(path) if path.name in METADATA else self._with_bytes(path)
            yield from iter_records(blocks, self.name, self.folder if path.name in METADATA else None)

    def _with_files(self, path: Path) -> Iterator[pl.DataFrame]:
        inside = path.parent.relative_to(self.folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for block in read_blocks(path, (*self._columns, "file_name")):
            need_columns(block.columns, path, "file_name")
            record_id = pl.lit(prefix) + pl.col("file_name")
            empty = pl.col("file_name") == ""
            split = (
                prefix.split("/", maxsplit=1)[0] if prefix.split("/", maxsplit=1)[0] in ("train", "val", "test") else ""
            )
            yield self._normalise(block, path, record_id, pl.lit(f"{self.folder}/") + record_id, empty, split)

    def _with_bytes(self, path: Path) -> Iterator[pl.DataFrame]:
        table, locations = self.unpack(path)
        place = pl.Series("location", locations, dtype=pl.String)
        ids = pl.Series("row", [f"{path.relative_to(self.folder).as_posix()}#{row}" for row in range(table.height)])
        block = table.rename(match_columns(table.columns, self._columns)).with_columns(place, ids)
        yield self._normalise(block, path, pl.col("row"), pl.col("location"), pl.col("location") == "", "")

    @property
    def _columns(self) -> tuple[str, ...]:
        return (self.label_column, self.group_column, self.split_column, *NAME_COLUMNS, *_LABELS, *LICENCE_FACTS)

    def _normalise(
        self, block: pl.DataFrame, path: Path, record_id: pl.Expr, location: pl.Expr, empty: pl.Expr, split: str
    ) -> pl.DataFrame:
        there = set(block.columns)
        names = {rank: pl.col(rank) for rank in RANK_LABELS if rank in there}
        label = self.label_column or next((name for name in _LABELS if name in there), "")
        for column in (self.label_column, self.group_column, self.split_column):
            need_columns(block.columns, path, column)
        if not names and not label:
            raise UsageError(f"{path}: give a label column; it has {shorten_columns(block.columns)}")
        if not names:
            block, names = _read_labels(block, label)
        return block.select(
            *normal(
                record_id=record_id,
                location=location,
                label=pl.col(label) if label else pl.lit(""),
                common_name=pl.col("common_name") if "common_name" in block.columns else pl.lit(""),
                group=self.group_column or pl.lit(""),
                split=self.split_column or pl.lit(split),
                reason=pl.when(empty).then(pl.lit("has no picture")).otherwise(pl.lit("")),
                **names,
            ),
            *(name for name in LICENCE_FACTS if name in there),
        )

    def unpack(self, path: Path) -> tuple[pl.DataFrame, list[str]]:
        """Return a Parquet file's table without its pictures, every column as text, and the location of each picture.

        Raises:
            LinnaeaError: it cannot be read as Parquet, or has no column of pictures.
        """
        check_regular(path)
        try:
            file = pq.ParquetFile(path)
            schema = file.schema_arrow
            if self.image_column not in schema.names:
                raise UsageError(f"{path}: no column {self.image_column!r}; it has {', '.join(schema.names)}")
            others = [name for name in schema.names if name != self.image_column]
            table = pl.DataFrame(pl.from_arrow(file.read(columns=others)))
            tar = self._tar_of(path, file)
            locations = json.loads(tar.with_suffix(".json").read_text())
        except (pa.ArrowException, OSError) as error:
            raise LinnaeaError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
        names = _class_names(schema)
        named = {name: dict(enumerate(values)) for name, values in names.items() if name in table.columns}
        table = table.with_columns(
            pl.col(name).replace_strict(values, default=None, return_dtype=pl.String) for name, values in named.items()
        )
        text = table.with_columns(pl.all().cast(pl.String, strict=False).fill_null(""))
        return text, [f"{tar}::{offset}::{size}" if size else "" for offset, size in locations]

    def _tar_of(self, path: Path, file: Any) -> Path:
        """Return the cached tar with the pictures of a Parquet file; it is written first if it does not exist."""
        state = path.stat()
        key = hash_text(f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {self.image_column}")
        tar_path = cache_dir() / "unpacked" / f"{key}.tar"
        if _is_whole(tar_path):
            return tar_path
        places: list[tuple[int, int]] = []
        with atomic_path(tar_path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for batch in file.iter_batches(batch_size=256, columns=[self.image_column]):
                for value in batch.column(0).to_pylist():
                    places.append(_add_picture(tar, len(places), value, path.parent))
        with atomic_path(tar_path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(places))
        return tar_path


def _is_whole(tar: Path) -> bool:
    """Return whether a cached tar and the list of its pictures are complete; others are made again."""
    try:
        places = json.loads(tar.with_suffix(".json").read_text())
        return tar.stat().st_size >= max((int(offset) + int(size) for offset, size in places), default=0)
    except (OSError, ValueError, TypeError):
        return False


def _add_picture(tar: tarfile.TarFile, number: int, value: Any, folder: Path) -> tuple[int, int]:
    """Add a picture to the tar and return its offset and size; the size is 0 if there is no picture."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if data is None and isinstance(value, dict) and value.get("path"):
        place = str(value["path"])
        with suppress(ImageError):  # a row without a picture
            data = read_image_file(resolve_inside(folder, place)) if is_inside(folder, place) else None
    if not isinstance(data, bytes) or not data:
        return 0, 0
    info = tarfile.TarInfo(f"{number:09d}")
    info.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return offset, len(data)


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the class names of every ``ClassLabel`` column, whose cells are class numbers."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: feature["names"] for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")}  # fmt: skip


def _read_labels(block: pl.DataFrame, label: str) -> tuple[pl.DataFrame, dict[str, pl.Expr]]:
    """Return the ranks that the labels name; each distinct label is parsed once."""
    distinct = block[label].unique(maintain_order=True).to_list()
    taxa: Sequence[Taxon | str] = [read_taxon({}, text) for text in distinct]
    lineages = [taxon.lineage if isinstance(taxon, Taxon) else ("",) * len(RANK_LABELS) for taxon in taxa]
    columns = {rank: [lineage[number] for lineage in lineages] for number, rank in enumerate(RANK_LABELS)}
    common = [taxon.common_name if isinstance(taxon, Taxon) else "" for taxon in taxa]
    read = pl.DataFrame({label: distinct, **columns, "read_common": common})
    joined = block.join(read, on=label, how="left", maintain_order="left")
    given = pl.col("common_name") if "common_name" in block.columns else pl.lit("")
    filled = pl.when(given != "").then(given).otherwise("read_common")
    return joined.with_columns(filled.alias("common_name")), {rank: pl.col(rank) for rank in RANK_LABELS}
