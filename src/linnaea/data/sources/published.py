"""TreeOfLife-10M and -200M as published: a catalog, with the pictures, the rights and the flags of its rows.

TreeOfLife-10M: ``catalog.csv`` with split, treeoflife_id, eol_content_id .. inat21_cls_num, kingdom .. species, common,
and ``licenses.csv`` with the rights of EOL's pictures. TreeOfLife-200M: ``catalog.parquet`` with uuid, source_url,
kingdom .. species, scientific_name, common, data_source, publisher, basis_of_record, img_type, source_id, and
``provenance.parquet`` with the rights of all pictures. The columns are those of the data sets' cards. Any catalog with
an id and rank columns works. Where the pictures come from: :mod:`linnaea.data.sources.catalog_pictures`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.bioscan import RIGHTS as BIOSCAN_RIGHTS
from linnaea.data.sources.catalog_flags import IMAGE_TYPES, CatalogFlags
from linnaea.data.sources.catalog_pictures import URL, CatalogPictures, inat21_file
from linnaea.data.sources.inat21 import Inat21Source
from linnaea.data.sources.normal import describe_files, hash_text, iter_records, normal, read_blocks
from linnaea.errors import UsageError
from linnaea.tables import need_columns
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS

TRAIN_SMALL = "train_small"
"""The split of the rows that repeat a tenth of ``train``."""
_IDS = ("treeoflife_id", "uuid", "key", "id", "treeoflife10m_id")
_COMMON = ("common", "common_name", "vernacular_name")
_GROUPS = ("occurrence_id", "source_id", "eol_content_id")
_FACTS = ("source_id", "data_source", "publisher", *IMAGE_TYPES, "eol_content_id", "eol_page_id", "bioscan_filename",
          "inat21_filename", "license_name", "license_link", "copyright_owner", "rights_holder", "title", "url",
          "identifier", "citation", "subset", "flags")  # fmt: skip
_RIGHTS = {"license_name": "license_name", "license_link": "license_link", "copyright_owner": "copyright_owner",
           "title": "title", "medium_source_url": "url", URL: "url", "eol_full_size_copy_url": "identifier",
           "bibliographicCitation": "citation", "license": "license_name", "owner": "copyright_owner"}  # fmt: skip
"""Columns of licenses.csv and provenance.parquet, and the facts that they become."""


@dataclass(frozen=True, kw_only=True)
class PublishedSource:
    """The rows of a catalog with their pictures; pictures that are not in the catalog are rejected.

    A row of ``train_small`` repeats a row of ``train``: it makes no second record, and the record has the fact
    ``subset``. The other rows of a catalog that is read with ``train_small`` are not its inputs.
    """

    catalog: Path
    tars: Path | None = None
    """Folder that holds the tars, at any depth; members are named by the catalog's ids. Packed ones (``.tar.gz``) are
    copied to plain tars first."""
    unpacked: Path | None = None
    """Folder for the plain copies of packed tars; by default the cache folder."""
    downloads: Path | None = None
    """``images.parquet`` of ``linnaea data download CATALOG --url-column source_url``."""
    boxes: Path | None = None
    """``fathom_metadata.csv`` of TreeOfLife-200M: the parts of downloaded pictures of FathomNet."""
    inat21: Path | None = None
    """Your copy of iNat21; ``train.json`` in it gives the rights."""
    bioscan: Path | None = None
    """Your copy of the cropped pictures of BIOSCAN-1M (the folder with ``part1`` .. ``part113``), or of BIOSCAN-5M."""
    rights: Path | None = None
    """``licenses.csv`` of TreeOfLife-10M or ``provenance.parquet`` of TreeOfLife-200M."""
    flags: Mapping[str, Path] = field(default_factory=dict)
    """Tables (or folders of Parquet files) with an id and ``pred_label``, by the name of the flag: faces, labels ..."""
    without: tuple[str, ...] = ()
    """Flags, image types (camera-trap, museum-specimen, ...) and bases of record to leave out."""
    train_small: bool = False
    """Read the rows of ``train_small`` alone."""
    id_column: str = ""
    """Column of the id; by default the first that exists of treeoflife_id, uuid, key and id."""
    use_splits: bool = True
    """Keep the catalog's splits (``train_small`` becomes ``train``); otherwise splits are drawn."""
    name: str = "treeoflife"

    def __post_init__(self) -> None:
        if not any((self.tars, self.downloads, self.inat21, self.bioscan)):
            raise ValueError("give tars, downloads, inat21 or bioscan: the places where the pictures are")
        if self.boxes and not self.downloads:
            raise ValueError("boxes: needs downloads, whose pictures they are parts of")
        self._flagged.check()

    def describe(self) -> dict[str, str]:
        tars = [f"{path.relative_to(self.tars or '')} {path.stat().st_size}" for path in self._pictures.tar_paths]
        files = [path for path in (self.rights, self.downloads, self.boxes, *self.flags.values()) if path]
        more = {"train_small": "yes"} if self.train_small else {}
        more |= {"without": " ".join(self.without)} if self.without else {}
        more |= {name: str(path) for name, path in (("inat21", self.inat21), ("bioscan", self.bioscan)) if path}
        return describe_files("published", self.catalog, *files, tars=str(hash_text("\n".join(tars))),
                              splits=str(self.use_splits), **more)  # fmt: skip

    @cached_property
    def _pictures(self) -> CatalogPictures:
        return CatalogPictures(tars=self.tars, unpacked=self.unpacked, downloads=self.downloads, boxes=self.boxes,
                               inat21=self.inat21, bioscan=self.bioscan)  # fmt: skip

    @cached_property
    def _flagged(self) -> CatalogFlags:
        return CatalogFlags(tables=self.flags, without=self.without)

    def records(self) -> Iterator[Record | Rejected]:
        for name, path, reason in self._pictures.broken:
            yield Rejected(source=self.name, record_id=name, location=str(path), reason=reason)
        seen: list[pl.Series] = []
        yield from iter_records(self._iter_normal(seen), self.name)
        known = pl.concat(seen) if seen else pl.Series(dtype=pl.String)
        for key, location in self._pictures.members.filter(~pl.col("key").is_in(known.implode())).iter_rows():
            yield Rejected(source=self.name, record_id=key, location=location, reason="is not in the catalog")

    def _iter_normal(self, seen: list[pl.Series]) -> Iterator[pl.DataFrame]:
        """Yield the rows as normal tables, each picture once, and add their ids to ``seen``."""
        small, met = self._small_ids, set[str]()
        for block in self._iter_blocks():
            key = self._id_of(block)
            seen.append(block[key])
            rows = block.with_columns(subset=_subset(pl.col(key), small))
            if "split" in block.columns:
                rows = rows.filter(pl.col("split") != TRAIN_SMALL)
                met |= set(rows.filter(pl.col("subset") != "")[key])
            yield self._normalise(self._chosen(rows), key)
        if len(met) == len(small):
            return
        for block in self._iter_blocks():  # rows of train_small whose picture no other row has
            key = self._id_of(block)
            alone = block.filter((pl.col("split") == TRAIN_SMALL) & ~pl.col(key).is_in(list(met)))
            yield self._normalise(alone.with_columns(subset=pl.lit(TRAIN_SMALL)), key)

    def _chosen(self, block: pl.DataFrame) -> pl.DataFrame:
        return block.filter(pl.col("subset") == TRAIN_SMALL) if self.train_small else block

    @cached_property
    def _small_ids(self) -> pl.Series:
        """The ids of the rows of ``train_small``."""
        ids = [pl.Series(dtype=pl.String)]
        for block in self._iter_blocks():
            if "split" not in block.columns:
                break
            ids.append(block.filter(pl.col("split") == TRAIN_SMALL)[self._id_of(block)])
        found = pl.concat(ids).unique(maintain_order=True)
        if self.train_small and found.is_empty():
            raise UsageError(f"{self.catalog}: no row of the split {TRAIN_SMALL}")
        return found

    def _iter_blocks(self) -> Iterator[pl.DataFrame]:
        yield from read_blocks(self.catalog, (self.id_column, *_IDS, *NAME_COLUMNS, *_COMMON, "split"))

    def _id_of(self, block: pl.DataFrame) -> str:
        if self.id_column:
            need_columns(block.columns, self.catalog, self.id_column)
            return self.id_column
        found = next((name for name in _IDS if name in block.columns), "")
        if not found:
            raise UsageError(f"{self.catalog}: no column {' or '.join(_IDS)}; it has {', '.join(block.columns)}")
        return found

    def _normalise(self, block: pl.DataFrame, key: str) -> pl.DataFrame:
        need_columns(block.columns, self.catalog, "genus", "species")
        rows = self._pictures.locate(self._with_rights(block, key), key)
        rows = self._flagged.mark(rows, key, self.catalog)
        there = set(rows.columns)
        names = {rank: pl.col(rank) for rank in RANK_LABELS if rank in there}
        common = next((pl.col(name) for name in _COMMON if name in there), pl.lit(""))
        label = pl.col("scientific_name") if "scientific_name" in there else pl.lit("")
        split = pl.lit("")
        if self.use_splits and "split" in there:
            split = pl.col("split").replace({TRAIN_SMALL: "train"})
        return rows.select(
            *normal(
                record_id=key,
                location="location",
                label=label,
                common_name=common,
                group=_group(there),
                split=split,
                reason=pl.when(pl.col("left_out") != "").then("left_out").otherwise("missing"),
                **names,
            ),
            *(name for name in _FACTS if name in there),
        )

    def _with_rights(self, block: pl.DataFrame, key: str) -> pl.DataFrame:
        """Return the rows with their rights: of EOL and GBIF by id, of iNat21 by file, of BIOSCAN as published."""
        rows = block
        if self.rights is not None:
            rows = _filled(rows, self._rights.rename({"id": key}), key)
        if self.inat21 is not None and "inat21_filename" in block.columns:
            by_file = rows.with_columns(inat21_file=inat21_file())
            rows = _filled(by_file, self._inat21_rights, "inat21_file").drop("inat21_file")
        of_bioscan = [pl.col(column) != "" for column in ("bioscan_filename",) if column in block.columns]
        of_bioscan += [pl.col(column) == "bioscan" for column in ("data_source",) if column in block.columns]
        if of_bioscan:
            constant = [pl.lit(value).alias(name) for name, value in BIOSCAN_RIGHTS.items()]
            names = block.filter(pl.any_horizontal(of_bioscan)).select(key).unique().with_columns(constant)
            rows = _filled(rows, names, key)
        if "url" not in rows.columns and URL in rows.columns:
            rows = rows.with_columns(url=URL)
        return rows

    @cached_property
    def _rights(self) -> pl.DataFrame:
        """``id`` and the rights of the pictures that are there; rows of the other pictures are not kept."""
        assert self.rights is not None
        members = self._pictures.members["key"].implode()
        parts = []
        for block in read_blocks(self.rights, (*_IDS, *_RIGHTS)):
            key = next((name for name in _IDS if name in block.columns), "")
            need_columns(block.columns, self.rights, key or _IDS[0])
            is_there = pl.col(key).is_in(members)
            part = block if self.downloads is not None else block.filter(is_there)
            facts = {ours: pl.col(theirs) for theirs, ours in _RIGHTS.items() if theirs in block.columns}
            parts.append(part.select(id=key, **facts))
        found = pl.concat(parts) if parts else pl.DataFrame(schema={"id": pl.String})
        return found.unique("id", keep="first", maintain_order=True)

    @cached_property
    def _inat21_rights(self) -> pl.DataFrame:
        """``inat21_file`` and the rights in the user's ``train.json``; no rows without that file."""
        assert self.inat21 is not None
        wanted = ("license_name", "rights_holder", "license_link")
        annotations = next((path / "train.json" for path in (self.inat21, self.inat21.parent)
                            if (path / "train.json").is_file()), None)  # fmt: skip
        if annotations is None:
            return pl.DataFrame(schema=dict.fromkeys(("inat21_file", *wanted), pl.String))
        table = Inat21Source(annotations=annotations, root=self.inat21).table()
        return table.select(*wanted, inat21_file=pl.col("record_id").str.strip_prefix("train/"))


def _subset(key: pl.Expr, small: pl.Series) -> pl.Expr:
    return pl.when(key.is_in(small.implode())).then(pl.lit(TRAIN_SMALL)).otherwise(pl.lit(""))


def _group(there: set[str]) -> pl.Expr:
    """Return what the pictures of one organism share; EOL's id is that of a picture, with each of its pages."""
    group = next((pl.col(name) for name in _GROUPS if name in there), pl.lit(""))
    if {"source_id", "data_source"} <= there and "occurrence_id" not in there:
        return pl.when(pl.col("data_source") == "eol").then(group.str.split("_").list.first()).otherwise(group)
    return group


def _filled(rows: pl.DataFrame, facts: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows with the columns of ``facts`` by ``key``; a cell that says something already is kept."""
    names = [name for name in facts.columns if name != key]
    given = rows.with_columns(pl.lit("").alias(name) for name in names if name not in rows.columns)
    joined = given.join(facts, on=key, how="left", maintain_order="left", suffix="_found")
    found = {name: pl.when(pl.col(name) != "").then(name).otherwise(f"{name}_found").fill_null("") for name in names}
    return joined.with_columns(**found).drop(f"{name}_found" for name in names)
