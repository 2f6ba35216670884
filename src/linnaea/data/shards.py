"""The shard format of data sets: WebDataset tars with a Parquet index. No other module depends on its details.

A sample is ``<key>.jpg`` and ``<key>.json`` (and optional texts) in a plain ustar archive whose bytes are a function of
its content only. The index holds the offset of every picture, so reading any sample takes one ``pread``.
"""

import io
import json
import os
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import polars as pl

from linnaea.data.splits import TRAIN, TRAIN_SMALL, is_in_train_small
from linnaea.errors import LinnaeaError
from linnaea.parquet import read_stated
from linnaea.storage import atomic_path, check_regular, parse_facts, read_json, resolve_inside
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

TAR_BLOCK = 512
_MOST_BYTES = 1 << 30
"""A larger picture is in no shard; its size in the index is wrong."""

SPLIT_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*$"
"""What a split may be called; it is the name of a folder."""
_KEY_NAME = r"^[A-Za-z0-9_][^/\\\x00-\x1f]*$"

INDEX_SCHEMA: dict[str, Any] = {
    "key": pl.String,
    "split": pl.String,
    "shard": pl.String,
    "offset": pl.Int64,
    "size": pl.Int64,
    "taxon_id": pl.Int32,
    "source": pl.String,
    "group": pl.String,
    "width": pl.Int32,
    "height": pl.Int32,
    "sha256": pl.String,
    "pdq": pl.String,
}
"""Columns of ``index.parquet``, one row per picture; ``offset`` and ``size`` locate the JPEG inside the shard. ``pdq``
is the perceptual hash of the original as 64 hex digits, null if none was computed (and in older data sets)."""

_PLACES = ("key", "split", "shard", "offset", "size", "taxon_id")
"""Columns of ``index.parquet`` without which no picture is found."""

TAXA_SCHEMA: dict[str, Any] = {
    "taxon_id": pl.Int32,
    **dict.fromkeys(NAME_COLUMNS, pl.String),
}
"""Columns of ``taxa.parquet``, the only table with names; ``taxon_id`` is the row, in depth-first order."""


def sort_taxa(taxa: Iterable[Taxon]) -> list[Taxon]:
    """Return the distinct ``taxa`` in depth-first order of the tree, which is the order of their ids."""
    return sorted(set(taxa), key=lambda taxon: (taxon.lineage, taxon.common_name, taxon.authorship))


def make_taxa_table(taxa: Iterable[Taxon]) -> pl.DataFrame:
    """Return the distinct ``taxa`` as a table with :data:`TAXA_SCHEMA`."""
    rows = [
        {
            "taxon_id": number,
            **dict(zip(RANK_LABELS, taxon.lineage, strict=True)),
            "scientific_name": taxon.scientific_name,
            "common_name": taxon.common_name,
        }
        for number, taxon in enumerate(sort_taxa(taxa))
    ]
    return pl.DataFrame(rows, schema=TAXA_SCHEMA)


def merge_taxa(*tables: pl.DataFrame) -> pl.DataFrame:
    """Return the taxa of several tables in one, depth-first and each once (:func:`make_taxa_table`)."""
    return make_taxa_table(taxa_from_table(pl.concat(tables, how="diagonal")))


def taxa_from_table(table: pl.DataFrame) -> list[Taxon]:
    """Return the rows of a taxon table as :class:`Taxon` values.

    Raises:
        LinnaeaError: a row is not a taxon.
    """
    names = table.select(*RANK_LABELS, "common_name").fill_null("").rows()
    try:
        return [Taxon(lineage[:-1], common_name=lineage[-1]) for lineage in names]
    except ValueError as error:
        raise LinnaeaError(f"a table of taxa has a row that is not a taxon: {error}") from error


def _target_of(link: tarfile.TarInfo) -> str:
    """Return the name of the member that a link leads to; a hard link states it whole."""
    if link.islnk():
        return posixpath.normpath(link.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(link.name), link.linkname))


