"""TreeOfLife-10M and -200M as published: a catalog, and WebDataset tars whose members are named by its ids.

TreeOfLife-10M: ``catalog.csv`` with split, treeoflife_id, eol_content_id .. inat21_cls_num, kingdom .. species, common.
TreeOfLife-200M: ``catalog.parquet`` with uuid, source_id, data_source, publisher, basisOfRecord, img_type, kingdom ..
species, scientific_name, common_name. Any catalog with an id and rank columns works. Tars are read in place, so they
must not be compressed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from linnaea.data.shards import iter_members
from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.normal import describe_files, iter_records, normal, read_blocks
from linnaea.errors import LinnaeaError, UsageError
from linnaea.tables import need_columns
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
_IDS = ("treeoflife_id", "uuid", "key", "id")
_COMMON = ("common", "common_name", "vernacular_name")
_GROUPS = ("occurrence_id", "source_id", "eol_content_id")
_FACTS = ("source_id", "data_source", "publisher", "basisOfRecord", "img_type", "eol_content_id", "eol_page_id",
          "bioscan_filename", "inat21_filename", "license_name", "copyright_owner", "title")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PublishedSource:
    """The rows of a catalog with their pictures; pictures that are not in the catalog are rejected."""

    catalog: Path
    tars: Path
    """Folder that holds the tars, at any depth."""
    id_column: str = ""
    """Column of the id; by default the first that exists of treeoflife_id, uuid, key and id."""
    use_splits: bool = True
    """Keep the catalog's splits (``train_small`` becomes ``train``); otherwise splits are drawn."""
    name: str = "treeoflife"

    def describe(self) -> dict[str, str]:
        tars = [f"{path.relative_to(self.tars)} {path.stat().st_size}" for path in self._tar_paths]
        return describe_files(
            "published", self.catalog, tars=str(hash_text("\n".join(tars))), splits=str(self.use_splits)
        )

    @cached_property
    def _tar_paths(self) -> list[Path]:
        if packed := sorted(self.tars.rglob("*.tar.gz")):
            raise UsageError(f"{packed[0]}: is compressed and cannot be read in place; unpack it first (gunzip)")
        paths = sorted(self.tars.rglob("*.tar"))
        if not paths:
            raise UsageError(f"{self.tars}: has no tars")
        return paths

    def records(self) -> Iterator[Record | Rejected]:
        members, broken = self._members
        yield from broken
        seen: list[pl.Series] = []

        def blocks() -> Iterator[pl.DataFrame]:
            for block in read_blocks(self.catalog, (self.id_column, *_IDS, *NAME_COLUMNS, *_COMMON, "split")):
                yield self._normalise(block, members)
                seen.append(block[self._id_of(block)])

        yield from iter_records(blocks(), self.name)
        known = pl.concat(seen) if seen else pl.Series(dtype=pl.String)
        for key, location in members.filter(~pl.col("key").is_in(known.implode())).iter_rows():
            yield Rejected(source=self.name, record_id=key, location=location, reason="is not in the catalog")

    @cached_property
    def _members(self) -> tuple[pl.DataFrame, list[Rejected]]:
        """Return ``key`` and ``location`` of every picture in the tars, and the tars that are broken."""
        rows: list[tuple[str, str]] = []
        broken: list[Rejected] = []
        for tar in self._tar_paths:
            try:
                for member, offset, size in iter_members(tar):
                    if Path(member).suffix.lower() in PICTURES:
                        rows.append((Path(member).stem, f"{tar}::{offset}::{size}"))
            except LinnaeaError as error:
                where = tar.relative_to(self.tars).as_posix()
                broken.append(Rejected(source=self.name, record_id=where, location=str(tar), reason=f"tar: {error}"))
        table = pl.DataFrame(rows, schema={"key": pl.String, "location": pl.String}, orient="row")
        return table.unique("key", keep="first", maintain_order=True), broken

    def _id_of(self, block: pl.DataFrame) -> str:
        if self.id_column:
            need_columns(block.columns, self.catalog, self.id_column)
            return self.id_column
        found = next((name for name in _IDS if name in block.columns), "")
        if not found:
            raise UsageError(f"{self.catalog}: no column {' or '.join(_IDS)}; it has {', '.join(block.columns)}")
        return found

    def _normalise(self, block: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
        key = self._id_of(block)
        need_columns(block.columns, self.catalog, "genus", "species")
        rows = block.join(members, left_on=key, right_on="key", how="left", maintain_order="left")
        there = set(block.columns)
        names = {rank: pl.col(rank) for rank in RANK_LABELS if rank in there}
        common = next((pl.col(name) for name in _COMMON if name in there), pl.lit(""))
        label = pl.col("scientific_name") if "scientific_name" in there else pl.lit("")
        split = pl.lit("")
        if self.use_splits and "split" in there:
            split = pl.col("split").replace({"train_small": "train"})
        missing = pl.col("location").is_null()
        return rows.select(
            *normal(
                record_id=key,
                location="location",
                label=label,
                common_name=common,
                group=next((pl.col(name) for name in _GROUPS if name in there), pl.lit("")),
                split=split,
                reason=pl.when(missing).then(pl.lit("no picture of this id in the tars")).otherwise(pl.lit("")),
                **names,
            ),
            *(name for name in _FACTS if name in there),
        )


def hash_text(text: str) -> str:
    """Return a short fingerprint of a text."""
    import hashlib

    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()
