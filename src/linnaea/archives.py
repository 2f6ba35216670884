"""Unpack archives, up to a size in proportion to the packed file: a small file may otherwise fill the disk."""

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from linnaea.errors import LinnaeaError
from linnaea.storage import explain_os_errors, open_regular, resolve_inside

RATIO_AT_MOST = 100
"""Bytes for each packed byte; names and numbers as text need 5 to 20."""
FREE_BYTES = 100_000_000
"""Bytes that any file may unpack to."""
MEMBERS_AT_MOST = 10_000
_BLOCK = 1 << 20


class _Budget:
    """The bytes that one file may still unpack to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left = FREE_BYTES + RATIO_AT_MOST * path.stat().st_size

    def spend(self, n_bytes: int) -> None:
        self.left -= n_bytes
        if self.left < 0:
            size = self.path.stat().st_size
            raise LinnaeaError(
                f"{self.path}: {size:,} bytes unpack to more than {FREE_BYTES + RATIO_AT_MOST * size:,}; refused"
            )


def unpack(path: Path, folder: Path) -> None:
    """Unpack the regular files of a zip or tar into a folder.

    Raises:
        LinnaeaError: the archive is broken, too large, has too many members, or names files outside of the folder.
    """
    budget = _Budget(path)
    with explain_os_errors(path), explain_broken(path):
        members = _iter_zip(path) if zipfile.is_zipfile(path) else _iter_tar(path)
        for number, (name, stream) in enumerate(members, start=1):
            if number > MEMBERS_AT_MOST:
                raise LinnaeaError(f"{path}: has more than {MEMBERS_AT_MOST:,} files; refused")
            place = resolve_inside(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as out:
                _copy(stream, out, budget)


def is_gzipped(path: Path) -> bool:
    """Return whether a file begins as gzip files do."""
    with path.open("rb") as raw:
        return raw.read(2) == b"\x1f\x8b"


def open_unpacked(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a file for reading, unpacked if it is gzipped."""
    return gzip.open(path) if is_gzipped(path) else path.open("rb")


def gunzip(path: Path) -> bytes:
    """Return the content of a gzip file.

    Raises:
        LinnaeaError: it is broken or too large.
    """
    return b"".join(_iter_gunzipped(path))


def gunzip_to(path: Path, out: Path) -> None:
    """Write the content of a gzip file of any size to ``out``.

    Raises:
        LinnaeaError: it is broken or too large, or the disk is full.
    """
    with explain_os_errors(out), out.open("wb") as stream:
        for block in _iter_gunzipped(path):
            stream.write(block)


def check_gzip(path: Path) -> None:
    """Check that a gzip file is whole and not too large.

    Raises:
        LinnaeaError: it is broken or too large.
    """
    for _ in _iter_gunzipped(path):
        pass


def iter_unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a zip in blocks, each with its member's name; what the zip states of sizes is not trusted.

    Raises:
        LinnaeaError: it is broken or too large, or packed in another way than zip files of documents are.
    """
    budget = _Budget(path)
    with explain_broken(path), open_regular(path) as raw, zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"{member.filename!r:.80} is packed in an unusual way")
            raw.seek(member.header_offset + _LOCAL_HEAD_LENGTHS)
            lengths = int.from_bytes(raw.read(2), "little") + int.from_bytes(raw.read(2), "little")
            raw.seek(lengths, os.SEEK_CUR)
            for block in _iter_member(raw, member):
                budget.spend(len(block))
                yield member.filename, block


_LOCAL_HEAD_LENGTHS = 26
"""The offset, in the header before a member, of two lengths: its name's and its extra field's (APPNOTE 4.3.7)."""


def _iter_member(raw: IO[bytes], member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the content of a member that begins here, to the end of its packed stream."""
    if member.compress_type == zipfile.ZIP_STORED:
        for start in range(0, member.compress_size, _BLOCK):
            yield raw.read(min(_BLOCK, member.compress_size - start))
        return
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = raw.read(_BLOCK)
    while packed and not unpacker.eof:
        yield unpacker.decompress(packed, _BLOCK)
        packed = unpacker.unconsumed_tail or raw.read(_BLOCK)


def _iter_gunzipped(path: Path) -> Iterator[bytes]:
    budget = _Budget(path)
    with explain_broken(path), open_regular(path) as raw, gzip.open(raw) as stream:
        while block := stream.read(_BLOCK):
            budget.spend(len(block))
            yield block


def _iter_zip(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as stream:
                    yield member.filename, stream


def _iter_tar(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and (stream := archive.extractfile(member)) is not None:
                yield member.name, stream


def _copy(stream: IO[bytes], out: IO[bytes], budget: _Budget) -> None:
    while block := stream.read(_BLOCK):
        budget.spend(len(block))
        out.write(block)


@contextmanager
def explain_broken(path: Path) -> Iterator[None]:
    """Turn what a broken archive raises into a :class:`LinnaeaError` of one line."""
    try:
        yield
    except LinnaeaError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, RecursionError, ValueError,
            NotImplementedError, RuntimeError, OverflowError) as error:  # fmt: skip
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise LinnaeaError(f"{path}: broken archive ({why}); download it again") from error
