"""Replace a folder in one step, and let only one command at a time write it.

A new folder is written beside the old one and exchanged with it. After a kill at any moment the folder is the old one
or the new one.
"""

import ctypes
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from linnaea.errors import LinnaeaError
from linnaea.storage import explain_os_errors, is_left_behind, sync_to_disk, with_own_name

_AT_FDCWD, _EXCHANGE = -100, 2


@contextmanager
def hold_output(path: Path, *, kind: str) -> Iterator[None]:
    """Keep other commands from writing ``path`` at the same time.

    The lock is a file beside it. It ends with the process, also if the process is killed.

    Raises:
        LinnaeaError: another command writes there.
    """
    import fcntl

    named = with_own_name(path)
    lock = named.with_name(f".{named.name}.lock")
    with explain_os_errors(path):
        named.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise LinnaeaError(f"{path}: another {kind} is writing here; wait for it or stop it") from None
            except OSError:  # a file system without locks
                break
            if _is_same_file(descriptor, lock):
                break
            os.close(descriptor)  # its holder has just removed it
    try:
        yield
    finally:
        try:
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def replaced_folder(folder: Path, *, keep_others: bool = True) -> Iterator[Path]:
    """Yield a new folder beside ``folder``; on success it takes the place of ``folder`` in one step.

    With ``keep_others``, files of the old folder that the new one does not have are kept.

    Raises:
        LinnaeaError: the folder cannot be written (full disk, no permission), is a mount point, or is the current one.
    """
    target = folder.resolve() if folder.is_symlink() else with_own_name(folder)
    kind = "a mount point" if target.is_mount() else "the current folder" if _is_current(target) else ""
    if kind:
        raise LinnaeaError(f"{folder}: {kind} cannot be replaced in one step; write to a folder below it")
    new = target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}.partial")
    with explain_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(target)
        new.mkdir()
        try:
            yield new
            if keep_others and target.is_dir():
                link_others(target, new)
            _sync_tree(new)
            _take_place(new, target)
            sync_to_disk(target.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _is_current(folder: Path) -> bool:
    with suppress(OSError):
        return folder.samefile(Path.cwd())
    return False


def _remove_left_behind(target: Path) -> None:
    """Remove the leftovers of killed writers of this folder, or put the old folder back if only that is left."""
    for old in target.parent.glob(f".{escape(target.name)}.*.old"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
    for left in target.parent.glob(f".{escape(target.name)}.*.partial"):
        if left.is_dir() and is_left_behind(left):
            shutil.rmtree(left, ignore_errors=True)


def link_others(old: Path, new: Path) -> None:
    """Link every file of one folder into another, which does not have it, or copy it where there are no links."""
    for path in sorted(old.rglob("*")):
        place = new / path.relative_to(old)
        if path.name.endswith(".partial") or place.exists():
            continue
        if path.is_dir() and not path.is_symlink():
            place.mkdir(mode=stat.S_IMODE(path.stat().st_mode), exist_ok=True)
            continue
        try:
            os.link(path, place, follow_symlinks=False)
        except OSError:  # a file system without links
            shutil.copy2(path, place, follow_symlinks=False)


def _take_place(new: Path, target: Path) -> None:
    if not target.is_dir():
        new.rename(target)
        return
    new.chmod(stat.S_IMODE(target.stat().st_mode))
    if not _exchange(new, target):  # a file system that cannot; a kill between the two steps leaves the old one beside
        old = new.with_name(f"{new.name.removesuffix('.partial')}.old")
        target.rename(old)
        new.rename(target)
        old.rename(new)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step (Linux), or return ``False`` if the system cannot."""
    with suppress(OSError, AttributeError):
        call = ctypes.CDLL(None, use_errno=True).renameat2
        return bool(call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE) == 0)
    return False


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync_to_disk(path)
    sync_to_disk(folder)
