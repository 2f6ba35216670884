"""Where the stages of a build run: processes of this machine (a Ray cluster: ``ray_engine``).

A stage is a pure function of its task.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from threading import Thread
from typing import Protocol, TypeVar

from linnaea.errors import LinnaeaError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs independent tasks; results come in any order. A task that ran twice has done nothing more than once."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]: ...


class LocalEngine:
    """Spawned processes on this machine; ``n_workers=1`` runs in this process."""

    def __init__(self, n_workers: int = 0) -> None:
        self.n_workers = n_workers or count_cores()

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they come; the first error stops the rest and is raised."""
        if self.n_workers == 1:
            yield from map(function, tasks)
            return
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.n_workers, mp_context=context, initializer=_start_worker)
        try:
            yield from _in_flight(pool, function, iter(tasks), limit=2 * self.n_workers)
        except BrokenProcessPool as error:
            raise LinnaeaError(
                "a worker process died (out of memory?); run the same command again, with fewer --workers"
            ) from error
        except BaseException:
            _kill(pool)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_flight(
    pool: ProcessPoolExecutor, function: Callable[[Task], Result], tasks: Iterator[Task], limit: int
) -> Iterator[Result]:
    """Keep ``limit`` tasks under way: a list of ten thousand shards is never queued whole."""
    pending: set[Future[Result]] = set()
    exhausted = False
    while not exhausted or pending:
        while not exhausted and len(pending) < limit:
            try:
                pending.add(pool.submit(function, next(tasks)))
            except StopIteration:
                exhausted = True
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _kill(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: whatever they were writing is a partial file that nothing will read."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        with suppress(Exception):
            process.terminate()


def _start_worker() -> None:
    """Ctrl-C goes to the whole process group and the parent alone decides what it means; no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # 64 workers with 64 threads each would only wait
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers: without this they would wait for work for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def count_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
