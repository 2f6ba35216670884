"""Read text files as UTF-8, whatever their encoding and their line ends are."""

import codecs
import logging
from collections.abc import Iterator
from pathlib import Path

from linnaea.archives import gunzip, is_gzipped, open_unpacked

BLOCK_BYTES = 1 << 20
"""Bytes of a file that are read at once; the format is detected from the first block."""
_CHECKED_BYTES = 1 << 28
"""Bytes of a large file that are checked for UTF-8 before it is scanned."""
GUESSED = "read as Windows-1252, because it is not UTF-8"

_log = logging.getLogger(__name__)


def log_note(path: Path, note: str) -> None:
    """Log a note on a file as a warning, if there is one."""
    if note:
        _log.warning("%s: %s", path, note)


def decode(path: Path, encoding: str, note: str = "") -> tuple[str, str]:
    """Return the text of a file, and the note on it; every byte sequence can be decoded.

    A file that is not in UTF-8 as expected is read as Windows-1252, and the note says so.
    """
    content = gunzip(path) if is_gzipped(path) else path.read_bytes()
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding in ("utf-8", "utf-8-sig"):
            encoding, note = "cp1252", GUESSED
            log_note(path, note)
        text = content.decode(encoding, errors="replace")
    text = text.removeprefix("\ufeff").replace("\0", "")
    return text if "\n" in text else text.replace("\r", "\n"), note


def is_utf8(path: Path) -> bool:
    """Return whether a file is UTF-8, as far as it is checked."""
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        for block in iter_blocks(path):
            decoder.decode(block)
            done += len(block)
            if done > _CHECKED_BYTES:
                break
    except UnicodeDecodeError:
        return False
    return True


def as_utf8(path: Path, declared: str, target: Path) -> Path:
    """Return the path of a text file in UTF-8: itself, or a copy at ``target`` if it has another encoding.

    Text that is valid UTF-8 is taken as such, whatever is ``declared``. Text that is declared as UTF-8 but is not is
    Windows-1252. A file whose lines end with carriage returns alone is copied as well.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        name = codecs.lookup(declared.strip()).name
    except LookupError:
        name = "utf-8"
    if not name.startswith(("utf-16", "utf-32")) and is_utf8(path):
        return transcode(path, "utf-8-sig", target) if _ends_lines_with_returns(path) else path
    return transcode(path, "cp1252" if name in ("utf-8", "utf-8-sig", "ascii") else name, target)


def transcode(path: Path, encoding: str, target: Path) -> Path:
    """Copy a text file as UTF-8; lines that end with a carriage return alone end with a line feed in the copy."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    with target.open("w", encoding="utf-8", newline="") as out:
        bare: bool | None = None
        for block in iter_blocks(path):
            text = decoder.decode(block)
            bare = "\r" in text and "\n" not in text if bare is None else bare
            out.write(text.replace("\r", "\n") if bare else text)
        out.write(decoder.decode(b"", final=True))
    return target


def _ends_lines_with_returns(path: Path) -> bool:
    """Return whether the lines of a file end with carriage returns alone, as old Macs wrote them."""
    head = next(iter_blocks(path), b"")
    return b"\r" in head and b"\n" not in head


def iter_blocks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file, unpacked if it is gzipped, in blocks."""
    with open_unpacked(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block
