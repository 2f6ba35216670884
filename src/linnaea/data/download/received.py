"""The body of an answer: its bytes are counted, hashed, checked and written to a file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import aiohttp

from linnaea.storage import explain_os_errors

IN_MEMORY = 1 << 20
"""Bytes buffered in memory before a write; most pictures are smaller and are written in one piece."""
_TAIL = 4096


class BodyError(Exception):
    """Raised for a body that cannot be accepted; ``is_final`` if another attempt would bring the same."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        super().__init__(reason)
        self.is_final = is_final


@dataclass(frozen=True, kw_only=True)
class Checksums:
    """The hashes of a file by the table, in hex; empty if the table has none."""

    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Received:
    """The facts of a complete file."""

    n_bytes: int
    sha256: str
    md5: str
    content_type: str
    ending: str


def sniff(head: bytes) -> tuple[str, str] | None:
    """Return (content type, file ending) by the first 32 bytes of a picture, or ``None`` for an unknown format."""
    for magic, kind, ending in _MAGIC:
        if head.startswith(magic):
            return kind, ending
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp", ".webp"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "image/avif", ".avif"
        if brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"):
            return "image/heic", ".heic"
    return None


_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (b"GIF87a", "image/gif", ".gif"),
    (b"GIF89a", "image/gif", ".gif"),
    (b"II*\x00", "image/tiff", ".tif"),
    (b"MM\x00*", "image/tiff", ".tif"),
    (b"II+\x00", "image/tiff", ".tif"),
    (b"MM\x00+", "image/tiff", ".tif"),
    (b"BM", "image/bmp", ".bmp"),
    (b"\x00\x00\x00\x0cjP  \r\n", "image/jp2", ".jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2", ".j2k"),
    (b"\xff\x0a", "image/jxl", ".jxl"),
)


_NOT_PICTURES = (
    ((b"<!doctype html", b"<html", b"<head", b"<body"), "not an image (HTML)"),
    ((b"<svg",), "not a photograph (SVG)"),
    ((b"<",), "not an image (HTML or XML)"),
    ((b"{", b"["), "not an image (JSON)"),
    ((b"%pdf",), "not an image (PDF)"),
    ((b"\x1f\x8b", b"pk\x03\x04"), "not an image (archive)"),
)


def why_no_picture(head: bytes) -> str:
    """Return the reject reason of a body that is not a picture."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "empty answer"
    return next((why for starts, why in _NOT_PICTURES if start.startswith(starts)), "not an image (unknown format)")


class Body:
    """The body of one answer on its way to a file.

    ``add`` runs on the event loop and returns whether :meth:`flush` is due. ``flush`` and ``complete`` use the disk and
    run in a thread.
    """

    def __init__(self, partial: Path, max_bytes: int, *, wants_md5: bool) -> None:
        self.partial = partial
        self.n_bytes = 0
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._n_waiting = 0
        self._head = b""
        self._tail = b""
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if wants_md5 else None
        self._stream: IO[bytes] | None = None

    def add(self, chunk: bytes) -> bool:
        """Add some bytes; return whether the buffer is full enough to be flushed.

        Raises:
            BodyError: the body is not a picture, or is larger than allowed; the rest need not be read.
        """
        if self.n_bytes < 32:
            self._head = (self._head + chunk)[:512]
            if len(self._head) >= 32 and sniff(self._head) is None:
                raise BodyError(why_no_picture(self._head), is_final=True)
        self.n_bytes += len(chunk)
        if self.n_bytes > self._max_bytes:
            raise BodyError(f"larger than {self._max_bytes:,} bytes", is_final=True)
        self._chunks.append(chunk)
        self._n_waiting += len(chunk)
        return self._n_waiting >= IN_MEMORY

    def flush(self) -> None:
        """Write the buffer to the file and update the hashes."""
        data = b"".join(self._chunks)
        self._chunks, self._n_waiting = [], 0
        self._sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)
        self._tail = (self._tail + data)[-_TAIL:]
        with explain_os_errors(self.partial):
            if self._stream is None:
                self._stream = self.partial.open("wb", buffering=0)
            view = memoryview(data)
            while view:
                view = view[self._stream.write(view) :]

    def complete(self, expected: Checksums, has_known_end: bool) -> Received:
        """Check and close the file.

        Raises:
            BodyError: the body is not a picture, is truncated, or does not match the hashes in the table.
        """
        kind = sniff(self._head)
        if kind is None:
            raise BodyError(why_no_picture(self._head), is_final=self.n_bytes > 0)
        self.flush()
        content_type, ending = kind
        if not has_known_end and not self._has_end_marker(content_type):
            raise BodyError("truncated: the picture has no end marker", is_final=False)
        sha256, md5 = self._sha256.hexdigest(), self._md5.hexdigest() if self._md5 is not None else ""
        if expected.sha256 and expected.sha256 != sha256:
            raise BodyError("sha256 differs from the table", is_final=False)
        if expected.md5 and expected.md5 != md5:
            raise BodyError("md5 differs from the table", is_final=False)
        assert self._stream is not None
        self._stream.close()
        return Received(n_bytes=self.n_bytes, sha256=sha256, md5=md5, content_type=content_type, ending=ending)

    def discard(self) -> None:
        """Discard the body and remove its file."""
        if self._stream is not None:
            self._stream.close()
            self.partial.unlink(missing_ok=True)

    def _has_end_marker(self, content_type: str) -> bool:
        """Return whether the file ends with its format's end marker.

        Without a content length, only the closing of the connection marks the end, so a body may be cut anywhere.
        """
        match content_type:
            case "image/jpeg":
                return b"\xff\xd9" in self._tail
            case "image/png":
                return b"IEND" in self._tail
            case _:
                return True


_CONNECTION_ERRORS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "host has no address"),
    (aiohttp.ClientSSLError, "host's certificate is not valid"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorError, "connection refused"),
    (aiohttp.ServerDisconnectedError, "connection reset"),
    (ConnectionError, "connection reset"),
    (aiohttp.ClientOSError, "connection reset"),
    (aiohttp.TooManyRedirects, "too many redirects"),
    (aiohttp.ClientResponseError, "answer is not valid HTTP"),
)


def why_no_connection(error: BaseException) -> str:
    """Return the reject reason of a failed request; the table is ordered from the specific to the general."""
    return next(
        (reason for kind, reason in _CONNECTION_ERRORS if isinstance(error, kind)),
        f"connection failed ({type(error).__name__})",
    )
