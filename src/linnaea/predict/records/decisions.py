"""What reviewers decided about answers, kept in an append-only file, a line of JSON for each decision.

A line is on the disk before the reviewer sees the next photograph. A line that ``kill -9`` or a power failure has torn
is cut when the file is opened for writing, and ignored by readers. Nothing else is ever removed: to undo a decision is
one more line.
"""

import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

from linnaea.errors import LinnaeaError, UsageError
from linnaea.storage import check_regular, explain_json_error, explain_os_errors, open_regular, sync_to_disk
from linnaea.taxonomy.columns import answer_names
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

NAME_AT_MOST = 100
"""The number of characters of a reviewer's name."""


class Kind(StrEnum):
    """What a reviewer decided."""

    CONFIRMED = "confirmed"
    """The first answer is right."""
    CORRECTED = "corrected"
    """It is another taxon."""
    UNKNOWN = "cannot tell"
    """The photograph does not show enough."""
    NOTHING = "nothing there"
    """No organism is on the photograph, or in the box."""


DISPUTED = "disputed"
"""The verdict on a photograph on which reviewers disagree."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A decision on one photograph, or on one detected part of it."""

    file_name: str
    """As in the answers."""
    reviewer: str
    kind: Kind
    taxon: Taxon | None = None
    """The taxon on the photograph, if the answer was confirmed or corrected."""
    answer: str = ""
    """The name that the model gave."""
    score: float | None = None
    bbox: str = ""
    event: str = ""
    time: str = ""
    """ISO 8601, UTC."""
    batch: str = ""
    """The same for decisions that were made, and are undone, together."""

    def __post_init__(self) -> None:
        named = self.kind in (Kind.CONFIRMED, Kind.CORRECTED)
        if named != (self.taxon is not None):
            raise ValueError(f"a decision {self.kind} has {'a' if named else 'no'} taxon")
        if not self.reviewer or self.reviewer != " ".join(self.reviewer.split()):
            raise ValueError("a reviewer has a name without stray white space")
        if len(self.reviewer) > NAME_AT_MOST:
            raise ValueError(f"a reviewer's name has at most {NAME_AT_MOST} characters")

    @property
    def outcome(self) -> str:
        """Return what two reviewers who agree have in common."""
        return str(self.kind) if self.taxon is None else self.taxon.name

    def to_json(self) -> dict[str, Any]:
        """Return the line of the file; the taxon has the names of the columns of answers."""
        taxon = {} if self.taxon is None else {"taxon": {k: v for k, v in answer_names(self.taxon).items() if v}}
        score = {} if self.score is None else {"score": self.score}
        texts = {name: getattr(self, name) for name in ("answer", "bbox", "event") if getattr(self, name)}
        return {"time": self.time, "reviewer": self.reviewer, "file_name": self.file_name, "decision": str(self.kind),
                **taxon, **texts, **score, "batch": self.batch}  # fmt: skip

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> "Decision":
        """Read a line of the file.

        Raises:
            ValueError: it is not a decision; the error says why.
        """
        stated, score = line.get("taxon"), line.get("score")
        texts = {name: _text_in(line, name) for name in ("answer", "bbox", "event", "time", "batch")}
        if missing := [name for name in ("file_name", "reviewer", "decision") if not line.get(name)]:
            raise ValueError(f"it has no {missing[0]}")
        if not isinstance(stated, Mapping | None):
            raise ValueError("its taxon is not an object")
        box = texts["bbox"].split()
        if len(box) not in (0, 4) or not all(map(is_number, box)):
            raise ValueError(f"its bbox is {texts['bbox']!r:.40}, not four numbers")
        if isinstance(score, bool) or not (score is None or (isinstance(score, int | float) and math.isfinite(score))):
            raise ValueError(f"its score is {score!r:.40}, not a number")
        return cls(
            file_name=_text_in(line, "file_name"), reviewer=_text_in(line, "reviewer"),
            kind=Kind(_text_in(line, "decision")), taxon=None if stated is None else taxon_of(stated),
            score=None if score is None else float(score), **texts,
        )  # fmt: skip


def is_number(word: str) -> bool:
    """Return whether a word is a finite number."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def _text_in(values: Mapping[str, Any], name: str) -> str:
    """Return a text, ``""`` if it is not there."""
    text = values.get(name)
    if not isinstance(text, str | None):
        raise ValueError(f"its {name} is {text!r:.40}, not a text")
    return text or ""


def taxon_of(names: Mapping[str, Any]) -> Taxon:
    """Return the taxon in the columns of answers, where ``species`` is a binomial.

    Raises:
        ValueError: the names are not a taxon.
    """
    ranks = {label: _text_in(names, label) for label in RANK_LABELS[: Rank.SPECIES]}
    return Taxon.of(ranks | {"species": _text_in(names, "species_epithet")}, common_name=_text_in(names, "common_name"))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all reviewers decided about one photograph or detected part: the last decision of each."""

    decisions: tuple[Decision, ...]

    @property
    def is_disputed(self) -> bool:
        """Return whether reviewers disagree."""
        return len({one.outcome for one in self.decisions}) > 1

    @property
    def agreed(self) -> Decision | None:
        """Return the last decision, if all reviewers agree; of two in one millisecond the later line."""
        return None if self.is_disputed else max(reversed(self.decisions), key=lambda one: one.time)

    @property
    def word(self) -> str:
        """Return the kind of the decision, or ``disputed``."""
        return DISPUTED if self.agreed is None else str(self.agreed.kind)

    @property
    def reviewers(self) -> str:
        """Return the names of the reviewers."""
        return " | ".join(sorted({one.reviewer for one in self.decisions}))

    @property
    def time(self) -> str:
        """Return when the last decision was made."""
        return max(one.time for one in self.decisions)

    @property
    def remark(self) -> str:
        """Return who said what, where reviewers disagree."""
        if not self.is_disputed:
            return ""
        return "reviewers disagree: " + ", ".join(f"{one.reviewer}: {one.outcome}" for one in self.decisions)


