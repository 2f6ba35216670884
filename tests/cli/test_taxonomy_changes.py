"""diff and migrate from the command line: counts that add up, files in place of their inputs, clear refusals."""

from pathlib import Path

import polars as pl
import pytest
from test_taxonomy_browse import TABLE, call

from linnaea.cli import DONE, FAILED, USAGE, taxonomy_changes
from linnaea.taxonomy.changes import CHANGE_SCHEMA


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    old, new = tmp_path / "one.csv", tmp_path / "two.csv"
    old.write_text(TABLE)
    new.write_text(TABLE.replace("Corvus,corax", "Corax,corax").replace("Muscicapidae", "Turdidae"))
    return str(old), str(new)


def changes(*words: str) -> tuple[int, str]:
    return call(taxonomy_changes.COMMANDS, *words)


def test_a_difference_is_printed_and_counted(versions: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert changes("diff", *versions) == (DONE, "")
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert ["renamed", "species", "Corvus corax", "Corax corax"] in [row[:4] for row in rows]
    assert all(row[4] for row in rows)
    n_changes = len(rows) - 1
    assert f"{n_changes} changes: " in err


def test_a_difference_is_written(versions: tuple[str, str], tmp_path: Path) -> None:
    for name in ("d.csv", "d.tsv", "d.parquet"):
        assert changes("diff", *versions, "--output", str(tmp_path / name))[0] == DONE
    written = pl.read_parquet(tmp_path / "d.parquet")
    assert written.columns == list(CHANGE_SCHEMA)
    assert pl.read_csv(tmp_path / "d.csv").height == written.height > 0
    assert changes("diff", *versions, "--output", str(tmp_path / "d.xls"))[0] == USAGE


def test_the_same_checklist_has_no_difference(versions: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert changes("diff", versions[0], versions[0])[0] == DONE
    out, err = capsys.readouterr()
    assert out == ""
    assert "0 changes" in err


def test_a_label_table_is_migrated(
    versions: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = versions
    labels, output = tmp_path / "labels.csv", tmp_path / "out" / "labels.csv"
    labels.write_text("file,label\na.jpg,Corvus corax\nb.jpg,Pica pica\nc.jpg,Felis catus\nd.jpg,\n")
    words = ("migrate", str(labels), "--from", old, "--to", new, "--column", "label", "--output", str(output))
    assert changes(*words) == (DONE, "")
    assert capsys.readouterr().out == "4 labels: 1 unchanged, 1 renamed, 1 unknown, 1 empty\n"
    result = pl.read_csv(output)
    assert result["label"].to_list() == ["Corax corax", "Pica pica", "Felis catus", None]
    assert result["file"].to_list() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_wrong_calls_are_refused_before_anything_is_done(versions: tuple[str, str], tmp_path: Path) -> None:
    old, new = versions
    labels = tmp_path / "labels.csv"
    labels.write_text("label\nPica pica\n")
    there = ("migrate", str(labels), "--from", old, "--to", new)
    assert changes(*there)[0] == USAGE  # no --output
    code, message = changes(*there, "--column", "lable", "--output", str(tmp_path / "o.csv"))
    assert (code, "label" in message) == (USAGE, True)
    absent = ("migrate", str(tmp_path / "no.csv"), "--from", old, "--to", new, "--output", str(tmp_path / "o.csv"))
    assert changes(*absent)[0] == FAILED
    nothing = (
        "migrate",
        str(labels),
        "--from",
        "nowhere",
        "--to",
        new,
        "--column",
        "label",
        "--output",
        str(tmp_path / "o.csv"),
    )
    assert changes(*nothing)[0] == FAILED
    assert not (tmp_path / "o.csv").exists()
