"""What there is to review: the photographs and detected parts of a table of answers, least sure first.

Photographs of one event follow one another, where its least sure photograph stands.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from linnaea.data.copies.bursts import GAP_S
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.detections import Kind as Seen
from linnaea.predict.detections import kind_of
from linnaea.predict.inputs import NO_ANIMAL, Input, find_input, split_frame
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import NUMBERS, Row, box_of, by_photograph, probability_of, without_box
from linnaea.predict.outputs.write import write_rows
from linnaea.predict.records.decisions import Decision, Kind, Verdict, Verdicts, is_number, taxon_of
from linnaea.predict.records.media import Medium, read_events
from linnaea.predict.records.places import Find, find_places
from linnaea.predict.records.reviewed import answer_of, with_decisions
from linnaea.tables import read_table
from linnaea.taxonomy.columns import ANSWER_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.remarks import is_class_of_its_own
from linnaea.taxonomy.taxon import Taxon

TABLES = ("csv", "json", "jsonl", "parquet", "xlsx")
"""Formats that have the rows as they are, with the names of the table."""
Order: TypeAlias = Literal["sure", "random", "time"]
"""Least sure first; in an order that depends on nothing, for a fair sample; or as they were taken."""
State: TypeAlias = Literal["open", "mine", "done", "disputed", "all"]
"""Nobody has decided; this reviewer has not; somebody has; reviewers disagree; all."""

_HUMAN = Taxon(("Animalia", "Chordata", "Mammalia", "Primates", "Hominidae", "Homo", "sapiens"), common_name="Human")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A photograph, frame or detected part to decide on."""

    number: int
    rows: tuple[Row, ...]
    """Its answers, best first."""
    photograph: str
    """The name of the photograph or frame as a whole."""
    event: str
    camera: str
    """The folder of the photograph."""
    moment: str
    """When it was taken, as far as it says, ISO 8601."""

    @property
    def file_name(self) -> str:
        """Return its name in the answers."""
        return str(self.rows[0]["file_name"])

    @property
    def seen(self) -> Seen | None:
        """Return the kind of the detection; ``None`` if there was no detector."""
        word = self.rows[0]["detection_category"]
        return kind_of(word) if word else None

    @cached_property
    def certainty(self) -> float:
        """Return the probability of the first answer; the detector's confidence for what is not named."""
        row = self.rows[0]
        if row["status"] == "ok":
            return probability_of(row)
        if row["reason"] == NO_ANIMAL:
            return 1.0
        if self.seen in (Seen.HUMAN, Seen.VEHICLE):
            return 1.0 if row["detection_confidence"] is None else float(row["detection_confidence"])
        return 0.0

    @cached_property
    def offer(self) -> Taxon | Kind | None:
        """Return the answer to confirm: the first taxon, a person, nothing; ``None`` without an answer."""
        row = self.rows[0]
        if row["status"] == "ok":
            return taxon_of(row)
        if row["reason"] == NO_ANIMAL:
            return Kind.NOTHING
        return _HUMAN if self.seen is Seen.HUMAN else None

    def names(self, word: str) -> bool:
        """Tell whether the first answer has a name, of any rank, that contains a word."""
        row = self.rows[0]
        names = (*(row[label] for label in RANK_LABELS[:-1]), row["species"], row["common_name"])
        kinds = (row["detection_category"], "blank" if row["reason"] == NO_ANIMAL else "")
        return any(word in str(name).lower() for name in (*names, *kinds))

    def decide(self, kind: Kind, reviewer: str, taxon: Taxon | None = None) -> Decision:
        """Return a reviewer's decision; naming the answer's taxon confirms it.

        Raises:
            UsageError: there is no answer to confirm.
            ValueError: a correction has no taxon, or the reviewer no name.
        """
        if kind is Kind.CONFIRMED:
            if self.offer is None:
                raise UsageError(f"{self.file_name}: there is no answer to confirm; give a name")
            kind, taxon = (self.offer, None) if isinstance(self.offer, Kind) else (kind, self.offer)
        elif isinstance(self.offer, Taxon) and taxon is not None and _are_same(taxon, self.offer):
            kind, taxon = Kind.CONFIRMED, self.offer
        answer, score = answer_of([*self.rows])
        return Decision(file_name=self.file_name, reviewer=reviewer, kind=kind, taxon=taxon, answer=answer,
                        score=score, bbox=str(self.rows[0]["bbox"]), event=self.event)  # fmt: skip


