"""A command that goes on after a kill answers again what has changed meanwhile."""

import tarfile
from pathlib import Path

from linnaea.predict.inputs import list_inputs, stamp_of
from linnaea.predict.outputs.journal import Journal
from linnaea.taxonomy.columns import ANSWER_COLUMNS

ROWS = [dict.fromkeys(ANSWER_COLUMNS)]


def test_another_photograph_of_the_same_name_is_answered_again(tmp_path: Path) -> None:
    """As on the next card, whose names begin anew."""
    card = tmp_path / "card"
    card.mkdir()
    for name in ("IMG_0001.JPG", "IMG_0002.JPG"):
        (card / name).write_bytes(b"first card")
    first, second = list_inputs([str(card)])
    journal = Journal(tmp_path / "taxa.csv", {})
    for one in (first, second):
        journal.add(one, ROWS)  # type: ignore[arg-type]
    (card / "IMG_0002.JPG").write_bytes(b"another card")
    again = Journal(tmp_path / "taxa.csv", {})
    assert [again.is_done(one) for one in (first, second)] == [True, False]
    again.add(second, [row | {"reason": "new"} for row in ROWS])  # type: ignore[list-item]
    assert [row["reason"] for row in again.rows([first.name, second.name])] == [None, "new"]


def test_a_photograph_in_memory_or_on_the_web_has_no_stamp(tmp_path: Path) -> None:
    (address,) = list_inputs(["http://example.org/a.jpg"])
    journal = Journal(tmp_path / "taxa.csv", {})
    journal.add(address, ROWS)  # type: ignore[arg-type]
    assert stamp_of(address) == []
    assert Journal(tmp_path / "taxa.csv", {}).is_done(address)


def test_a_member_has_the_stamp_of_its_tar(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff")
    path = tmp_path / "some.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "x.jpg", "x.jpg")
    (member,) = list_inputs([str(path)])
    assert stamp_of(member)[0] == path.stat().st_size
