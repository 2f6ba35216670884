"""Predictions as rows: pybioclip's columns first, ours after them; and the files they are written to.

While a command runs its rows go to ``OUTPUT.journal``, a line per photograph. The output itself appears at the
end, whole; until then the same command goes on from the journal.
"""

import csv
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from linnaea import __version__
from linnaea.predict.classifier import Guess
from linnaea.predict.exchange import Row, Writable, write_camtrapdp, write_contact_sheet, write_megadetector
from linnaea.predict.inputs import Input
from linnaea.predict.predictor import Answer, Predictor
from linnaea.storage import atomic_path, explain_os_errors
from linnaea.taxonomy.columns import ANSWER_COLUMNS, answer_names

NUMBERS = ("score", "detection_confidence")

ROWS_AT_ONCE = 50_000

PACKAGES = ("torch", "open-clip-torch", "numpy", "pillow", "simplejpeg")
"""Whose versions can change an answer's last digits."""


def make_row(file_name: str, guess: Guess) -> Row:
    """One answer as a row; ``species`` is the binomial, empty above species rank."""
    return {
        "file_name": printable(file_name),
        **answer_names(guess.taxon),
        "score": float(f"{guess.score:.7g}"),
        "rank": guess.rank.label if guess.rank is not None else "",
        "status": "ok",
        "reason": "",
        "prior": "",
        "bbox": "",
        "detection_confidence": None,
    }


def make_empty_row(file_name: str, status: str, reason: str) -> Row:
    """A photograph without an answer, and why."""
    empty = {**dict.fromkeys(ANSWER_COLUMNS, ""), "file_name": printable(file_name), **dict.fromkeys(NUMBERS)}
    return {**empty, "status": status, "reason": printable(reason)}


def rows_of(answer: Answer) -> list[Row]:
    """The rows of one photograph: one per guess, or one with the reason why there is none."""
    box = " ".join(f"{value:g}" for value in answer.input.box) if answer.input.box else ""
    rows = [make_row(answer.input.name, guess) for guess in answer.guesses]
    if not rows:
        score = None if answer.score is None else float(f"{answer.score:.7g}")
        rows = [make_empty_row(answer.input.name, answer.status, answer.reason) | {"score": score}]
    confidence = answer.input.detection_confidence
    return [row | {"prior": answer.prior, "bbox": box, "detection_confidence": confidence} for row in rows]


def printable(text: str) -> str:
    """Text that every file can hold: bytes of a file name that are no UTF-8 are shown as ``\\xff``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def write_csv(stream: Writable, rows: Iterable[Row]) -> None:
    writer = csv.DictWriter(stream, ANSWER_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def write_jsonl(stream: Writable, rows: Iterable[Row]) -> None:
    for row in rows:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")


FORMS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".html": "html",
    ".json": "megadetector",
}
"""The form of a file by its ending."""

WRITERS: dict[str, Callable[[Writable, Iterable[Row]], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "megadetector": write_megadetector,
    "camtrapdp": write_camtrapdp,
    "html": write_contact_sheet,
}


def table_of(rows: Iterable[Row]) -> pl.DataFrame:
    """Return rows as a table with the columns :data:`ANSWER_COLUMNS`."""
    schema = {name: pl.Float64 if name in NUMBERS else pl.String for name in ANSWER_COLUMNS}
    tables, rest = [pl.DataFrame(schema=schema)], iter(rows)
    while block := list(islice(rest, ROWS_AT_ONCE)):
        tables.append(pl.DataFrame(block, schema=schema))
    return pl.concat(tables)


def write_rows(output: Path, form: str, rows: Iterable[Row]) -> None:
    """Write a file of predictions in one step; ``form`` is one of :data:`FORMS` or of :data:`WRITERS`."""
    with atomic_path(output) as partial:
        match form:
            case "parquet":
                table_of(rows).write_parquet(partial)
            case "xlsx":
                with partial.open("wb") as stream:
                    table_of(rows).write_excel(stream, worksheet="predictions")
            case _:
                with partial.open("w", encoding="utf-8", newline="") as text:
                    WRITERS[form](text, rows)


class Journal:
    """The photographs that are done, and their rows; survives kill -9."""

    def __init__(self, output: Path, question: Mapping[str, Any]) -> None:
        """``question`` is all the answer depends on; a journal of another question is started anew."""
        self.path = output.with_name(f"{output.name}.journal")
        self._head = json.dumps({"question": dict(question)}, sort_keys=True)
        self.done = self._read()

    def _read(self) -> set[str]:
        if not self.path.exists():
            return self._begin([])
        lines = self.path.read_text().split("\n")
        if lines[0] != self._head:
            return self._begin([])
        whole = lines[1:-1]  # what follows the last line end is torn
        return self._begin(whole)

    def _begin(self, lines: list[str]) -> set[str]:
        with atomic_path(self.path) as partial:
            partial.write_text("".join(f"{line}\n" for line in [self._head, *lines]))
        return {json.loads(line)["file_name"] for line in lines}

    def add(self, file_name: str, rows: list[Row]) -> None:
        with explain_os_errors(self.path), self.path.open("a") as stream:
            stream.write(json.dumps({"file_name": file_name, "rows": rows}) + "\n")

    def fill(
        self, predictor: Predictor, inputs: Sequence[Input], on_progress: Callable[[int, int | None], None]
    ) -> None:
        """Answer for the inputs that are not done yet, and keep their rows."""
        todo = [*self._unfinished(inputs, predictor.batch_size)]
        n_before = len(inputs) - len(todo)
        on_progress(n_before, len(inputs))
        for done, answer in enumerate(predictor.answer(todo), start=n_before + 1):
            if answer.input.name not in self.done:
                self.add(answer.input.name, rows_of(answer))
            on_progress(done, len(inputs))

    def _unfinished(self, inputs: Sequence[Input], batch_size: int) -> Iterator[Input]:
        """Yield all inputs of the batches in which one is missing: in the same company an image gets the same bits."""
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size]
            if any(one.name not in self.done for one in batch):
                yield from batch

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

    def finish(self, output: Path, form: str, order: Iterable[str]) -> None:
        """Write the output in one step and remove the journal."""
        write_rows(output, form, self.rows(order))
        self.path.unlink()


def append_run(path: Path, facts: Mapping[str, Any], started: datetime) -> None:
    """Append a run to ``path`` (JSON lines, UTF-8): when, with what versions, and ``facts``.

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
