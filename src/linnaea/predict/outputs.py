"""Predictions as rows (pybioclip's columns first, then Linnaea's), and the files they are written to.

While a command runs, its rows go to ``OUTPUT.journal``, a line per photograph. The output appears at the end, whole.
Until then the same command resumes from the journal.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from csv import DictWriter
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import polars as pl

from linnaea import __version__
from linnaea.data.images import ImageError
from linnaea.page import Card, Cards, Page, Section, Text
from linnaea.predict.classifier import Guess
from linnaea.predict.inputs import NO_ANIMAL, Box, Input, find_input
from linnaea.predict.predictor import Answer, Predictor
from linnaea.predict.priors import time_of_photograph
from linnaea.storage import atomic_path, explain_os_errors
from linnaea.taxonomy.columns import ANSWER_COLUMNS, answer_names
from linnaea.taxonomy.ranks import RANK_LABELS

Row = dict[str, Any]

NUMBERS = ("score", "detection_confidence")

ROWS_AT_ONCE = 50_000

PACKAGES = ("torch", "open-clip-torch", "numpy", "pillow", "simplejpeg")
"""Packages whose versions can change an answer's last digits."""


WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The box of a photograph that no detector has seen."""

OBSERVATION_COLUMNS = (
    "observationID", "deploymentID", "mediaID", "eventID", "eventStart", "eventEnd", "observationLevel",
    "observationType", "cameraSetupType", "scientificName", "count", "lifeStage", "sex", "behavior", "individualID",
    "individualPositionRadius", "individualPositionAngle", "individualSpeed", "bboxX", "bboxY", "bboxWidth",
    "bboxHeight", "classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability",
    "observationTags", "observationComments",
)  # fmt: skip
"""``observations.csv`` of Camtrap DP 1.0 (tdwg/camtrap-dp)."""

CARDS_AT_MOST = 2_000
THUMBNAIL = 220
"""The longer side of a photograph on a page, in pixels."""


@runtime_checkable
class Writable(Protocol):
    """Standard output, or an open text file."""

    def write(self, text: str, /) -> Any: ...


def make_row(file_name: str, guess: Guess) -> Row:
    """Return an answer as a row; ``species`` is the binomial, empty above species rank."""
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
    """Return the row of a photograph without an answer, with the reason."""
    empty = {**dict.fromkeys(ANSWER_COLUMNS, ""), "file_name": printable(file_name), **dict.fromkeys(NUMBERS)}
    return {**empty, "status": status, "reason": printable(reason)}


def rows_of(answer: Answer) -> list[Row]:
    """Return the rows of one photograph: one per guess, or one with the reason why there is none."""
    box = " ".join(f"{value:g}" for value in answer.input.box) if answer.input.box else ""
    rows = [make_row(answer.input.name, guess) for guess in answer.guesses]
    if not rows:
        score = None if answer.score is None else float(f"{answer.score:.7g}")
        rows = [make_empty_row(answer.input.name, answer.status, answer.reason) | {"score": score}]
    confidence = answer.input.detection_confidence
    return [row | {"prior": answer.prior, "bbox": box, "detection_confidence": confidence} for row in rows]


def printable(text: str) -> str:
    """Return text that every file can hold; bytes of a file name that are not UTF-8 are shown as ``\\xff``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def write_csv(stream: Writable, rows: Iterable[Row]) -> None:
    writer = DictWriter(stream, ANSWER_COLUMNS, lineterminator="\n")
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
"""The format for each file suffix."""


