"""Long jobs that can be interrupted: claim a folder, keep a receipt for each finished part, resume, finish.

A job is a pure function of its inputs and options, whose checksum is its fingerprint. It writes into a folder that it
has claimed, in parts that are pure functions themselves. A part's receipt is written last. After an interruption, the
same command finds its own claim, runs the parts without a receipt, and writes the same bytes as a run that was never
interrupted.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias, TypeVar

from linnaea.errors import LinnaeaError
from linnaea.storage import explain_os_errors, open_regular, read_json, write_atomically

OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of finished records and the total (``None`` if it is unknown)."""

CHOOSE_ANOTHER = "choose another --output"


def ignore_progress(done: int, total: int | None) -> None:
    """Report nothing."""


def make_fingerprint(content: object) -> str:
    """Return the SHA-256 of ``content`` (any JSON value) in hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def claim_folder(
    directory: Path,
    marker: str,
    content: str,
    *,
    kind: str,
    remedy: str = CHOOSE_ANOTHER,
    why_other: Callable[[str], str] | None = None,
) -> bool:
    """Claim ``directory`` for this job, unless it is claimed already; return whether the job was started before.

    Args:
        directory: The folder; it is created if it does not exist.
        marker: Path of the claim below ``directory``. Everything in the marker's own folder belongs to the job.
        content: What distinguishes this job from others.
        kind: What the folder holds, for messages: ``"an unfinished build"``.
        remedy: What to do if the folder holds something else, for messages.
        why_other: Returns how the content of an earlier claim differs, or ``""`` if the job is the same. By default
            the contents must be equal.

    Raises:
        LinnaeaError: The folder holds another job of this kind, or something else.
    """
    path = directory / marker
    if path.exists():
        earlier = _read_claim(path)
        difference = why_other(earlier) if why_other else "" if earlier == content else "from other inputs or options"
        if difference:
            raise LinnaeaError(f"{directory}: holds {kind} {difference}; {remedy}")
        return True
    own = Path(marker).parts[0]
    if directory.exists() and not directory.is_dir():
        raise LinnaeaError(f"{directory}: a file, not a folder; {remedy}")
    if directory.exists() and any(entry.name != own for entry in directory.iterdir()):
        raise LinnaeaError(f"{directory}: not empty, and not {kind}; {remedy}")
    write_atomically(path, content)
    return False


def _read_claim(path: Path) -> str:
    with explain_os_errors(path), open_regular(path) as stream:
        return stream.read().decode("utf-8", "replace")


def read_finished(manifest: Path, fingerprint: str, *, kind: str, remedy: str = CHOOSE_ANOTHER) -> dict[str, Any]:
    """Return the manifest of a finished job.

    Raises:
        LinnaeaError: The manifest is that of another job: its ``fingerprint`` differs.
    """
    content = read_json(manifest, kind=kind)
    if content.get("fingerprint") != fingerprint:
        raise LinnaeaError(f"{manifest.parent}: holds {kind} from other inputs or options; {remedy}")
    return content


@contextmanager
def hold_alone(directory: Path, lock: str, *, kind: str) -> Iterator[None]:
    """Lock a job's folder against other processes.

    The lock is a file below ``directory``. It ends with the process, also if the process is killed.

    Raises:
        LinnaeaError: Another process holds the lock.
    """
    import fcntl

    with (directory / lock).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LinnaeaError(f"{directory}: another {kind} is running here; wait for it or stop it") from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def apart_from_main(function: Callable[..., object]) -> Iterator[None]:
    """Start processes that do not run the caller's script again.

    A spawned process imports the program's main module first. A script that calls the library without
    ``if __name__ == "__main__":`` would start over in each worker. Workers start without a main module, unless
    ``function``, which they call, is defined there.
    """
    main = sys.modules["__main__"]
    if function.__module__ == "__main__":
        yield
        return
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Part(Protocol):
    """A part of a job: a task with a receipt and a length."""

    @property
    def receipt_path(self) -> Path:
        """The file that is written last; if it exists, the part is finished."""

    @property
    def length(self) -> int:
        """Number of records of the part."""


AnyPart = TypeVar("AnyPart", bound=Part)
Map: TypeAlias = Callable[[Callable[[AnyPart], int], Iterable[AnyPart]], Iterator[int]]
"""Applies a function to tasks in any order, on any machine; see :meth:`linnaea.data.engine.Engine.map`."""


def run_parts(
    function: Callable[[AnyPart], int], parts: Sequence[AnyPart], apply: "Map[AnyPart]", on_progress: OnProgress
) -> None:
    """Run the parts without a receipt; ``function`` writes a part, its receipt last, and returns its length."""
    if not parts:
        return
    todo = [part for part in parts if not part.receipt_path.exists()]
    total = sum(part.length for part in parts)
    done = total - sum(part.length for part in todo)
    on_progress(done, total)
    for length in apply(function, todo):
        done += length
        on_progress(done, total)
