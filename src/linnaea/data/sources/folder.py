"""A folder of class folders: the name of a photograph is the name of the folder it lies in."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from linnaea.data.sources import Record, Rejected
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.names import taxon_from_label
from linnaea.taxonomy.taxon import Taxon

NOT_IMAGES = {
    ".txt",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".md",
    ".xml",
    ".html",
    ".yaml",
    ".yml",
    ".db",
    ".ini",
    ".parquet",
}
"""Endings of files that lie beside photographs and are none; anything else is tried and, if broken, rejected."""

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def iter_files(root: Path) -> Iterator[Path]:
    """Every file below ``root`` in an order that does not depend on the machine; hidden ones are passed over.

    Links to folders are followed, but never in a circle.
    """
    inside = {os.path.realpath(root)}
    pending = [(root, inside)]
    while pending:
        folder, above = pending.pop()
        entries = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=_entry_name)
        yield from (Path(entry) for entry in entries if not entry.is_dir())
        for entry in reversed([entry for entry in entries if entry.is_dir()]):
            real = os.path.realpath(entry)
            if real not in above:
                pending.append((Path(entry), above | {real}))


def _entry_name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def is_text(path: str) -> bool:
    """Whether a path can be written into a table; file systems allow names that no encoding explains."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """``ROOT/<label>/photo.jpg``, also ``ROOT/train|val|test/<label>/photo.jpg``, at any depth.

    The label is the folder's name; a label that ``label_to_taxon`` cannot read makes its files rejects.
    """

    root: Path
    label_to_taxon: Callable[[str], Taxon | str] = taxon_from_label

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise LinnaeaError(f"{self.root}: no such folder; give the folder that holds one folder per class")

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def describe(self) -> dict[str, str]:
        digest = hashlib.sha256()
        for path in iter_files(self.root):
            name, size = path.relative_to(self.root).as_posix(), path.stat().st_size if path.exists() else -1
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        return {"kind": "folder", "root": str(self.root), "listing": digest.hexdigest()}

    def records(self) -> Iterator[Record | Rejected]:
        taxa: dict[str, Taxon | str] = {}
        for path in iter_files(self.root):
            if path.suffix.lower() in NOT_IMAGES:
                continue
            relative = path.relative_to(self.root)
            where = {"source": self.name, "record_id": relative.as_posix(), "location": str(path)}
            if not is_text(str(path)):
                readable = {name: text.encode(errors="backslashreplace").decode() for name, text in where.items()}
                yield Rejected(**readable, reason="file name is not UTF-8; rename it")
                continue
            if len(relative.parts) == 1:
                yield Rejected(**where, reason="lies outside any class folder")
                continue
            label = relative.parts[-2]
            split = SPLIT_FOLDERS.get(relative.parts[0].lower(), "") if len(relative.parts) > 2 else ""
            if label not in taxa:
                taxa[label] = self.label_to_taxon(label)
            match taxa[label]:
                case Taxon() as taxon:
                    yield Record(**where, taxon=taxon, split=split, facts={"label": label})
                case reason:
                    yield Rejected(**where, reason=f"label {label!r}: {reason}")