def _are_same(one: Taxon, other: Taxon) -> bool:
    """Tell whether two taxa are one, whatever their common names; without a lineage, and for classes, these decide."""
    apart = not any(one.lineage) or is_class_of_its_own(one) or is_class_of_its_own(other)
    return one.lineage == other.lineage and not (apart and one.common_name != other.common_name)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which photographs to review, and in which order."""

    reviewer: str = ""
    state: State = "open"
    taxon: str = ""
    """A word of a name at any rank."""
    camera: str = ""
    at_most: float = 1.0
    """The largest certainty."""
    order: Order = "sure"


@dataclass(frozen=True, kw_only=True)
class Review:
    """A table of answers to review."""

    table: Path
    items: tuple[Item, ...]
    failed: tuple[Row, ...]
    """Rows of photographs that cannot be read, and so not be reviewed."""
    rows: tuple[Row, ...]
    """All rows of the table."""
    find: Find
    """Return where a photograph of the table lies."""

    @classmethod
    def open(cls, table: Path, *, root: Path | None = None, gap_s: float = GAP_S) -> "Review":
        """Read a table of answers (CSV, Parquet, Excel or JSON lines).

        Args:
            table: What ``predict`` has written.
            root: The folder that the photographs must lie in, and that relative names are in; by default the current
                folder or the table's, where the photographs are found.
            gap_s: Photographs of one folder with gaps of at most so many seconds are one event, unless the table has
                events.

        Raises:
            UsageError: it is not a table of answers.
            LinnaeaError: it cannot be read, or has no photographs to review.
        """
        rows = read_answers(table)
        answers = [of_one for _, of_one in by_photograph(rows)]
        failed = [of_one[0] for of_one in answers if of_one[0]["status"] == "failed"]
        shown = [tuple(of_one) for of_one in answers if of_one[0]["status"] != "failed"]
        if not shown:
            raise LinnaeaError(f"{table}: has no photographs to review")
        find = find_places([_whole(of_one[0]) for of_one in shown], table.parent, root)
        media = _read_media(shown, find, gap_s)
        items = tuple(_item(number, of_one, media) for number, of_one in enumerate(shown))
        return cls(table=table, items=items, failed=tuple(failed), rows=tuple(rows), find=find)

    @cached_property
    def events(self) -> dict[str, list[int]]:
        """Return the numbers of the items of each event, in the order in which they were taken."""
        found: dict[str, list[int]] = {}
        for one in sorted(self.items, key=lambda one: (one.moment, one.number)):
            found.setdefault(one.event, []).append(one.number)
        return found

    @property
    def cameras(self) -> dict[str, int]:
        """Return the number of items of each camera."""
        return dict(sorted(Counter(one.camera for one in self.items).items()))

    @cached_property
    def taxa(self) -> dict[str, int]:
        """Return the number of items of each answer, the most frequent first."""
        return dict(Counter(answer_of([*one.rows])[0] for one in self.items).most_common())

    def input_of(self, photograph: str) -> Input:
        """Return a photograph as a whole; nothing is fetched.

        Raises:
            LinnaeaError: it is an address, or lies outside of the root.
        """
        place = self.find(photograph)
        if isinstance(place, str):
            raise LinnaeaError(f"{photograph}: an address is not fetched")
        return find_input(str(place))

    def write(self, output: Path, form: str, verdicts: Verdicts, context: Context) -> None:
        """Write the answers with the decisions, as :func:`~linnaea.predict.outputs.write.write_rows` does."""
        rows = with_decisions(self.rows, verdicts)
        if form not in TABLES:
            rows = self.located(rows)
        write_rows(output, form, rows, replace(context, decisions=Verdicts()))

    def located(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield rows under the names by which their photographs are found from here."""
        for row in rows:
            name, photograph = str(row["file_name"]), _whole(row)
            yield row | {"file_name": f"{self.find(photograph)}{name.removeprefix(photograph)}"}

    def choose(self, wanted: Wanted, verdicts: Verdicts) -> list[int]:
        """Return the numbers of the items to review, in order."""
        word = " ".join(wanted.taxon.lower().split())
        kept = [
            one for one in self.items
            if one.certainty <= wanted.at_most and (not wanted.camera or one.camera == wanted.camera)
            and _is_in(wanted, verdicts[one.file_name]) and (not word or one.names(word))
        ]  # fmt: skip
        return [one.number for one in sorted(kept, key=_sorter(kept, wanted.order))]


