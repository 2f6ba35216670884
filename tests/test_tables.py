"""Every table that people bring is read, and what is not a table is named."""

import gzip
import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
from table_shapes import SHAPES, to_csv, write_parquet, write_shape

from linnaea import tables
from linnaea.errors import LinnaeaError, UsageError
from linnaea.tables import find_column, is_table, match_columns, need_columns, read_list, read_table, scan_table
from linnaea.tables.formats import sniff

TABLE = [
    ["name", "place", "note"],
    ["Pica pica", "Zürich", "a, b; c | d"],
    ["Corvus corax", "", 'two\nlines, and a "quote"'],
    ["Alca torda", "Málaga", "3,5"],
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_the_same_table(tmp_path: Path, shape: str) -> None:
    path = write_shape(shape, tmp_path, TABLE)
    table = read_table(path, columns=TABLE[0]).rows
    assert [table.columns, *map(list, table.rows())] == TABLE
    with scan_table(path) as lazy:
        scanned = lazy.collect().fill_null("")
    assert [list(row) for row in scanned.rows()] == TABLE[1:]


@pytest.mark.parametrize("n_rows", [0, 1, 20_000])
def test_the_separator_does_not_hang_on_the_length(tmp_path: Path, n_rows: int) -> None:
    rows = [["a", "b"], *[["x, y", "1,5"]] * n_rows]
    for separator in ",;\t|":
        path = tmp_path / "t.csv"
        path.write_text(to_csv(rows, separator))
        assert read_table(path).rows.shape == (n_rows, 2), separator


def test_a_declared_encoding_is_taken_and_a_guessed_one_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("name,place\nPica pica,Łódź\n".encode("cp1250"))
    with caplog.at_level(logging.WARNING):
        declared = read_table(path, encoding="cp1250")
        assert (declared.rows["place"][0], declared.notes, caplog.text) == ("Łódź", (), "")
        guessed = read_table(path)
    assert guessed.rows["place"][0] == "£ódŸ"
    assert guessed.notes == ("read as Windows-1252, because it is not UTF-8",)
    assert caplog.messages == [f"{path}: {guessed.notes[0]}"]
    with pytest.raises(UsageError, match="'klingon' is not an encoding"):
        read_table(path, encoding="klingon")


def test_latin_1_far_below_the_head_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"name,place\n" + b"Pica pica,here\n" * 100_000 + "Pica pica,Zürich\n".encode("latin-1"))
    assert read_table(path).rows["place"][-1] == "Zürich"
    with scan_table(path) as lazy:
        assert lazy.collect()["place"][-1] == "Zürich"


def test_utf_16_without_a_mark_is_found(tmp_path: Path) -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        (tmp_path / "t.csv").write_bytes(to_csv(TABLE).encode(encoding))
        assert read_table(tmp_path / "t.csv").rows["place"][0] == "Zürich"


def test_gzip_and_old_line_ends(tmp_path: Path) -> None:
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(to_csv(TABLE, "\t").encode("latin-1")))
    assert read_table(tmp_path / "t.tsv.gz").rows["place"].to_list() == ["Zürich", "", "Málaga"]
    (tmp_path / "t.csv").write_bytes(b"a,b\r1,2\r3,4\r")
    assert read_table(tmp_path / "t.csv").rows.rows() == [("1", "2"), ("3", "4")]


def test_quotes_in_tab_separated_text(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text('a\tb\n"one"\t"two\nlines"\n')
    assert read_table(path).rows.rows() == [("one", "two\nlines")]
    path.write_text('a\tb\n"Great" auk\t1\nPica\t12" long\n')  # GBIF quotes nothing
    assert read_table(path).rows.rows() == [('"Great" auk', "1"), ("Pica", '12" long')]


def test_a_row_with_too_many_cells(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n1,2,3\n1\n")
    with pytest.raises(LinnaeaError, match=r"cannot be read as a table: row 3 has 3 cells, but the table has 2"):
        read_table(path)
    kept = read_table(path, keep_ragged=True)
    assert kept.rows.rows() == [("1", "2"), ("1", "2"), ("1", "")]
    assert kept.problems is not None
    assert kept.problems.is_not_null().to_list() == [False, True, False]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3\n5,6\n7,8\n",
        "a,b\n1,2,3\n3,4\n",
        'a,b\n"1\n1",2\n"x ""y"", z",4\n',
        "a,b\n",
        "a,a\n1,2\n",
        "\ufeffa;b\n1;Käfer\n",
        "a,b\r\n1,2\r\n\r\n3,4\r\n",
    ],
)
def test_blocks_of_a_large_file_are_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    whole = read_table(tmp_path / "t.csv", keep_ragged=True)
    monkeypatch.setattr(tables, "_LARGE", 0)
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 2)
    blocks = read_table(
        tmp_path / "t.csv", keep_ragged=True, change=lambda rows: rows.with_columns(n=pl.lit(rows.width))
    )
    assert blocks.rows.drop("n").equals(whole.rows)
    assert (blocks.rows["n"] == whole.rows.width).all()
    assert blocks.notes == whole.notes
    assert (blocks.problems is None) == (whole.problems is None)


