"""What reviewers decided is in every file of answers, with who decided it."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from answered import FOX, HUMAN, MAMMAL, answer, draw, read
from packaged import BERLIN, photograph, validate, validate_profile

from linnaea.predict.detections import Detections
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row
from linnaea.predict.outputs.write import WRITERS, write_rows
from linnaea.predict.records.decisions import Decision, Kind, Verdicts
from linnaea.predict.records.sorting import sort_photographs


def verdicts(*decisions: Decision) -> Verdicts:
    made = Verdicts()
    for one in decisions:
        made.add(one)
    return made


def decided(path: Path, kind: Kind, reviewer: str = "Ann", **facts: Any) -> Decision:
    return Decision(file_name=str(path), reviewer=reviewer, kind=kind, time="2024-05-02T10:00:00.500Z", **facts)


@pytest.fixture
def card(tmp_path: Path) -> list[Path]:
    return [photograph(tmp_path / f"card/north/{name}.jpg", 600 * n) for n, name in enumerate("abcdef")]


@pytest.fixture
def rows(card: list[Path]) -> list[Row]:
    return answer(list_inputs([str(card[0].parent.parent)]), FOX, MAMMAL)


@pytest.fixture
def made(card: list[Path]) -> Verdicts:
    """Of six photographs all but the last are decided; two reviewers disagree on the fifth."""
    a, b, c, d, e, _ = card
    return verdicts(
        decided(a, Kind.CONFIRMED, taxon=FOX), decided(a, Kind.CORRECTED, "Ben", taxon=FOX),
        decided(b, Kind.CORRECTED, taxon=HUMAN, answer="Vulpes vulpes", score=0.75),
        decided(c, Kind.UNKNOWN), decided(d, Kind.NOTHING),
        decided(e, Kind.CONFIRMED, taxon=FOX), decided(e, Kind.NOTHING, "Ben"),
    )  # fmt: skip


def test_tables_say_what_was_decided_and_by_whom(rows: list[Row], made: Verdicts, tmp_path: Path) -> None:
    for form in ("csv", "xlsx", "parquet", "jsonl"):
        write_rows(tmp_path / f"out.{form}", form, iter(rows), Context(decisions=made))
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["review"].to_list() == ["corrected", "corrected", "cannot tell", "nothing there", "disputed",
                                         "disputed", "", ""]  # fmt: skip
    assert table["reviewed_by"].to_list()[:2] == ["Ann | Ben", "Ann"]
    assert table["reviewed_at"][0] == "2024-05-02T10:00:00Z"
    assert table["species"].to_list()[:4] == ["Vulpes vulpes", "Homo sapiens", "", ""]
    assert table["score"].to_list()[:4] == [0.75, None, None, None], "the model's probability of that taxon"
    assert table["reason"][1] == "the model said Vulpes vulpes (0.75)"
    assert "Ben: nothing there" in table["reason"][4]
    text = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["review"] for row in text] == table["review"].to_list()
    assert pl.read_excel(tmp_path / "out.xlsx")["review"].fill_null("").to_list() == table["review"].to_list()
    assert [json.loads(line)["review"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        *table["review"]
    ]


def test_without_decisions_nothing_changes(rows: list[Row], tmp_path: Path) -> None:
    write_rows(tmp_path / "out.csv", "csv", iter(rows))
    assert "review" not in (tmp_path / "out.csv").read_text()


def test_a_camtrap_package_says_that_a_person_classified(rows: list[Row], made: Verdicts, tmp_path: Path) -> None:
    write_rows(tmp_path / "package", "camtrapdp-package", rows, Context(decisions=made, zone=BERLIN))
    assert validate(tmp_path / "package") == validate_profile(tmp_path / "package") == []
    with (tmp_path / "package/observations.csv").open() as stream:
        seen = [row for row in csv.DictReader(stream) if row["observationLevel"] == "media"]
    assert [(row["observationType"], row["scientificName"], row["classificationMethod"]) for row in seen] == [
        ("animal", "Vulpes vulpes", "human"), ("human", "Homo sapiens", "human"), ("unknown", "", "human"),
        ("blank", "", "human"), ("animal", "Vulpes vulpes", "machine"), ("animal", "Vulpes vulpes", "machine"),
    ]  # fmt: skip
    assert seen[0]["classifiedBy"] == "Ann | Ben"
    assert seen[0]["classificationTimestamp"] == "2024-05-02T10:00:00Z"
    assert seen[0]["classificationProbability"] == ""
    assert seen[5]["classifiedBy"].startswith("linnaea")
    assert "reviewers disagree" in seen[4]["observationComments"]


def test_a_darwin_core_archive_says_what_was_verified(rows: list[Row], made: Verdicts, tmp_path: Path) -> None:
    from dwca.read import DwCAReader

    write_rows(tmp_path / "out.zip", "dwca", rows, Context(decisions=made, zone=BERLIN))
    dwc = "http://rs.tdwg.org/dwc/terms/"
    with DwCAReader(str(tmp_path / "out.zip")) as archive:
        found = [{key.removeprefix(dwc): value for key, value in row.data.items()} for row in archive]
    assert [row["identificationVerificationStatus"] for row in found] == ["verified", "disputed", "unverified"]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert "1 of 3 identifications have been verified by a person" in archive.read("eml.xml").decode()
    assert [row["identifiedBy"] for row in found[:2]] == ["Ann | Ben", found[2]["identifiedBy"]]
    assert found[0]["dateIdentified"] == "2024-05-02T10:00:00Z"
    assert "confirmed" in found[0]["identificationRemarks"] or "corrected" in found[0]["identificationRemarks"]


def test_photographs_are_sorted_by_what_was_decided(rows: list[Row], made: Verdicts, tmp_path: Path) -> None:
    sort_photographs(rows, tmp_path / "sorted", Context(decisions=made))
    places = {path.name: path.parent.name for path in (tmp_path / "sorted").rglob("*.jpg")}
    assert places == {"a.jpg": "Vulpes vulpes", "b.jpg": "human", "c.jpg": "unknown", "d.jpg": "blank",
                      "e.jpg": "Vulpes vulpes", "f.jpg": "Vulpes vulpes"}  # fmt: skip


@pytest.mark.parametrize("form", ["megadetector", "speciesnet", "speciesnet-legacy", "html", "camtrapdp"])
def test_every_other_writer_takes_a_reviewers_word(
    form: str, rows: list[Row], made: Verdicts, tmp_path: Path, card: list[Path]
) -> None:
    context = Context(decisions=made)
    write_rows(tmp_path / "out", form, rows, context)
    text = (tmp_path / "out").read_text()
    assert "sapiens" in text.lower() or "human" in text.lower()
    assert form in WRITERS


@pytest.fixture
def two_boxes(tmp_path: Path) -> Detections:
    draw(tmp_path / "a.jpg")
    found = [{"category": "1", "conf": 0.9, "bbox": [0.1 * n, 0.1, 0.4, 0.4]} for n in range(2)]
    return read(tmp_path / "md.json", {"images": [{"file": "a.jpg", "detections": found}]})


@pytest.mark.parametrize(("empty", "kinds"), [([0], ["animal"]), ([0, 1], ["blank"]), ([], ["animal", "animal"])])
def test_a_box_in_which_nothing_is_makes_no_photograph_blank(
    empty: list[int], kinds: list[str], two_boxes: Detections, tmp_path: Path
) -> None:
    answers = answer(two_boxes.inputs(), FOX)
    names = [row["file_name"] for row in answers]
    made = verdicts(*(decided(Path(names[n]), Kind.NOTHING) for n in empty))
    write_rows(tmp_path / "out.csv", "camtrapdp", answers, Context(decisions=made, detections=two_boxes))
    seen = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["observationType"] for row in seen] == kinds
    assert {row["mediaID"] for row in seen} == {str(tmp_path / "a.jpg")}
