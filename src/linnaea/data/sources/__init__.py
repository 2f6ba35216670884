"""Where photographs with names come from. A source yields records, and a reason for everything that is none."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from linnaea.data.images import ImageError, raise_if_passing, read_image_file
from linnaea.data.licences import LicenceRule, licence_reason
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
"""Facts about rights and origin; they go into ``licences.parquet``."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One photograph with its name, before anything has looked at the pixels."""

    source: str
    record_id: str
    """Unique within the source; with ``source`` it makes the sample's key."""
    location: str
    """A file's path, or ``tar-path::member-offset::size`` for a picture inside an archive."""
    taxon: Taxon
    group: str = ""
    """Pictures with the same group (one individual, near copies) stay in one split."""
    split: str = ""
    """The split the source asks for, or empty."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts that do not change: licence, owner, title, url ..."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """One input that is no record, and why."""

    source: str
    record_id: str
    location: str
    reason: str


class Source(Protocol):
    """Anything that yields records."""

    @property
    def name(self) -> str:
        """The word in the column ``source``."""
        ...

    def describe(self) -> dict[str, str]:
        """What identifies the input, for the manifest; it changes when the input does."""
        ...

    def records(self) -> Iterator[Record | Rejected]:
        """Every input exactly once, in an order that does not depend on the machine."""
        ...


def read_location(location: str) -> bytes:
    """The bytes of a record's picture.

    Raises:
        ImageError: there is nothing, or it cannot be read.
        LinnaeaError: the storage fails for now.
    """
    place = _MEMBER.fullmatch(location)
    if place is None:
        return read_image_file(Path(location))
    path, offset, size = Path(place["archive"]), int(place["offset"]), int(place["size"])
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise_if_passing(error, path)
        raise ImageError(f"archive cannot be read: {error.strerror}") from error
    if len(data) < size:
        raise ImageError("archive is cut short")
    return data


_MEMBER = re.compile(r"(?P<archive>.+)::(?P<offset>\d+)::(?P<size>\d+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class LicensedSource:
    """``source`` under a rule about licences. The rule is an option of the build, so the input describes itself."""

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
