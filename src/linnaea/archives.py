"""Unpack what is packed, up to a size in proportion to the packed file: a small file may otherwise fill the disk."""

import gzip
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


def check_zip(path: Path) -> None:
    """Check the sizes that a zip states for its members.

    Raises:
        LinnaeaError: it is broken or too large.
    """
    budget = _Budget(path)
    with explain_broken(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            budget.spend(member.file_size)


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