class ShardWriter:
    """The writer of one shard; the file's bytes depend only on the samples and their order."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, key: str, jpeg: bytes, facts: Mapping[str, Any], texts: Mapping[str, str]) -> int:
        """Add one sample and return the offset of its JPEG in the shard."""
        offset = self._add_member(f"{key}.jpg", jpeg)
        self._add_member(f"{key}.json", json.dumps(facts, ensure_ascii=False, sort_keys=True).encode())
        for name, text in texts.items():
            self._add_member(f"{key}.{name}", text.encode())
        return offset

    def _add_member(self, name: str, content: bytes) -> int:
        member = tarfile.TarInfo(name)  # mtime, uid and gid stay 0: the same input gives the same bytes
        member.size = len(content)
        member.mode = 0o644
        offset = self._tar.offset + TAR_BLOCK
        self._tar.addfile(member, io.BytesIO(content))
        return int(offset)

    def close(self) -> None:
        self._tar.close()


@dataclass(frozen=True)
class DataSet:
    """A finished data set, or a part of it; :meth:`open` opens one.

    ``index`` and ``taxa`` are tables with :data:`INDEX_SCHEMA` and :data:`TAXA_SCHEMA`. Reading is random access by
    row, and safe from any number of threads and in forked or spawned processes.
    """

    directory: Path
    index: pl.DataFrame
    taxa: pl.DataFrame
    _files: dict[tuple[int, str], int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a data set.

        Raises:
            LinnaeaError: the folder is not a data set, or its build was not finished.
        """
        if not (directory / "manifest.json").exists():
            state = (
                "was not finished; run the same `linnaea data build` again"
                if (directory / ".build").exists()
                else "not a data set (no manifest.json); make one with `linnaea data build`"
            )
            raise LinnaeaError(f"{directory}: {state}")
        index, taxa = read_tables(directory)
        if "pdq" not in index.columns:
            index = index.with_columns(pdq=pl.lit(None, pl.String))
        return cls(directory, index, taxa)

    def split(self, name: str) -> Self:
        """Return the part of the data set in one split; ``train-small`` is a tenth of ``train``, by hash.

        Raises:
            LinnaeaError: the split does not exist.
        """
        part = self.index.filter(pl.col("split") == name)
        if part.is_empty() and name == TRAIN_SMALL:
            part = self.index.filter((pl.col("split") == TRAIN) & is_in_train_small(pl.col("key")))
        if part.is_empty():
            there = ", ".join(sorted(self.index["split"].unique()))
            raise LinnaeaError(f"{self.directory}: no split {name!r}; there are {there or 'none'}")
        return replace(self, index=part)

    def sources(self, names: tuple[str, ...]) -> Self:
        """Return the part from some sources (from all of them for an empty tuple).

        Raises:
            LinnaeaError: a source is not in the data set.
        """
        if not names:
            return self
        there = set(self.index["source"].unique())
        if unknown := set(names) - there:
            raise LinnaeaError(
                f"{self.directory}: no source {', '.join(sorted(unknown))}; there are {', '.join(sorted(there))}"
            )
        return replace(self, index=self.index.filter(pl.col("source").is_in(names)))

    def to_species(self) -> Self:
        """Return the part that is named to the species.

        Raises:
            LinnaeaError: no photograph is named to the species.
        """
        named = self.taxa.filter(pl.col("species") != "")["taxon_id"]
        part = self.index.filter(pl.col("taxon_id").is_in(named.implode()))
        if part.is_empty():
            raise LinnaeaError(f"{self.directory}: no photograph of this part is named to the species")
        return replace(self, index=part)

    def __len__(self) -> int:
        return self.index.height

    @cached_property
    def _places(self) -> tuple[list[str], list[int], list[int]]:
        return self.index["shard"].to_list(), self.index["offset"].to_list(), self.index["size"].to_list()

    def read(self, row: int) -> bytes:
        """Return the JPEG of one row of the index.

        Raises:
            LinnaeaError: the shard is missing or shorter than the index states.
        """
        shards, offsets, sizes = self._places
        shard, offset, size = shards[row], offsets[row], sizes[row]
        data = os.pread(self._descriptor(shard), size, offset) if 0 <= size <= _MOST_BYTES and offset >= 0 else b""
        if len(data) != size:
            raise LinnaeaError(
                f"{self.directory / shard}: ends before sample {self.index['key'][row]}; see `linnaea data check`"
            )
        return data

    def _descriptor(self, shard: str) -> int:
        slot = (os.getpid(), shard)
        if (descriptor := self._files.get(slot)) is None:
            try:
                descriptor = os.open(self.directory / shard, os.O_RDONLY)
            except OSError as error:
                raise LinnaeaError(f"{self.directory / shard}: {error.strerror}; see `linnaea data check`") from error
            # Two threads may race here: both descriptors are valid, and one is kept.
            descriptor = self._files.setdefault(slot, descriptor)
        return descriptor

    @cached_property
    def taxa_list(self) -> list[Taxon]:
        """Every taxon of the data set, by taxon id."""
        return taxa_from_table(self.taxa)

    @property
    def pictured_taxa(self) -> pl.DataFrame:
        """The rows of ``taxa`` with images in this part."""
        return self.taxa.filter(pl.col("taxon_id").is_in(self.index["taxon_id"].unique().implode()))

    def taxon(self, taxon_id: int) -> Taxon:
        return self.taxa_list[taxon_id]

    def iter_facts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield key and facts of every sample of this part from the shards; missing shards are skipped."""
        wanted = set(self.index["key"])
        for shard in sorted(set(self.index["shard"])):
            path = self.directory / shard
            if not path.is_file():
                continue
            with path.open("rb") as stream:
                for name, offset, size in iter_members(path):
                    key, _, ending = name.partition(".")
                    if ending == "json" and key in wanted:
                        stream.seek(offset)
                        yield key, parse_facts(stream.read(size), f"{path}: {name}")

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory, "index": self.index, "taxa": self.taxa, "_files": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a data set, whose shards are inside the folder.

    Raises:
        LinnaeaError: it cannot be read, or names a file outside of the folder.
    """
    if not (directory / "manifest.json").exists():
        raise LinnaeaError(f"{directory}: not a data set (no manifest.json); make one with `linnaea data build`")
    manifest = read_json(directory / "manifest.json", kind="the manifest of a data set")
    shards = manifest.get("shards")
    if not isinstance(shards, dict) or not isinstance(manifest.get("options", {}), dict):
        raise LinnaeaError(f"{directory / 'manifest.json'}: not the manifest of a data set; build the data set again")
    for shard, facts in shards.items():
        check_regular(resolve_inside(directory, shard))
        if not isinstance(facts, dict) or not {"bytes", "sha256"} <= facts.keys():
            raise LinnaeaError(f"{directory / 'manifest.json'}: has no checksum of {shard!r}; build the data set again")
    return manifest


