"""Run the decoding of untrusted files in a process of its own, with limits on memory and time.

A decoder of a rare format may ask for any amount of memory, run for minutes, or crash. It runs in a worker process that
may allocate so many bytes and compute for so many seconds per call, and that is killed if it does more. A worker serves
many calls. A call costs a tenth of a millisecond; starting a worker takes a third of a second.

The worker answers with an array, a JSON value or both, never with a pickle: whatever takes it over cannot run code
here.
"""

import atexit
import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from linnaea.errors import LinnaeaError

KEPT_BYTES = 200_000_000
"""A worker that keeps more memory than this after a call is replaced."""
WALL_PER_CPU = 4
"""Seconds on the clock for each second of computing that a call may take; other programs may use the processor too."""

_HEAD_BYTES = 1 << 20
_LENGTH = struct.Struct("<Q")
_STARTED: dict[int, list["_Worker"]] = {}
"""The idle workers of this process; a forked child has none."""
_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """The limits of one call."""

    n_bytes: int
    """Bytes of memory that the call may allocate."""
    seconds: float
    """Seconds of computing."""
    wall_s: float | None = None
    """Seconds on the clock; by default :data:`WALL_PER_CPU` times ``seconds``."""

    @property
    def deadline_s(self) -> float:
        return self.seconds * WALL_PER_CPU if self.wall_s is None else self.wall_s


class IsolatedError(LinnaeaError):
    """Raised if a call fails, asks for too much, or takes down its worker; the message is the reason."""


def run_isolated(function: Callable[..., Any], arguments: tuple[Any, ...], limits: CallLimits) -> Any:
    """Return what a function of a module returns (an array, a JSON value, or both), computed in a worker process.

    Raises:
        IsolatedError: the function raised a :class:`LinnaeaError` or its process exceeded a limit or crashed.
        LinnaeaError: no process can be started.
    """
    request = pickle.dumps((function, arguments, limits), protocol=5)
    idle = _STARTED.setdefault(os.getpid(), [])
    with _lock:
        worker = idle.pop() if idle else None
    if worker is None or not worker.is_alive():
        worker = _Worker()
    try:
        return worker.call(request, limits)
    except IsolatedError:
        raise
    except BaseException:  # in the middle of an answer
        worker.kill()
        raise
    finally:
        if worker.is_alive():
            with _lock:
                idle.append(worker)


@atexit.register
def stop_workers() -> None:
    """End the idle workers of this process; the next call starts a new one."""
    with _lock:
        idle = _STARTED.pop(os.getpid(), [])
    for worker in idle:
        worker.kill()


def _new_lock() -> None:
    """Replace the lock in a forked child, where nobody would ever release it."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock)


class _Worker:
    """A process that computes one call at a time."""

    def __init__(self) -> None:
        ask_out, ask_in = _wide_pipe()
        answer_out, answer_in = _wide_pipe()
        # -I: neither the working folder, which may be a data set, nor the environment adds modules.
        path = [place for place in sys.path if place]
        code = (
            f"import sys; sys.path[:] = {path!r}; from linnaea.data.isolated import work; work({ask_out}, {answer_in})"
        )
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", code], pass_fds=(ask_out, answer_in), env={**os.environ, **one},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(ask_in)
            os.close(answer_out)
            raise LinnaeaError(f"no process for decoding can be started: {error.strerror}") from error
        finally:
            os.close(ask_out)
            os.close(answer_in)
        self._ask, self._answer = os.fdopen(ask_in, "wb", 0), os.fdopen(answer_out, "rb", 0)

    def is_alive(self) -> bool:
        return not self._ask.closed and self._process.poll() is None

    def call(self, request: bytes, limits: CallLimits) -> Any:
        """Return the result of a pickled call.

        Raises:
            IsolatedError: see :func:`run_isolated`.
        """
        until = time.monotonic() + limits.deadline_s
        try:
            _write(self._ask, request)
            head = json.loads(self._read(_LENGTH.unpack(self._read(8, until))[0], until, at_most=_HEAD_BYTES))
            result = head.get("value")
            if "n_bytes" in head:
                payload = self._read(head["n_bytes"], until, at_most=limits.n_bytes)
                array = np.frombuffer(payload, dtype=head["dtype"]).reshape(head["shape"])
                result = (array, head["value"]) if "value" in head else array
        except TimeoutError:
            self.kill()
            raise IsolatedError(f"takes more than {limits.deadline_s:g} s to decode") from None
        except (OSError, EOFError, ValueError):
            raise IsolatedError(self._why_dead(limits)) from None
        if head["kept"] > KEPT_BYTES:
            self.kill()
        if "error" in head:
            raise IsolatedError(str(head["error"]))
        return result

    def _read(self, n_bytes: int, until: float, at_most: int = 8) -> bytearray:
        if n_bytes > at_most:
            raise ValueError("more than was asked for")
        content = bytearray(n_bytes)
        view, done = memoryview(content), 0
        waiting = select.poll()
        waiting.register(self._answer, select.POLLIN)
        while done < n_bytes:
            if not waiting.poll(max(0, 1000 * (until - time.monotonic()))):
                raise TimeoutError
            some = self._answer.readinto(view[done:])
            if not some:
                raise EOFError
            done += some
        return content

    def _why_dead(self, limits: CallLimits) -> str:
        """Return the reason for the end of the process."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.returncode
        self.kill()
        if code == -signal.SIGXCPU:
            return f"takes more than {limits.seconds:g} s to decode"
        if code in (-signal.SIGABRT, -signal.SIGKILL):
            return _too_much(limits)
        return "image is broken: its decoder crashed"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._ask.close()
        self._answer.close()