class Verdicts:
    """The decisions of a file in their order, with what is undone, and the verdict on each photograph."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, list[Decision]]] = {}
        """The decisions of each reviewer on each photograph, oldest first."""
        self._batches: dict[str, list[list[Decision]]] = {}
        """The decisions of each reviewer in the order that undoing takes."""

    def __getitem__(self, file_name: str) -> Verdict | None:
        last = tuple(made[-1] for made in self._of.get(file_name, {}).values() if made)
        return Verdict(decisions=last) if last else None

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def items(self) -> Iterator[tuple[str, Verdict]]:
        """Yield the photographs that have a decision."""
        for name in self._of:
            if (verdict := self[name]) is not None:
                yield name, verdict

    def add(self, decision: Decision) -> None:
        """Add a decision, which replaces the same reviewer's earlier one on the same photograph."""
        self._of.setdefault(decision.file_name, {}).setdefault(decision.reviewer, []).append(decision)
        batches = self._batches.setdefault(decision.reviewer, [])
        if not (batches and batches[-1][0].batch == decision.batch and decision.batch):
            batches.append([])
        batches[-1].append(decision)

    def last_batch(self, reviewer: str) -> Sequence[Decision]:
        """Return the decisions that the reviewer's next undo takes back."""
        batches = self._batches.get(reviewer)
        return batches[-1] if batches else ()

    def undo(self, reviewer: str) -> None:
        """Take the reviewer's last decisions back; the ones before count again."""
        for one in self._batches[reviewer].pop():
            self._of[one.file_name][reviewer].remove(one)


def read_decisions(*paths: Path) -> Verdicts:
    """Return the verdicts of one or several files of decisions.

    Raises:
        LinnaeaError: a file cannot be read, or a line is not a decision.
    """
    verdicts = Verdicts()
    for path in paths:
        with explain_os_errors(path), open_regular(path) as stream:
            _take_lines(path, stream.read(), verdicts)
    return verdicts


def _take_lines(path: Path, content: bytes, verdicts: Verdicts) -> None:
    whole, _, torn = content.rpartition(b"\n")  # what follows the last line end is torn
    if torn and not torn.startswith(b"{"):
        raise LinnaeaError(f"{path}: not a file of decisions; the review page writes one, a line of JSON for each")
    for number, line in enumerate(whole.split(b"\n"), start=1):
        if not line.strip():
            continue
        if why := _take(line, verdicts):
            raise LinnaeaError(f"{path}: line {number} is not a decision ({why}); mend or remove the line")


def _take(line: bytes, verdicts: Verdicts) -> str:
    """Add a line of a file to the verdicts; return why it is not a decision, ``""`` if it is."""
    try:
        stated = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {explain_json_error(error)}"
    if not isinstance(stated, dict):
        return "not an object"
    try:
        if "undone" not in stated:
            verdicts.add(Decision.of_json(stated))
        elif not verdicts.last_batch(_text_in(stated, "reviewer")):
            return "it undoes a decision that is not there"
        else:
            verdicts.undo(stated["reviewer"])
    except ValueError as error:
        return str(error)
    return ""


class DecisionLog:
    """A file of decisions that is open for more; each is on the disk when the call returns."""

    def __init__(self, path: Path) -> None:
        """Open or begin the file; a torn last line is cut.

        Raises:
            LinnaeaError: the file cannot be read or written, or a line is not a decision.
        """
        self.path, self._lock = path, threading.Lock()
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            check_regular(path)
            path.touch()
            if is_new:
                sync_to_disk(path.parent)
            self.verdicts = read_decisions(path)
            _cut_torn_line(path)

    def add(self, decisions: Iterable[Decision]) -> None:
        """Append decisions that are made together."""
        time, batch = _now(), uuid4().hex[:12]
        stamped = [replace(one, time=time, batch=batch) for one in decisions]
        with self._lock:
            self._append(one.to_json() for one in stamped)
            for one in stamped:
                self.verdicts.add(one)

    def undo(self, reviewer: str) -> list[str]:
        """Take back the reviewer's last decision, and those made with it; return the photographs.

        Raises:
            UsageError: there is nothing to undo.
        """
        with self._lock:
            last = self.verdicts.last_batch(reviewer)
            if not last:
                raise UsageError("nothing to undo")
            names = [one.file_name for one in last]
            self._append([{"time": _now(), "reviewer": reviewer, "undone": last[0].batch}])
            self.verdicts.undo(reviewer)
            return names

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        with explain_os_errors(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, content) < len(content):  # the disk is full
                    os.ftruncate(descriptor, before)
                    raise LinnaeaError(f"{self.path}: the decision could not be written; is the disk full?")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as stream:
        content = stream.read()
        if content and not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)
            os.fsync(stream.fileno())
