"""Progress of long work on standard error: a bar in a terminal or a notebook, lines in a command's log.

Elsewhere nothing is shown.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_logs_lines = False


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that make a terminal do something, or show text in another order."""


def visible(text: str) -> str:
    """Return text as a terminal may show it: control characters become their escapes, such as ``\\x1b``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class Bar(Protocol):
    """The display of one stage; long work calls it with the amount done and the total, if known."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


@contextmanager
def lines_in_logs() -> Iterator[None]:
    """Write progress as lines if standard error is not a terminal, for the duration of this context."""
    global _logs_lines  # noqa: PLW0603
    before, _logs_lines = _logs_lines, True
    try:
        yield
    finally:
        _logs_lines = before


def announce(line: str) -> None:
    """Tell the user something in one line: on standard error in a command, as a logged warning elsewhere."""
    if _logs_lines:
        print(f"linnaea: {visible(line)}", file=sys.stderr, flush=True)
    else:
        logging.getLogger("linnaea").warning(line)


def announce_uncached(error: Exception, what: str, again: str) -> None:
    """Tell that ``what`` could not be kept in the cache folder, and so is made again: ``again`` says how."""
    announce(f"{error}; {what} not kept in the cache, and {again} again next time (LINNAEA_CACHE names another folder"
             " for it)")  # fmt: skip


@contextmanager
def progress_bar(title: str, unit: str = "it") -> Iterator[Bar]:
    """Show the progress of one stage of work, with its rate and the time left."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_jupyter:
        with _in_notebook(title, unit) as on_progress:
            yield on_progress
    elif console.is_terminal:
        with _bar(console, title, unit) as on_progress:
            yield on_progress
    elif _logs_lines:
        yield _Lines(title, unit)
    else:
        yield _silent


def _silent(done: int, total: int | None = None, note: str = "") -> None:
    pass


@contextmanager
def _bar(console: "Console", title: str, unit: str) -> Iterator[Bar]:
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

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.2g} {unit}/s")

    class Remaining(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            early = not task.finished and not _can_tell(task.completed, task.total, task.elapsed or 0.0)
            return Text("-:--:--", style="progress.remaining") if early else super().render(task)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        Remaining(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, speed_estimate_period=20) as progress:
        number = progress.add_task(title, total=None, note="")

        def on_progress(done: int, total: int | None = None, note: str = "") -> None:
            if done < progress.tasks[number].completed:  # the next stage
                progress.reset(number)
            progress.update(number, completed=done, total=total, note=note)

        yield on_progress


def _can_tell(n_done: float, total: float | None, seconds: float) -> bool:
    """Return whether enough is done to tell the time left: the first batches of a job are slow."""
    return total is not None and n_done > 0 and (n_done >= 0.01 * total or seconds >= 30)


@contextmanager
def _in_notebook(title: str, unit: str) -> Iterator[Bar]:
    """Show one bar below the cell, which is gone when the stage ends; it needs no widgets."""
    from html import escape

    from IPython.display import display

    shown: Any = display({"text/html": ""}, raw=True, display_id=True)

    def show(line: str, done: int, total: int | None) -> None:
        share = "" if not total else f' value="{done}" max="{total}"'
        shown.update({"text/html": f"<progress{share}></progress> {escape(line)}"}, raw=True)

    try:
        yield _Lines(title, unit, every_s=0.5, show=show)
    finally:
        shown.update({"text/html": ""}, raw=True)


def _print_line(line: str, done: int, total: int | None) -> None:
    print(line, file=sys.stderr, flush=True)


class _Lines:
    """A display of one line every few seconds: ``title 1,200/4,000 (350 img/s, ETA 0:08)``."""

    def __init__(
        self, title: str, unit: str, every_s: float = 10.0, show: Callable[[str, int, int | None], None] = _print_line
    ) -> None:
        import time

        self._clock, self._show = time.monotonic, show
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
        self._show(f"{self._title} {done:,}{of}{speed} {note}".rstrip(), done, total)

    def _speed(self, n_done: int, seconds: float, n_left: int | None) -> str:
        """Return the rate and the time left in parentheses, or ``""`` if no work was done yet."""
        if n_done <= 0:
            return ""
        rate = n_done / max(seconds, 1e-6)
        if n_left is None or not _can_tell(n_done, n_done + n_left, seconds):
            return f" ({rate:,.1f} {self._unit}/s)"
        minutes, rest = divmod(round(n_left / rate), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
        return f" ({rate:,.1f} {self._unit}/s, ETA {left})"
