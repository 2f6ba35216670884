"""Open files safely, write them atomically, explain disk errors, and find the cache folder."""

import errno
import hashlib
import json
import os
import socket
import stat
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from linnaea.errors import LinnaeaError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_DISK_FULL = ("os error 28", "No space left", "requested and 0 written")
"""The words with which polars, safetensors and NumPy say that the disk is full."""
_SHARED_MEMORY = "/dev/shm"

_SPECIAL = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
            (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip


def resolve_inside(folder: Path, name: str, *, follow_links: bool = False) -> Path:
    """Return the path of ``name`` below ``folder``; every path that is read from a file goes through this function.

    A link may lead out of the folder only with ``follow_links``, or into the files of the same repository in the hub's
    cache.

    Raises:
        LinnaeaError: the path leads outside of the folder, or is not a path.
    """
    path, base, home = folder / name, folder.absolute(), folder.resolve()
    outside = "\0" in name or ".." in Path(name).parts or path == folder
    outside |= not (path.absolute().is_relative_to(base) or path.is_relative_to(home))
    if not outside and not follow_links:
        real = path.resolve()
        outside = not any(real.is_relative_to(root) for root in (home, *_hub_blobs(home)))
    if outside:
        raise LinnaeaError(f"{folder}: {name[:200]!r}, which a file in it names, is not a path inside this folder")
    return path


def with_own_name(path: Path) -> Path:
    """Return the path with a last part that names it, to write something beside it: ``.`` becomes absolute."""
    return path if path.name not in ("", "..") else Path(os.path.abspath(path))  # noqa: PTH100  (links stay)


def is_inside(folder: Path, name: str, *, follow_links: bool = False) -> bool:
    """Return whether :func:`resolve_inside` accepts a path."""
    try:
        resolve_inside(folder, name, follow_links=follow_links)
    except LinnaeaError:
        return False
    return True


def _hub_blobs(folder: Path) -> list[Path]:
    """Return the folder that the links in a snapshot of the hub's cache lead to."""
    parts = folder.parts
    if "snapshots" not in parts:
        return []
    blobs = Path(*parts[: len(parts) - 1 - parts[::-1].index("snapshots")], "blobs")
    return [blobs] if blobs.is_dir() and not blobs.is_symlink() else []


def find_spelled(folder: Path, name: str) -> Path:
    """Return the path below ``folder`` of a name that another system may have written.

    Where no file has the very name, backslashes separate folders, and accented letters may be one character or two: a
    Mac writes ``o`` and the dots of ``ö`` apart. If there is no such file either, the name has slashes alone.
    """
    path, slashed = folder / name, name.replace("\\", "/")
    if (slashed == name and name.isascii()) or path.exists():
        return path
    spelled = (folder / form for form in (slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))))
    return next((other for other in spelled if other.exists()), folder / slashed)


def check_regular(path: Path) -> None:
    """Check that a file is a regular one; opening a pipe or a device could wait forever or do something.

    Raises:
        LinnaeaError: it exists and is not a regular file.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # opening it explains why
    if not stat.S_ISREG(mode):
        what = next((word for is_so, word in _SPECIAL if is_so(mode)), "special")
        raise LinnaeaError(f"{path}: not a regular file ({what})")


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        LinnaeaError: it is not a regular file.
        OSError: it cannot be opened.
    """
    check_regular(path)
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise LinnaeaError(f"{path}: not a regular file")
    return stream


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        LinnaeaError: it is not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as stream:
        return stream.read()


def stamp_file(path: Path) -> list[int]:
    """Return the size and time of a file; nothing if there is none."""
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return []
    return [facts.st_size, facts.st_mtime_ns]


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a regular file, which is read in blocks.

    Raises:
        LinnaeaError: it is not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Facts(dict[str, Any]):
    """An object of a JSON file. It knows its file, and so does what ``|`` makes of it, for messages."""

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        super().__init__(content)
        self.path = path

    def __or__(self, other: Mapping[str, Any]) -> "Facts":  # type: ignore[override]
        return Facts({**self, **other}, self.path)


def read_json(path: Path, *, kind: str) -> Facts:
    """Return the object in a JSON file.

    Args:
        path: the file.
        kind: what it should be, for messages: ``"the manifest of a data set"``.

    Raises:
        LinnaeaError: there is no such file, or it is not a JSON object.
    """
    content = load_json(path, kind=kind)
    if not isinstance(content, dict):
        raise LinnaeaError(f"{path}: not a JSON object; it should be {kind}")
    return Facts(content, path)