def read_tables(directory: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the index and the taxa of a data set, with only such names, shards and taxa as there can be.

    Raises:
        LinnaeaError: one of them cannot be read, or is something else.
    """
    again = "which cannot be repaired: build it again"
    index_kind = f"the index of a data set, {again}"
    index = read_stated(directory / "index.parquet", INDEX_SCHEMA, needed=_PLACES, filled=_PLACES, kind=index_kind)
    taxa = read_taxa_table(directory / "taxa.parquet", kind=f"the taxa of a data set, {again}")
    _check_names(directory, index)
    ids = index["taxon_id"]
    if not ids.is_between(0, taxa.height - 1).all():
        raise LinnaeaError(
            f"{directory / 'index.parquet'}: names taxa that taxa.parquet lacks; build the data set again"
        )
    return index, taxa


def read_taxa_table(path: Path, *, kind: str, more: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Return a table of taxa (:data:`TAXA_SCHEMA`); ``more`` has the types of further columns.

    Raises:
        LinnaeaError: it cannot be read, or is something else.
    """
    return read_stated(path, {**TAXA_SCHEMA, **(more or {})}, needed=(*RANK_LABELS, "common_name"), kind=kind)


def _check_names(directory: Path, index: pl.DataFrame) -> None:
    """Check that splits, shards and keys, which become names of files, stay inside a folder.

    Raises:
        LinnaeaError: one does not.
    """
    for column, pattern in (("split", SPLIT_NAME), ("key", _KEY_NAME)):
        names = index[column]
        if (bad := names.filter(~names.str.contains(pattern).fill_null(value=False))).len():
            raise LinnaeaError(f"{directory / 'index.parquet'}: {bad[0]!r} cannot be the name of a {column}")
    for shard in index["shard"].unique():
        check_regular(resolve_inside(directory, shard))


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write a table in one step; the same table gives the same bytes."""
    with atomic_path(path) as partial:
        table.write_parquet(partial, compression="zstd", statistics=True)


def iter_members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of every file in a tar; a link has those of its target, and may come at the end.

    Raises:
        LinnaeaError: the tar is broken or truncated.
    """
    check_regular(path)
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            end = 0
            places: dict[str, tuple[int, int]] = {}
            links: dict[str, tuple[str, str]] = {}
            for member in tar:
                end = member.offset_data + -(-member.size // TAR_BLOCK) * TAR_BLOCK
                if end > size:
                    raise LinnaeaError(f"{path}: truncated inside {member.name}")
                if member.issym() or member.islnk():
                    links[posixpath.normpath(member.name)] = member.name, _target_of(member)
                elif member.isfile():
                    places[posixpath.normpath(member.name)] = member.offset_data, member.size
                    yield member.name, member.offset_data, member.size
            for name, target in links.values():
                yield name, *places.get(links[target][1] if target in links else target, (0, 0))
            if size < end + 2 * TAR_BLOCK:
                raise LinnaeaError(f"{path}: truncated (no end mark)")
    except (tarfile.TarError, RecursionError, OSError, ValueError, OverflowError, MemoryError) as error:
        why = "its headers are chained without end" if isinstance(error, RecursionError) else str(error)
        raise LinnaeaError(f"{path}: not a tar archive ({why})") from error
