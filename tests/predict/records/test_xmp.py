"""Names become keywords in XMP through whichever tool is there; without one, a line says so."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from answered import FOX, HUMAN, answer, draw, read

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.predict.inputs import list_inputs
from linnaea.predict.outputs.rows import make_empty_row
from linnaea.predict.outputs.write import write_rows
from linnaea.predict.records.xmp import Keywords, collect_keywords, find_writer

WORDS = Keywords(
    subjects=("Vulpes vulpes", "Red Fox"),
    lineages=("Animalia|Chordata|Mammalia|Carnivora|Canidae|Vulpes|Vulpes vulpes",),
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return draw(tmp_path / "a fox ü.jpg")


@pytest.fixture
def _no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "pyexiv2", None)


def test_keywords_are_the_names_and_the_lineage(photo: Path) -> None:
    assert collect_keywords(answer(list_inputs([str(photo)]), FOX)) == {photo: WORDS}
    assert collect_keywords(answer(list_inputs([str(photo)]))) == {}, "no answer, no keyword"


def test_a_photograph_has_the_names_of_all_its_detections(tmp_path: Path, photo: Path) -> None:
    box = {"conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5], "category": "1"}
    inputs = read(tmp_path / "md.json", {"images": [{"file": photo.name, "detections": [box, box]}]}).inputs()
    rows = [*answer(inputs[:1], FOX), *answer(inputs[1:], HUMAN)]
    (words,) = collect_keywords(rows).values()
    assert words.subjects == ("Vulpes vulpes", "Red Fox", "Homo sapiens", "Human")
    assert len(words.lineages) == 2


@pytest.mark.usefixtures("_no_tools")
def test_without_a_tool_it_is_one_line_before_anything_is_done(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linnaea.predict.records.xmp.find_spec", lambda name: None)
    assert main(["predict", str(photo), "--write-xmp", "--output", str(tmp_path / "t.csv")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "needs exiftool or pyexiv2" in error
    assert not (tmp_path / "t.csv").exists()
    assert main(["predict", str(photo), "--write-xmp"]) == 2


@pytest.mark.usefixtures("_no_tools")
def test_exiftool_is_asked_once_with_arguments_on_its_input(photo: Path, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "exiftool"
    tool.parent.mkdir()
    copy = 'while IFS= read -r line; do echo "$line"; done'
    tool.write_text(f'#!/bin/sh\n{copy} > "{tmp_path}/asked"\necho "$@" >> "{tmp_path}/asked"\n')
    tool.chmod(0o755)
    find_writer()({photo: WORDS, tmp_path / "b.jpg": WORDS})
    lines = (tmp_path / "asked").read_text().splitlines()
    assert lines[-1] == "-@ -"
    assert lines.count("-execute") == 2
    assert lines.index("-XMP-dc:Subject-=Red Fox") < lines.index("-XMP-dc:Subject+=Red Fox")
    assert f"-XMP-lr:HierarchicalSubject+={WORDS.lineages[0]}" in lines
    assert str(photo) in lines
    tool.write_text("#!/bin/sh\necho 'Error: File is read-only' >&2\nexit 1\n")
    with pytest.raises(LinnaeaError, match="exiftool could not write all keywords: Error: File is read-only"):
        find_writer()({photo: WORDS})


@pytest.mark.usefixtures("_no_tools")
def test_pyexiv2_keeps_keywords_and_the_photograph_as_it_was(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, Any] = {"Xmp.dc.subject": ["holiday", "Red Fox"]}

    class Image:
        def __init__(self, path: str) -> None:
            assert path == os.fspath(photo)

        def __enter__(self) -> "Image":
            return self

        def __exit__(self, *of: object) -> None:
            pass

        def read_xmp(self) -> dict[str, Any]:
            return dict(written)

        def modify_xmp(self, values: dict[str, Any]) -> None:
            written.update(values)

    module = ModuleType("pyexiv2")
    module.Image = Image  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyexiv2", module)
    monkeypatch.setattr("linnaea.predict.records.xmp.find_spec", lambda name: object())
    before = photo.read_bytes()
    for _ in range(2):
        find_writer()({photo: WORDS})
        assert written["Xmp.dc.subject"] == ["holiday", "Red Fox", "Vulpes vulpes"]
        assert written["Xmp.lr.hierarchicalSubject"] == list(WORDS.lineages)
    assert photo.with_name(f"{photo.name}_original").read_bytes() == before


def test_what_was_reviewed_is_written_too(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "taxa.parquet", "parquet", answer(list_inputs([str(photo)]), FOX))
    (tmp_path / "decisions.jsonl").touch()
    written: dict[Path, Keywords] = {}
    monkeypatch.setattr("linnaea.predict.records.xmp.find_writer", lambda: written.update)
    assert main(["review", str(tmp_path / "taxa.parquet"), "--write-xmp"]) == 0
    assert list(written.values()) == [WORDS]


def test_a_line_break_in_a_name_is_no_option(tmp_path: Path) -> None:
    """To exiftool, what follows a line break would be an option of its own."""
    names = ["a\n-if\n1.jpg", "b\r-o.jpg", "c\u2028d.jpg", "good.jpg"]
    rows = []
    for name in names:
        (tmp_path / name).write_bytes(b"\xff\xd8\xff")
        row = make_empty_row("", "ok", "") | {"file_name": str(tmp_path / name)}
        rows.append(row | {"genus": "Pica", "species": "Pica pica"})
    assert [path.name for path in collect_keywords(rows)] == ["good.jpg"]
