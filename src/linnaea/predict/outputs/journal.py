"""The journal of a running command, and the log of runs.

While a command runs, its rows go to ``OUTPUT.journal``, a line per photograph. The output appears at the end, whole.
Until then the same command resumes from the journal.
"""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linnaea import __version__
from linnaea.predict.agreement import answer_events
from linnaea.predict.inputs import Input, stamp_of
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row, rows_of
from linnaea.predict.outputs.write import write_rows
from linnaea.predict.predictor import Predictor
from linnaea.storage import atomic_path, explain_os_errors, open_regular, with_own_name
from linnaea.taxonomy.columns import ANSWER_COLUMNS

PACKAGES = ("torch", "open-clip-torch", "numpy", "pillow", "simplejpeg")
"""Packages whose versions can change an answer's last digits."""


class Journal:
    """The finished photographs and their rows, kept on disk so that they survive ``kill -9``."""

    def __init__(self, output: Path, question: Mapping[str, Any]) -> None:
        """Open the journal; ``question`` is all that answers depend on, and a journal of another one is discarded."""
        named = with_own_name(output)
        self.path = named.with_name(f"{named.name}.journal")
        self._head = json.dumps({"question": dict(question)}, sort_keys=True)
        self.done = self._read()
        """The names of the finished photographs, with the stamps of their files."""

    def is_done(self, one: Input) -> bool:
        """Return whether an input is finished, and its file is still the one that was read."""
        return one.name in self.done and self.done[one.name] == stamp_of(one)

    def _read(self) -> dict[str, list[int]]:
        if not self.path.exists():
            return self._begin([])
        with open_regular(self.path) as stream:
            lines = stream.read().decode("utf-8", "replace").split("\n")
        if lines[0] != self._head:
            return self._begin([])
        whole = lines[1:-1]  # anything after the last line end is torn
        try:
            return self._begin(whole)
        except (ValueError, KeyError, TypeError, RecursionError):  # not what a command wrote: all is answered again
            return self._begin([])

    def _begin(self, lines: list[str]) -> dict[str, list[int]]:
        done = {str(content["file_name"]): content.get("stamp", [-1]) for content in map(_parse, lines)}
        with atomic_path(self.path) as partial:
            partial.write_text("".join(f"{line}\n" for line in [self._head, *lines]))
        return done

    def add(self, one: Input, rows: list[Row]) -> None:
        line = json.dumps({"file_name": one.name, "stamp": stamp_of(one), "rows": rows})
        with explain_os_errors(self.path), self.path.open("a") as stream:
            stream.write(line + "\n")

    def fill(
        self, predictor: Predictor, inputs: Sequence[Input], on_progress: Callable[[int, int | None], None]
    ) -> None:
        """Answer the inputs that are not done yet, and keep their rows; those of one event agree."""
        if any(one.event for one in inputs):
            todo = self._of_unfinished_events(inputs)
            answers = answer_events(predictor, todo)
        else:
            todo = [*self._unfinished(inputs, predictor.batch_size)]
            answers = predictor.answer(todo)
        n_before = len(inputs) - len(todo)
        on_progress(n_before, len(inputs))
        for done, answer in enumerate(answers, start=n_before + 1):
            if not self.is_done(answer.input):
                self.add(answer.input, rows_of(answer))
            on_progress(done, len(inputs))

    def _unfinished(self, inputs: Sequence[Input], batch_size: int) -> Iterator[Input]:
        """Yield all inputs of each batch that lacks one: in the same batch an image gets the same bits."""
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            if any(not self.is_done(one) for one in batch):
                yield from batch

    def _of_unfinished_events(self, inputs: Sequence[Input]) -> list[Input]:
        """Return all inputs of each event that lacks one, event by event."""
        groups: dict[str, list[Input]] = {}
        for one in inputs:
            groups.setdefault(one.event or f"\0{one.name}", []).append(one)
        return [one for group in groups.values() if any(not self.is_done(each) for each in group) for one in group]

    def rows(self, order: Iterable[str]) -> Iterator[Row]:
        """Yield all rows, photographs in the given order."""
        place_of: dict[str, int] = {}
        with self.path.open("rb") as stream:
            place = len(stream.readline())
            for line in stream:
                place_of[json.loads(line)["file_name"]] = place
                place += len(line)
            for name in order:
                stream.seek(place_of[name])
                yield from json.loads(stream.readline())["rows"]

    def finish(self, output: Path, form: str, order: Iterable[str], context: Context = Context()) -> None:  # noqa: B008
        """Write the output in one step and remove the journal."""
        write_rows(output, form, self.rows(order), context)
        self.path.unlink()


def _parse(line: str) -> dict[str, Any]:
    """Return a line of a journal.

    Raises:
        ValueError, KeyError, TypeError: it is not one.
    """
    content: dict[str, Any] = json.loads(line)
    names = {*ANSWER_COLUMNS}
    if not isinstance(content["rows"], list) or any(not names <= {*row} for row in content["rows"]):
        raise ValueError("not the rows of a photograph")
    return content


def append_run(path: Path, facts: Mapping[str, Any], started: datetime) -> None:
    """Append a run to ``path`` (JSON lines, UTF-8): the time, the package versions, and ``facts``.

    Raises:
        LinnaeaError: the file cannot be written.
    """
    ended = datetime.now(UTC)
    line = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((ended - started).total_seconds(), 3),
        "linnaea": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": platform.node(),
        "folder": str(Path.cwd()),
        "command": sys.argv,
        **facts,
    }
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
