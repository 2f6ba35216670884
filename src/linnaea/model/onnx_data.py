"""Check which files an ONNX file names: weights beside it (external data) must lie in its folder."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from linnaea.errors import LinnaeaError
from linnaea.storage import check_regular, open_regular, resolve_inside

_ENTRY = "entry"
_PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: _ENTRY},
}
"""The numbers of the fields that lead to external data, in the messages of onnx.proto (ONNX 1.19)."""
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LOCATION = b"location"


def check_external_data(path: Path) -> None:
    """Check that the weights which an ONNX file keeps in other files are regular files of its folder.

    Raises:
        LinnaeaError: they are not, or the file is not an ONNX file.
        OSError: the file cannot be opened.
    """
    with open_regular(path) as stream:
        if not path.stat().st_size:
            raise LinnaeaError(f"{path}: is empty; export the model again")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                names = set(_iter_locations(content))
            except (IndexError, ValueError) as error:
                raise LinnaeaError(f"{path}: not an ONNX file; export the model again") from error
    for name in sorted(names):
        data = resolve_inside(path.parent, name)
        check_regular(data)
        if not data.is_file():
            raise LinnaeaError(f"{path}: its weights are in {name[:200]!r}, which is missing; export the model again")


def _iter_locations(content: mmap.mmap) -> Iterator[str]:
    waiting = [("model", 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == _ENTRY:
            texts = [(number, content[first:last]) for number, first, last in _iter_fields(content, start, end)]
            if (1, _LOCATION) in texts:
                yield from (text.decode() for number, text in texts if number == 2)
            continue
        parts = _PARTS[kind]
        waiting += [(parts[number], a, b) for number, a, b in _iter_fields(content, start, end) if number in parts]


def _iter_fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field of bytes in a protobuf message, and where its bytes begin and end."""
    while start < end:
        tag, start = _read_varint(content, start)
        kind = tag & 7
        if kind == _VARINT:
            _, start = _read_varint(content, start)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            start += 8 if kind == _EIGHT_BYTES else 4
        elif kind == _BYTES:
            size, start = _read_varint(content, start)
            yield tag >> 3, start, start + size
            start += size
        else:
            raise ValueError(f"wire type {kind}")
        if start > end:
            raise ValueError("a field that is longer than its message")


def _read_varint(content: mmap.mmap, start: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = content[start + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, start + place + 1
    raise ValueError("a number of more than ten bytes")
