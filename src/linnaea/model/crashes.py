"""Notes of processes that a runtime ended, so that later ones do without it.

A fault in a runtime's own code ends the process before Python can say a word. Python's :mod:`faulthandler` still writes
where each thread was, into a file of the cache folder. What a user or the system kills leaves no note.
"""

import atexit
import faulthandler
import os
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TextIO

from linnaea.errors import LinnaeaError
from linnaea.progress import announce
from linnaea.storage import cache_dir, is_left_behind

_FATAL = "Fatal Python error: "


@cache
def watch(package: str, version: str) -> None:
    """Have a fault of this process noted from now on, unless something else already records faults."""
    if faulthandler.is_enabled():
        return
    with suppress(OSError, LinnaeaError):  # a cache that cannot be written costs the note
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.partial"):  # of killed processes
            if path.stat().st_size == 0 and is_left_behind(path):
                path.unlink(missing_ok=True)
        note = (folder / f".{package}-{version}.{socket.gethostname()}.{os.getpid()}.partial").open("w")
        faulthandler.enable(note)
        atexit.register(_close, note)


def has_crashed(package: str, version: str) -> bool:
    """Return whether a process that computed in this version of a package was ended by a fault, and say so once."""
    return _find_crash(_folder(), package, version)


@cache
def _find_crash(folder: Path, package: str, version: str) -> bool:
    for path in sorted(folder.glob(f".{package}-{version}.*.partial")):
        with suppress(OSError):
            text = path.read_text("utf-8", errors="replace")
            if text.startswith(_FATAL) and f"{os.sep}{package}{os.sep}" in text:
                reason = text.partition("\n")[0].removeprefix(_FATAL)
                day = time.strftime("%d %B %Y", time.localtime(path.stat().st_mtime))
                announce(f"{package} {version} ended a process on {day} ({reason}) and is not used; to try it again,"
                         f" remove {path}")  # fmt: skip
                return True
    return False


def _folder() -> Path:
    return cache_dir() / "crashes"


def _close(note: TextIO) -> None:
    faulthandler.disable()
    note.close()
    Path(note.name).unlink(missing_ok=True)