def load_json(path: Path, *, kind: str) -> Any:
    """Return the value in a JSON file, of whatever type it is.

    Args:
        path: the file.
        kind: what it should be, for messages.

    Raises:
        LinnaeaError: there is no such file, or it is not JSON.
    """
    try:
        with open_regular(path) as stream:
            return json.loads(stream.read())
    except OSError as error:
        raise LinnaeaError(f"{path}: cannot be read ({error.strerror}); it should be {kind}") from error
    except (ValueError, RecursionError) as error:
        raise LinnaeaError(f"{path}: not JSON ({explain_json_error(error)}); it should be {kind}") from error


def parse_facts(text: str | bytes, where: object) -> dict[str, Any]:
    """Return the facts of a sample that lie as JSON in a file of a data set.

    Raises:
        LinnaeaError: the text is not a JSON object; ``where`` says which sample's it is.
    """
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = explain_json_error(error)
        raise LinnaeaError(f"{where}: facts that are not JSON ({why}); see `linnaea data repair`") from error
    if not isinstance(facts, dict):
        raise LinnaeaError(f"{where}: facts that are not a JSON object; see `linnaea data repair`")
    return facts


def explain_json_error(error: Exception) -> str:
    """Return in a few words why a text is not JSON."""
    match error:
        case json.JSONDecodeError() if error.pos >= len(error.doc.rstrip()):
            return "it ends too early" if error.doc.strip() else "it is empty"
        case json.JSONDecodeError():
            return f"it goes wrong at line {error.lineno}, character {error.colno}"
        case UnicodeDecodeError():
            return f"byte {error.start + 1} is not {error.encoding.upper()}"
        case RecursionError():
            return "it is nested too deeply"
    return "a number in it is too long"


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into a :class:`LinnaeaError` that says what to do."""
    try:
        yield
    except LinnaeaError:
        raise
    except Exception as error:
        if why := explain_system_error(error, path):
            raise LinnaeaError(why) from error
        if isinstance(error, OSError):
            raise LinnaeaError(f"{error.filename or path}: {error.strerror or error}") from error
        raise


def explain_system_error(error: BaseException, path: Path | None = None) -> str:
    """Return what the system lacks, if that is why something failed, or ``""``; libraries say it in many words."""
    text = str(error)
    if getattr(error, "errno", None) in _NO_SPACE or any(words in text for words in _DISK_FULL):
        where = getattr(error, "filename", None) or path or "the disk of an output or of the cache"
        return f"{where}: the disk is full; free some space and run the same command again"
    unnamed = isinstance(error, OSError) and getattr(error, "filename", None) is None
    if (unnamed or "shared memory" in text or "/dev/shm" in text) and not _has_shared_memory():
        return f"{_SHARED_MEMORY}: is missing or cannot be written, but worker processes need it; mount it first"
    return ""


def _has_shared_memory() -> bool:
    return sys.platform != "linux" or os.access(_SHARED_MEMORY, os.R_OK | os.W_OK | os.X_OK)


@contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on success it is synced and renamed to ``path``.

    If the writer is interrupted (by an exception, a full disk or kill -9), ``path`` is either the old file or the
    complete new one. Without ``sync``, this does not hold for a power failure, but thousands of small files are
    written several times faster.

    Raises:
        LinnaeaError: The file cannot be written (full disk, no permission).
    """
    # On a shared disk, two machines may write the same file at once under the same process id.
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            if sync:
                sync_to_disk(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(directory: Path) -> None:
    """Remove the partial files of killed writers from a folder; keep those of running processes on this machine."""
    for partial in directory.rglob(".*.partial"):
        if is_left_behind(partial) and not partial.is_dir():
            partial.unlink(missing_ok=True)


def is_left_behind(partial: Path) -> bool:
    """Return whether no running process of this machine writes a partial file or folder."""
    host, _, process = partial.name.removesuffix(".partial").rpartition(".")
    return not (host.endswith(f".{socket.gethostname()}") and process.isdecimal() and _lives(int(process)))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return process != os.getpid() and not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Return whether a process has ended and waits for its parent; the parent of a killed worker may be slow."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith(("Z", "X"))
    except OSError:  # it is gone by now, or this is not Linux
        return False


def sync_to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes | str, *, sync: bool = True) -> None:
    """Write ``content`` to ``path`` in one step (see :func:`atomic_path`)."""
    with atomic_path(path, sync=sync) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def cache_dir() -> Path:
    """Return the folder for files that can be recomputed: ``$LINNAEA_CACHE`` or the user's cache folder."""
    if chosen := os.environ.get("LINNAEA_CACHE"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("linnaea"))
