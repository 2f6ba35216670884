"""Write files atomically, explain disk errors, and find the cache folder."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linnaea.errors import LinnaeaError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into a :class:`LinnaeaError` that says what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in _NO_SPACE:
            raise LinnaeaError(f"{where}: the disk is full; free some space and run the same command again") from error
        raise LinnaeaError(f"{where}: {error.strerror or error}") from error


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
                _sync(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(directory: Path) -> None:
    """Remove the partial files of killed writers from a folder; keep those of running processes on this machine."""
    here = socket.gethostname()
    for partial in directory.rglob(".*.partial"):
        host, _, process = partial.name.removesuffix(".partial").rpartition(".")
        if not (host.endswith(f".{here}") and process.isdecimal() and _lives(int(process))):
            partial.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return process != os.getpid()


def _sync(path: Path) -> None:
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