def _by_photograph(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    for name, of_one in groupby(rows, key=lambda row: str(row["file_name"])):
        yield name, list(of_one)


def _box(row: Row) -> Box:
    numbers = tuple(float(word) for word in str(row["bbox"]).split())
    return numbers if len(numbers) == 4 else WHOLE


def _file_of(name: str, row: Row) -> str:
    """Return the picture that a crop ``picture.jpg#3`` belongs to."""
    return name.rpartition("#")[0] if row["bbox"] else name


def write_megadetector(stream: Writable, rows: Iterable[Row]) -> None:
    """Write MegaDetector's batch format, version 1.6, with the taxa as classifications, best first.

    A photograph that no detector has seen has one detection, the whole picture, with confidence 1. A photograph in
    which a detector found no animal has none.
    """
    numbers: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    images = []
    parts = ((_file_of(name, of_one[0]), of_one) for name, of_one in _by_photograph(rows))
    for file, group in groupby(parts, key=lambda part: part[0]):
        image: dict[str, Any] = {"file": file, "detections": []}
        for _, of_one in group:
            if of_one[0]["status"] == "failed":
                image |= {"failure": of_one[0]["reason"], "detections": None}
                break
            if of_one[0]["reason"] == NO_ANIMAL:
                continue
            scores = []
            for row in (row for row in of_one if row["status"] == "ok"):
                name = _name(row)
                number = numbers.setdefault(name, str(len(numbers)))
                descriptions[number] = _description(row)
                scores.append([number, row["score"]])
            seen = of_one[0]["detection_confidence"]
            detection = {
                "category": "1",
                "conf": 1.0 if seen is None else seen,
                "bbox": list(_box(of_one[0])),
                "classifications": scores,
            }
            image["detections"].append(detection)
        images.append(image)
    content = {
        "info": {"format_version": "1.6", "classifier": f"linnaea {__version__}",
                 "classification_completion_time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "classification_categories": {number: name for name, number in numbers.items()},
        "classification_category_descriptions": descriptions,
        "images": images,
    }  # fmt: skip
    stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _name(row: Row) -> str:
    """Return the finest name of a row."""
    if row["species"]:
        return str(row["species"])
    ranks = [row[label] for label in reversed(RANK_LABELS[:-1]) if row[label]]
    return str(ranks[0] if ranks else row["common_name"])


def _description(row: Row) -> str:
    """Return ``id;class;order;family;genus;species;common name`` in lower case, as camera-trap software writes it."""
    words = [row[label] for label in ("class", "order", "family", "genus")]
    words += [row["species_epithet"], row["common_name"]]
    key = hashlib.blake2b(";".join(words).encode(), digest_size=8).hexdigest()
    return ";".join([key, *(word.lower() for word in words)])


def write_camtrapdp(stream: Writable, rows: Iterable[Row]) -> None:
    """Write ``observations.csv`` of Camtrap DP 1.0: the first answer of each photograph or detection.

    ``mediaID`` is the file's name. The event is the time of the photograph, if its EXIF states one with the UTC offset
    that the format requires. Deployments and other times are left to software that knows them.
    """
    table = DictWriter(stream, OBSERVATION_COLUMNS, lineterminator="\n")
    table.writeheader()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, of_one in _by_photograph(rows):
        row = of_one[0]
        answered = row["status"] == "ok"
        is_animal = answered and row["kingdom"] in ("Animalia", "Metazoa")
        kind = "blank" if row["reason"] == NO_ANIMAL else "animal" if is_animal else "unclassified"
        box = dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), _box(row), strict=True)) if row["bbox"] else {}
        taken = time_of_photograph(Path(_file_of(name, row)))
        moment = taken.isoformat() if taken else ""
        table.writerow({
            "observationID": hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
            "mediaID": _file_of(name, row), "eventStart": moment, "eventEnd": moment, "observationLevel": "media",
            "observationType": kind,
            "scientificName": _name(row) if answered else "", **box,
            "classificationMethod": "machine", "classifiedBy": f"linnaea {__version__}",
            "classificationTimestamp": now, "classificationProbability": row["score"] if answered else "",
            "observationComments": row["reason"],
        })  # fmt: skip


def write_contact_sheet(stream: Writable, rows: Iterable[Row]) -> None:
    """Write a page with at most :data:`CARDS_AT_MOST` photographs and their answers; a line counts the rest."""
    groups = _by_photograph(rows)
    cards = [_card(name, of_one) for name, of_one in islice(groups, CARDS_AT_MOST)]
    n_more = sum(1 for _ in groups)
    words = f"{len(cards):,} photographs" + (f"; {n_more:,} more are not shown" if n_more else "")
    note = "The percentages are the model's probabilities among its labels."
    page = Page("Predictions", words, [Section("Photographs", [Text(note), Cards(cards, width=180)])])
    stream.write(page.html())


def _card(name: str, of_one: list[Row]) -> Card:
    lines = [f"{_name(row)} ({row['score']:.0%})" for row in of_one[:3] if row["status"] == "ok"]
    lines = lines or [f"{of_one[0]['status']}: {of_one[0]['reason']}"]
    common = of_one[0]["common_name"]
    return Card(_thumbnail(name, of_one[0]), alt=name, lines=[lines[0], *([common] if common else []), *lines[1:],
                                                              name.rpartition("/")[2]])  # fmt: skip


def _thumbnail(name: str, row: Row) -> bytes:
    """Return a small JPEG of the photograph, or a grey one if it cannot be read."""
    try:
        picture = find_input(name, _box(row) if row["bbox"] else None).load(THUMBNAIL)
    except ImageError:
        picture = np.full((THUMBNAIL * 3 // 4, THUMBNAIL, 3), 200, np.uint8)
    scale = THUMBNAIL / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return bytes(jpeg.tobytes())


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
    """The finished photographs and their rows, kept on disk so that they survive ``kill -9``."""

    def __init__(self, output: Path, question: Mapping[str, Any]) -> None:
        """Open the journal; ``question`` is all that answers depend on, and a journal of another one is discarded."""
        self.path = output.with_name(f"{output.name}.journal")
        self._head = json.dumps({"question": dict(question)}, sort_keys=True)
        self.done = self._read()

    def _read(self) -> set[str]:
        if not self.path.exists():
            return self._begin([])
        lines = self.path.read_text().split("\n")
        if lines[0] != self._head:
            return self._begin([])
        whole = lines[1:-1]  # anything after the last line end is torn
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
        """Answer the inputs that are not done yet, and keep their rows."""
        todo = [*self._unfinished(inputs, predictor.batch_size)]
        n_before = len(inputs) - len(todo)
        on_progress(n_before, len(inputs))
        for done, answer in enumerate(predictor.answer(todo), start=n_before + 1):
            if answer.input.name not in self.done:
                self.add(answer.input.name, rows_of(answer))
            on_progress(done, len(inputs))

    def _unfinished(self, inputs: Sequence[Input], batch_size: int) -> Iterator[Input]:
        """Yield all inputs of each batch that lacks one: in the same batch an image gets the same bits."""
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
