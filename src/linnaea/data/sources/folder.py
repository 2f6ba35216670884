"""A folder of class folders: each photograph is named after its class folder."""

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from linnaea.data.file_kinds import NOT_IMAGES
from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.class_folders import FolderReading, FolderTree, add_lineage, read_class_folders
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.remarks import is_remark
from linnaea.taxonomy.row import LabelReader, class_from_label
from linnaea.taxonomy.taxon import Taxon

OUTSIDE = "lies outside any class folder"
"""Why a photograph directly in the folder is rejected: nothing names it."""


def iter_files(root: Path) -> Iterator[Path]:
    """Yield every file below ``root`` in an order that does not depend on the machine; hidden files are skipped.

    Links to folders are followed; cycles are not. A folder that cannot be opened is yielded itself.
    """
    inside = {os.path.realpath(root)}
    pending = [(root, inside)]
    while pending:
        folder, above = pending.pop()
        try:
            entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=_entry_name)
        except OSError as error:
            if folder == root:
                raise LinnaeaError(f"{folder}: {error.strerror}") from error
            yield folder  # reading it gives the reason
            continue
        yield from (Path(entry) for entry in entries if not _is_folder(entry))
        for entry in reversed([entry for entry in entries if _is_folder(entry)]):
            real = os.path.realpath(entry)
            if real not in above:
                pending.append((Path(entry), above | {real}))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entry_name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def is_text(path: str) -> bool:
    """Return whether a path is valid Unicode and so fits a table; file systems also allow other names."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def find_in_checklist(names: Collection[str]) -> dict[str, list[Taxon]]:
    """Return the taxa of the embedded checklist with each scientific name, synonyms included."""
    import polars as pl

    from linnaea.taxonomy.checklists.store import load_checklist
    from linnaea.taxonomy.keys import name_key

    checklist = load_checklist("inat")
    asked = pl.DataFrame({"name": sorted(names)}, schema={"name": pl.String}).with_columns(key=name_key(pl.col("name")))
    is_asked = pl.col("key").is_in(asked["key"].implode())
    accepted = checklist.taxa.select("key", pl.int_range(pl.len(), dtype=pl.Int32).alias("row")).filter(is_asked)
    synonyms = checklist.synonyms.filter(is_asked).select("key", "row")
    rows = pl.concat([accepted, synonyms]).join(asked, on="key").select("name", "row").unique().sort("row", "name")
    found: dict[str, list[Taxon]] = {}
    for name, lineage in zip(rows["name"], checklist.taxa.select(RANK_LABELS)[rows["row"]].iter_rows(), strict=True):
        found.setdefault(name, []).append(Taxon(lineage))
    return found


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Photographs as ``ROOT/<class>/photo.jpg``, with folders of splits, taxa, cameras or dates around the class.

    :mod:`linnaea.data.sources.class_folders` finds the class; the name of its folder is the label. A file is rejected
    if ``label_to_taxon`` cannot read its label. Numbers are classes if no folder names a taxon.
    """

    root: Path
    class_level: int = 0
    """The level of the class folders, counted from 1 below ``root``; 0 finds it by the names."""
    label_to_taxon: LabelReader = class_from_label

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise LinnaeaError(f"{self.root}: no such folder; give the folder that holds one folder per class")
        if self.class_level < 0:
            raise ValueError("the class level must be at least 1 (or 0 to find it by the names)")

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @cached_property
    def tree(self) -> FolderTree:
        """The reading of all folders.

        Raises:
            LinnaeaError: the folder names do not show which folders are the classes.
        """
        inside = (path.relative_to(self.root).parts[:-1] for path in _iter_candidates(self.root) if is_text(str(path)))
        try:
            return read_class_folders(inside, find_in_checklist, class_level=self.class_level)
        except LinnaeaError as error:
            raise LinnaeaError(f"{self.root}: {error}") from error

    def describe(self) -> dict[str, str]:
        digest = hashlib.sha256()
        for path in iter_files(self.root):
            name, size = path.relative_to(self.root).as_posix(), path.stat().st_size if path.exists() else -1
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        nested = {"levels": "; ".join(self.tree.levels)} if len(self.tree.levels) > 1 else {}
        return {"kind": "folder", "root": str(self.root), "listing": digest.hexdigest(), **nested}

    def records(self) -> Iterator[Record | Rejected]:
        taxa = self._name_classes()
        for path in _iter_candidates(self.root):
            relative = path.relative_to(self.root)
            where = {"source": self.name, "record_id": relative.as_posix(), "location": str(path)}
            if not is_text(str(path)):
                readable = {name: text.encode(errors="backslashreplace").decode() for name, text in where.items()}
                yield Rejected(**readable, reason="file name is not UTF-8; rename it")
                continue
            reading = self.tree.readings[relative.parts[:-1]]
            if not reading.level:
                yield Rejected(**where, reason=OUTSIDE)
                continue
            label = _label_of(reading)
            match taxa[label, reading.lineage]:
                case Taxon() as taxon:
                    yield Record(**where, taxon=taxon, split=reading.split, facts={"label": label})
                case reason:
                    yield Rejected(**where, reason=f"label {label!r}: {reason}")

    def _name_classes(self) -> dict[tuple[str, tuple[Taxon, ...]], Taxon | str]:
        """Return the taxon of every class, or the reason why its label does not name one."""
        classes = {(label, reading.lineage): label for reading in self.tree.readings.values()
                   for label in [_label_of(reading)]}  # fmt: skip
        named = {label: self.label_to_taxon(label) for label in dict.fromkeys(classes.values()) if label}
        if not any(isinstance(taxon, Taxon) and any(taxon.lineage) for taxon in named.values()):
            named |= {label: Taxon.of(common_name=label) for label in named if label.isdecimal()}
        return {
            key: add_lineage(taxon, key[1]) if isinstance(taxon, Taxon) else taxon
            for key, label in classes.items()
            if label and (taxon := named[label])
        }


def _label_of(reading: FolderReading) -> str:
    """Return the label of a class; a folder such as "larva" is one only together with the taxon above it."""
    if reading.lineage and is_remark(reading.label):
        return f"{reading.lineage[-1].scientific_name} {reading.label}"
    return reading.label


def _iter_candidates(root: Path) -> Iterator[Path]:
    """Yield the files below ``root`` that may be photographs."""
    return (path for path in iter_files(root) if path.suffix.lower() not in NOT_IMAGES)
