"""A kill at any step of a change to files, without the end of the process."""

import math
import os
import threading
from collections.abc import Callable

EVENTS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.chmod", "ctypes.dlsym", "fsync",
          "shutil.rmtree", "write"}  # fmt: skip
"""What changes files; a kill comes before each of them."""


class KillError(BaseException):
    """Ends a change; from then on nothing else changes files either, as in a process that was killed."""


class Killer:
    """A hook that lets so many steps happen."""

    def __init__(self) -> None:
        self.left: float = math.inf
        self.thread = threading.get_ident()

    def __call__(self, event: str, arguments: object) -> None:
        if event in EVENTS and self.left < math.inf and threading.get_ident() == self.thread:
            self.left -= 1
            if self.left < 0:
                raise KillError


def killed_at(moment: int, killer: Killer, change: Callable[[], object]) -> bool:
    """Make a change that is killed before its ``moment``-th step; return whether it was."""
    fsync, killer.left = os.fsync, moment - 1
    os.fsync = lambda descriptor: (killer("fsync", ()), fsync(descriptor))[1]
    try:
        change()
    except KillError:
        return True
    finally:
        killer.left, os.fsync = math.inf, fsync
    return False
