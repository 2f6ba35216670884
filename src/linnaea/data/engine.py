"""Engines that run the stages of a build: processes of this machine (``ray_engine`` uses a Ray cluster).

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
from linnaea.jobs import apart_from_main

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """A runner of independent, idempotent tasks; results come in any order."""

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]: ...


class LocalEngine:
    """An engine of spawned processes on this machine; ``n_workers=1`` runs in this process."""

    def __init__(self, n_workers: int = 0) -> None:
        self.n_workers = n_workers or count_cores()

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they arrive; the first error stops the rest and is raised."""
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
    """Yield results with at most ``limit`` tasks in flight, so that ten thousand shards are never queued at once."""
    pending: set[Future[Result]] = set()
    exhausted = False
    while not exhausted or pending:
        while not exhausted and len(pending) < limit:
            try:
                task = next(tasks)
            except StopIteration:
                exhausted = True
                break
            with apart_from_main(function):  # the first submission starts the workers
                pending.add(pool.submit(function, task))
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _kill(pool: ProcessPoolExecutor) -> None:
    """Stop the workers at once; files that they were writing stay partial and are never read."""
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        with suppress(Exception):
            process.terminate()


def _start_worker() -> None:
    """Set up a worker: it ignores Ctrl-C, which the parent handles, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # 64 workers with 64 threads each would only wait
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent ends; a killed parent cannot stop its workers, which would wait forever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