def _wide_pipe() -> tuple[int, int]:
    """Return a pipe that holds a megabyte, where the system can; most photographs then need one switch of processes."""
    out, into = os.pipe()
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 1 << 20)
    return out, into


def _too_much(limits: CallLimits) -> str:
    return f"too large: decoding it needs more than {limits.n_bytes:,} bytes of memory"


def _write(stream: FileIO, content: bytes | memoryview) -> None:
    stream.write(_LENGTH.pack(len(content)))
    view = memoryview(content)
    while view:
        view = view[stream.write(view) :]


# In the worker.


def work(ask: int, answer: int) -> None:
    """Compute the calls that arrive until the caller closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(ask, "rb"), os.fdopen(answer, "wb", 0)
    _resource().setrlimit(_resource().RLIMIT_CORE, (0, 0))
    baseline: int | None = None
    while length := requests.read(8):
        function, arguments, limits = pickle.loads(requests.read(_LENGTH.unpack(length)[0]))
        baseline = _resident_bytes() if baseline is None else baseline
        head, payload = _compute(function, arguments, limits)
        del arguments
        head["kept"] = max(0, _resident_bytes() - baseline - len(payload or b""))
        if payload is not None:
            head["n_bytes"] = len(payload)
        _write(answers, json.dumps(head).encode())
        view = payload or memoryview(b"")
        while view:
            view = view[answers.write(view) :]
        del payload, view


def _compute(
    function: Callable[..., Any], arguments: tuple[Any, ...], limits: CallLimits
) -> tuple[dict[str, Any], memoryview | None]:
    _limit(limits)
    try:
        result = function(*arguments)
        array, value = result if isinstance(result, tuple) else (result, None)
        if not isinstance(array, np.ndarray):
            return {"value": result}, None
        head = {"dtype": array.dtype.str, "shape": array.shape}
        head |= {"value": value} if isinstance(result, tuple) else {}
        return head, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    except LinnaeaError as error:
        return {"error": str(error)}, None
    except MemoryError:
        return {"error": _too_much(limits)}, None
    except Exception as error:
        return {"error": f"image is broken: {type(error).__name__}: {' '.join(str(error).split())[:200]}"}, None
    finally:
        _limit(None)


def _resource() -> Any:
    import resource

    return resource


def _limit(limits: CallLimits | None) -> None:
    """Set the process's limits on memory and time from now on; ``None`` lifts them."""
    resource = _resource()
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU):
        _, hard = resource.getrlimit(kind)
        soft = hard
        if limits is not None and kind == resource.RLIMIT_AS:
            soft = _virtual_bytes() + limits.n_bytes
        elif limits is not None:
            soft = int(time.process_time() + limits.seconds) + 1
        with suppress(ValueError, OSError):  # a system that knows no such limit
            resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _virtual_bytes() -> int:
    return _pages(0)


def _resident_bytes() -> int:
    return _pages(1)


def _pages(column: int) -> int:
    """Return a column of the kernel's account of this process, in bytes; 0 where there is none."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
