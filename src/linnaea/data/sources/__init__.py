"""Sources of photographs with names. A source yields a record for each usable input and a reason for each other one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl

from linnaea.data.images import MAX_BYTES, ImageError, cut_out, raise_if_passing, read_image_file
from linnaea.data.licences import LicenceRule, licence_reason
from linnaea.errors import LinnaeaError
from linnaea.storage import open_regular
from linnaea.taxonomy.taxon import Taxon

LICENCE_FACTS = (
    "licence",
    "license",
    "license_name",
    "license_link",
    "copyright_owner",
    "owner",
    "rights_holder",
    "creator",
    "title",
    "url",
    "identifier",
    "references",
)
"""Facts about rights and origin; ``licences.parquet`` holds them."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One photograph with its name; its pixels have not been read yet."""

    source: str
    record_id: str
    """Unique within the source; with ``source`` it makes the sample's key."""
    location: str
    """A file's path, or ``tar-path::member-offset::size`` for a picture inside an archive. ``#xywh=x,y,width,height``
    behind it is a part of the picture in pixels (:func:`at_box`)."""
    taxon: Taxon
    group: str = ""
    """Pictures of one group (one individual, near copies) stay in one split."""
    split: str = ""
    """The split that the source asks for, or ``""``."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Further facts: licence, owner, title, URL ..."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """One input that did not become a record, and the reason."""

    source: str
    record_id: str
    location: str
    reason: str


class Source(Protocol):
    """A reader that yields records."""

    @property
    def name(self) -> str:
        """The value of the column ``source``."""
        ...

    def describe(self) -> dict[str, str]:
        """Return what identifies the input, for the manifest; it changes when the input does."""
        ...

    def records(self) -> Iterator[Record | Rejected]:
        """Yield every input exactly once, in an order that does not depend on the machine."""
        ...


def at_box(location: pl.Expr, box: pl.Expr) -> pl.Expr:
    """Return the location of a part of a picture; ``box`` is ``x,y,width,height`` in pixels (W3C Media Fragments)."""
    return pl.concat_str(location, pl.lit("#xywh="), box)


def is_member(location: str) -> bool:
    """Return whether a location is that of a picture inside an archive."""
    return _MEMBER.fullmatch(location) is not None


def read_location(location: str) -> bytes:
    """Return the bytes of a record's picture; those of a part of a picture are a PNG.

    Raises:
        ImageError: the file does not exist or cannot be read, or the part lies outside of the picture.
        LinnaeaError: the storage fails temporarily.
    """
    part = _PART.fullmatch(location)
    if part is not None:
        x, y, width, height = (float(part[name]) for name in ("x", "y", "width", "height"))
        return cut_out(_read_whole(part["whole"]), x, y, width, height)
    return _read_whole(location)


def _read_whole(location: str) -> bytes:
    place = _MEMBER.fullmatch(location)
    if place is None:
        return read_image_file(Path(location))
    path, offset, size = Path(place["archive"]), int(place["offset"]), int(place["size"])
    if size > MAX_BYTES:
        raise ImageError(f"too large: {size:,} bytes (limit {MAX_BYTES:,})")
    try:
        with open_regular(path) as stream:
            stream.seek(offset)
            data = stream.read(size)
    except LinnaeaError as error:
        raise ImageError("archive is not a regular file") from error
    except (OSError, OverflowError, ValueError) as error:
        if isinstance(error, OSError):
            raise_if_passing(error, path)
        raise ImageError(f"archive cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) < size:
        raise ImageError("archive is truncated")
    return data


_MEMBER = re.compile(r"(?P<archive>.+)::(?P<offset>\d+)::(?P<size>\d+)", re.DOTALL)
_NUMBER = r"-?\d{1,9}(?:\.\d{1,9})?"
_PART = re.compile(
    rf"(?P<whole>.+)#xywh=(?P<x>{_NUMBER}),(?P<y>{_NUMBER}),(?P<width>{_NUMBER}),(?P<height>{_NUMBER})", re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class LicensedSource:
    """A source whose records must satisfy a licence rule.

    The rule is an option of the build, so ``describe`` returns the description of the inner source alone.
    """

    source: Source
    rule: LicenceRule

    @property
    def name(self) -> str:
        return self.source.name

    def describe(self) -> dict[str, str]:
        return self.source.describe()

    def records(self) -> Iterator[Record | Rejected]:
        for item in self.source.records():
            if isinstance(item, Record) and (reason := licence_reason(item.facts, self.rule)):
                yield Rejected(source=item.source, record_id=item.record_id, location=item.location, reason=reason)
            else:
                yield item
