"""Decisions of reviewers: on the disk at once, whatever kills the process, and never lost by undoing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from answered import FOX, HUMAN

from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.records.decisions import Decision, DecisionLog, Kind, read_decisions


def decide(name: str, reviewer: str = "Ann", kind: Kind = Kind.CONFIRMED, **facts: object) -> Decision:
    named = {"taxon": FOX} if kind in (Kind.CONFIRMED, Kind.CORRECTED) else {}
    return Decision(file_name=name, reviewer=reviewer, kind=kind, **(named | facts))  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(tmp_path / "decisions.jsonl")


def word(path: Path, name: str) -> str:
    verdict = read_decisions(path)[name]
    return "" if verdict is None else verdict.word


def test_a_decision_is_read_back_as_it_was_made(log: DecisionLog) -> None:
    made = decide("a.jpg#0", answer="Vulpes", score=0.25, bbox="0 0 1 1", event="e1")
    log.add([made])
    verdict = read_decisions(log.path)["a.jpg#0"]
    assert verdict is not None
    (read,) = verdict.decisions
    assert (read.taxon, read.answer, read.score, read.bbox, read.event) == (FOX, "Vulpes", 0.25, "0 0 1 1", "e1")
    line = json.loads(log.path.read_text())
    assert (line["taxon"]["species"], line["decision"]) == ("Vulpes vulpes", "confirmed")
    assert line["time"].endswith("Z")


def test_the_last_decision_of_a_reviewer_counts_and_undoing_brings_the_one_before_back(log: DecisionLog) -> None:
    log.add([decide("a.jpg")])
    log.add([decide("a.jpg", kind=Kind.NOTHING), decide("b.jpg", kind=Kind.NOTHING)])
    assert (word(log.path, "a.jpg"), word(log.path, "b.jpg")) == ("nothing there", "nothing there")
    assert log.undo("Ann") == ["a.jpg", "b.jpg"]
    assert (word(log.path, "a.jpg"), word(log.path, "b.jpg")) == ("confirmed", "")
    assert log.undo("Ann") == ["a.jpg"]
    with pytest.raises(UsageError, match="nothing to undo"):
        log.undo("Ann")
    assert len(log.path.read_text().splitlines()) == 5, "nothing is removed"
    assert len(read_decisions(log.path)) == 0


def test_reviewers_agree_by_what_they_saw_and_their_disagreement_is_kept(log: DecisionLog) -> None:
    log.add([decide("a.jpg")])
    log.add([decide("a.jpg", "Ben", Kind.CORRECTED)])
    assert word(log.path, "a.jpg") == "corrected", "both saw a fox"
    log.add([decide("a.jpg", "Cleo", Kind.CORRECTED, taxon=HUMAN)])
    verdict = read_decisions(log.path)["a.jpg"]
    assert verdict is not None
    assert (verdict.word, verdict.agreed, verdict.reviewers) == ("disputed", None, "Ann | Ben | Cleo")
    assert "Cleo: Homo sapiens" in verdict.remark
    log.undo("Cleo")
    assert word(log.path, "a.jpg") == "corrected"


def test_a_torn_line_is_ignored_and_cut_and_any_other_is_said(log: DecisionLog) -> None:
    log.add([decide("a.jpg")])
    whole = log.path.read_bytes()
    for cut in range(1, len(whole)):
        log.path.write_bytes(whole + whole[:cut])
        assert len(read_decisions(log.path)) == 1
    again = DecisionLog(log.path)
    assert log.path.read_bytes() == whole
    again.add([decide("b.jpg")])
    assert len(read_decisions(log.path)) == 2
    log.path.write_bytes(b'{"reviewer": "Ann"}\n' + whole)
    with pytest.raises(LinnaeaError, match="line 1 is not a decision"):
        read_decisions(log.path)


WRITER = """
import sys
from pathlib import Path
from linnaea.predict.records.decisions import Decision, DecisionLog, Kind
log = DecisionLog(Path(sys.argv[1]))
number = 0
while True:
    log.add([Decision(file_name=f"{number}.jpg", reviewer="Ann", kind=Kind.NOTHING)])
    print(number, flush=True)
    number += 1
"""


@pytest.mark.long
def test_what_was_confirmed_to_the_reviewer_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
        seen += [int(line) for line in writer.stdout.read().splitlines()]
    verdicts = read_decisions(path)
    assert all(verdicts[f"{number}.jpg"] is not None for number in seen)
    assert len(DecisionLog(path).verdicts) in (len(seen), len(seen) + 1)


@pytest.mark.parametrize("reviewer", ["", " Ann", "Ann\nBen", "x" * 101])
def test_a_reviewer_has_a_name(reviewer: str) -> None:
    with pytest.raises(ValueError, match="reviewer"):
        decide("a.jpg", reviewer)