def test_types_and_nulls_stay_where_they_are_asked_for(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [["a"], ["1"]])
    (tmp_path / "t.csv").write_text('a,b\n,""\n')
    assert read_table(tmp_path / "t.csv", as_text=False).rows.rows() == [(None, "")]
    assert read_table(tmp_path / "t.csv").rows.rows() == [("", "")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"this is Excel 97 \(\.xls\); save it as \.xlsx or CSV"),
        (b"%PDF-1.7\n...", "this is a PDF"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "this is a JPEG"),
        (b"\x89PNG\r\n\x1a\n", "this is a PNG"),
        (b"PK\x03\x04 cut short", "this is a damaged ZIP archive"),
        (b"<!DOCTYPE html>\n<html>", "this is HTML"),
        (b'{"name": "Pica pica"}', "this is JSON"),
        (b'[\n{"name": 1}]', "this is JSON"),
        (b'<?xml version="1.0"?>', "this is XML"),
        (bytes(range(256)) * 4, "this is binary data"),
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
    ],
)
def test_what_is_not_a_table_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(LinnaeaError, match=words) as failed:
        read_table(path)
    assert str(failed.value).startswith(f"{path}: cannot be read as a table: ")
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("member", "words"),
    [("data.csv", "a ZIP archive"), ("content.xml", r"\.ods"), ("word/document.xml", "a Word document")],
)
def test_what_a_zip_is_is_named(tmp_path: Path, member: str, words: str) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr(member, "")
    with pytest.raises(LinnaeaError, match=words):
        read_table(tmp_path / "t.xlsx")
    with pytest.raises(LinnaeaError, match="no such file"):
        read_table(tmp_path / "absent.csv")


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LinnaeaError, match="cannot be read as a table"):
        read_table(tmp_path / "t.parquet")


def test_a_list_has_comments_and_no_header(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("# of Zürich\r\nPica pica\r\n\r\nCorvus, the raven\r\n".encode("utf-8-sig"))
    assert read_list(path).rows["name"].to_list() == ["Pica pica", "", "Corvus, the raven"]
    path.write_bytes("Männchen\n".encode("latin-1"))
    assert read_list(path).rows["name"].to_list() == ["Männchen"]
    path.write_bytes(b"")
    assert read_list(path).rows.height == 0


def test_headers_are_matched_in_any_case() -> None:
    assert match_columns([" Genus", "SPECIES", "n"], ["genus", "species"]) == {" Genus": "genus", "SPECIES": "species"}
    assert match_columns(["Class", "class"], ["class"]) == {}, "one that is spelled so comes first"
    assert match_columns(["Class"], ["Class", "class"]) == {}, "a name that was asked for is nobody else's"
    assert match_columns(["A", "a "], ["a"]) == {"A": "a"}
    assert find_column(["x", "NAME "], "label", "name") == "NAME "
    assert find_column(["x"], "label") == ""
    with pytest.raises(UsageError, match="no column 'b'; it has a, c"):
        need_columns(["a", "c"], Path("t.csv"), "a", "b", "")


def test_endings_tell_tables_from_lists() -> None:
    assert is_table(Path("a.CSV")) and is_table(Path("a.tsv.gz")) and is_table(Path("a.xlsx"))
    assert not is_table(Path("a.txt"))


def test_sniffing_reads_the_head_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a;b\n" + b"1;2\n" * 500_000)
    assert (sniff(path).separator, sniff(path).kind) == (";", "text")


def test_the_module_is_light() -> None:
    code = "import sys, linnaea.tables; assert not {'polars', 'pyarrow', 'fastexcel', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_table_of_many_columns_makes_a_short_message(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text(",".join(f"column {number}" for number in range(3000)) + "\n")
    with pytest.raises(UsageError, match=r"no column 'name'; it has column 0, column 1, .*\(3,000 columns\)") as raised:
        need_columns(read_table(tmp_path / "wide.csv").rows.columns, tmp_path / "wide.csv", "name")
    assert len(str(raised.value)) < 600
