"""Votes of Zooniverse: the choice of each is a name, and a subject is what most say."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from linnaea.data.sources import Record
from linnaea.data.sources.table import TableSource
from linnaea.tables import read_table
from linnaea.taxonomy.name_tables import read_name_table
from linnaea.taxonomy.votes import count_votes

HEADER = ("classification_id", "user_name", "workflow_id", "metadata", "annotations", "subject_data", "subject_ids")


def survey(*choices: str) -> list[dict[str, Any]]:
    return [{"task": "T0", "value": [{"choice": choice, "answers": {"HOWMANY": "1"}} for choice in choices]}]


def question(answer: str | None) -> list[dict[str, Any]]:
    return [{"task": "T1", "task_label": "What is it?", "value": answer}]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    votes = [
        ("a.jpg", survey("LION")), ("a.jpg", survey("LION")), ("a.jpg", survey("NOTHINGHERE")),
        ("b.jpg", question("Pica pica")), ("c.jpg", survey("ZEBRA")), ("c.jpg", survey("LION")),
        ("d.jpg", question(None)), ("e.jpg", survey("Pica pica", "Corvus corax")),
    ]  # fmt: skip
    with (tmp_path / "votes.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for number, (name, annotations) in enumerate(votes):
            subject = {str(100 + number): {"retired": None, "#Filename": name}}
            writer.writerow([number, "ann", 1, "{}", json.dumps(annotations), json.dumps(subject), 100 + number])
    return tmp_path / "votes.csv"


def test_each_vote_names_what_it_chooses(export: Path) -> None:
    assert read_name_table(export).names.to_list() == [
        "Lion", "Lion", "Nothinghere", "Pica pica", "Zebra", "Lion", "", "Pica pica and Corvus corax",
    ]  # fmt: skip


def test_a_subject_is_what_most_votes_say_and_a_tie_is_nothing(export: Path) -> None:
    assert count_votes(read_table(export).rows).rows() == [
        ("a.jpg", "Lion", "3"), ("b.jpg", "Pica pica", "1"), ("c.jpg", "", "2"), ("d.jpg", "", "1"),
        ("e.jpg", "Pica pica and Corvus corax", "1"),
    ]  # fmt: skip
    source = TableSource(table=export, root=export.parent, path_column="filepath")
    found = {item.record_id: item.taxon if isinstance(item, Record) else item.reason for item in source.records()}
    assert [getattr(found[name], "scientific_name", "") for name in ("a.jpg", "b.jpg")] == ["", "Pica pica"]
    assert found["c.jpg"] == found["d.jpg"] == "no name at any rank"
    assert isinstance(found["e.jpg"], str)