def read_answers(table: Path) -> list[Row]:
    """Return the rows of a table of answers; columns that it lacks are empty.

    Raises:
        UsageError: it is not a table of answers.
        LinnaeaError: it cannot be read.
    """
    found = read_table(table, columns=ANSWER_COLUMNS).rows
    if missing := {"file_name", "species", "status"} - {*found.columns}:
        lacks = ", ".join(sorted(missing))
        raise UsageError(f"{table}: not a table of answers (no column {lacks}); linnaea predict --output writes one")
    return [_row(table, number, cells) for number, cells in enumerate(found.iter_rows(named=True), start=2)]


def _row(table: Path, number: int, cells: dict[str, str]) -> Row:
    row: Row = {name: cells.get(name, "") for name in ANSWER_COLUMNS}
    for name in (*NUMBERS, "bbox"):
        words = row[name].split()
        if len(words) not in (0, 4 if name == "bbox" else 1) or not all(map(is_number, words)):
            raise LinnaeaError(f"{table}: row {number}: {name} is {row[name]!r:.40}, not {_NUMBERS_IN[name]}")
    return row | {name: float(row[name]) if row[name] else None for name in NUMBERS}


_NUMBERS_IN = dict.fromkeys(NUMBERS, "a number") | {"bbox": "four numbers"}


def _whole(row: Row) -> str:
    return without_box(str(row["file_name"]), row["bbox"])


def _read_media(answers: Sequence[Sequence[Row]], find: Find, gap_s: float) -> dict[str, Medium]:
    """Return the time, place, camera and event of each photograph, by its name."""
    paths = {name: str(find(name)) for name in dict.fromkeys(split_frame(_whole(of_one[0]))[0] for of_one in answers)}
    by_path = {one.path: one for one in read_events(paths.values(), gap_s)}
    return {name: by_path[path] for name, path in paths.items()}


def _item(number: int, rows: tuple[Row, ...], media: dict[str, Medium]) -> Item:
    photograph = _whole(rows[0])
    file, seconds = split_frame(photograph)
    one = media[file]
    event = str(rows[0]["event"]) or one.event or (file if seconds is not None else photograph)
    return Item(number=number, rows=rows, photograph=photograph, event=event, camera=one.deployment,
                moment=one.clock or one.moment)  # fmt: skip


def _is_in(wanted: Wanted, verdict: Verdict | None) -> bool:
    match wanted.state:
        case "open":
            return verdict is None
        case "mine":
            return verdict is None or all(one.reviewer != wanted.reviewer for one in verdict.decisions)
        case "done":
            return verdict is not None
        case "disputed":
            return verdict is not None and verdict.is_disputed
        case "all":
            return True


def _sorter(items: Sequence[Item], order: Order) -> Callable[[Item], Any]:
    """Return the key that puts the items of an event together, and the events in order."""
    least: dict[str, float] = {}
    for one in items:
        least[one.event] = min(one.certainty, least.get(one.event, 1.0))
    first: dict[Order, Callable[[Item], Any]] = {
        "sure": lambda one: least[one.event],
        "random": lambda one: hashlib.blake2b(one.event.encode("utf-8", "surrogateescape")).digest(),
        "time": lambda one: one.camera,
    }
    start = {event: min(one.moment for one in members) for event, members in _members(items)}
    return lambda one: (first[order](one), start[one.event], one.event, one.moment, one.number)


def _members(items: Sequence[Item]) -> Iterator[tuple[str, list[Item]]]:
    found: dict[str, list[Item]] = {}
    for one in items:
        found.setdefault(one.event, []).append(one)
    yield from found.items()


def box_of_item(item: Item) -> list[float] | None:
    """Return the box of a detected part as shares of the picture; ``None`` for a photograph as a whole."""
    box = box_of(item.rows[0])
    return None if box is None else [*box]
