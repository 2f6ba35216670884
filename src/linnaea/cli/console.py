"""What a person sees while a command runs: progress with rate and ETA, messages, tables.

Progress and messages go to standard error; standard output is for results.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from linnaea.cli import DONE, FAILED, SOME_FAILED

messages = Console(stderr=True, highlight=False)
results = Console(highlight=False)


class OnProgress(Protocol):
    """What a long library function calls: how much is done, of how much in all (if known)."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:,.0f} {self.unit}/s" if speed >= 10 else f"{speed:.2g} {self.unit}/s"
        )


@contextmanager
def progress_bar(title: str, unit: str = "it") -> Iterator[OnProgress]:
    """A progress bar on standard error; where that is no terminal, a line now and then instead."""
    if not messages.is_terminal:
        yield _PlainProgress(title, unit)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=messages, speed_estimate_period=20) as progress:
        task = progress.add_task(title, total=None, note="")

        def on_progress(done: int, total: int | None = None, note: str = "") -> None:
            if done < progress.tasks[task].completed:  # the next stage
                progress.reset(task)
            progress.update(task, completed=done, total=total, note=note)

        yield on_progress


class _PlainProgress:
    """One line every few seconds, for logs: ``title 1,200/4,000 (350 img/s, ETA 0:08)``."""

    def __init__(self, title: str, unit: str, every_s: float = 10.0) -> None:
        import time

        self._clock = time.monotonic
        self._title, self._unit, self._every_s = title, unit, every_s
        self._start = self._last = self._clock()
        self._first_done: int | None = None
        self._done = 0

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        now = self._clock()
        if self._first_done is None or done < self._done:  # the beginning, or the next stage
            self._start, self._first_done = now, done
        self._done = done
        finished = total is not None and done >= total
        if now - self._last < self._every_s and not finished:
            return
        self._last = now
        of = f"/{total:,}" if total is not None else ""
        speed = self._speed(done - self._first_done, now - self._start, None if total is None else total - done)
        print(f"{self._title} {done:,}{of}{speed} {note}".rstrip(), file=sys.stderr, flush=True)

    def _speed(self, n_done: int, seconds: float, n_left: int | None) -> str:
        """In brackets the rate and the time that is left; nothing where nothing was seen to be done."""
        if n_done <= 0:
            return ""
        rate = n_done / max(seconds, 1e-6)
        if n_left is None:
            return f" ({rate:,.1f} {self._unit}/s)"
        minutes, rest = divmod(round(n_left / rate), 60)
        return f" ({rate:,.1f} {self._unit}/s, ETA {minutes}:{rest:02d})"


def say(message: str) -> None:
    """A message for the person, on standard error."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """One line about something that did not go as it should, on standard error."""
    print(f"linnaea: {' '.join(message.split())}", file=sys.stderr, flush=True)


def report_failed(failed: Sequence[str], n_inputs: int) -> int:
    """Name the inputs of a batch that failed, the first ten of them; returns the exit code."""
    for line in failed[:10]:
        warn(line)
    if len(failed) > 10:
        warn(f"... and {len(failed) - 10} more; every one is a row with its reason")
    if not failed:
        return DONE
    return FAILED if len(failed) == n_inputs else SOME_FAILED
