"""Tables, configurations and decisions that are malformed end a command in one line that names the file."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_malformed_inputs import failed_in_one_line

from linnaea.cli import main
from linnaea.data.config import KINDS
from linnaea.taxonomy.columns import ANSWER_COLUMNS

RAW = re.compile(
    r"unexpected|Traceback|input is damaged|This error occurred|dtype|TapeError|File out of spec|has no attribute"
    r"|NoneType|Expecting|cannot cast|not iterable|argument must|[a-z]Error\b"
)
"""Words of Python, polars and json that say nothing to a user."""

BYTES = {
    "nothing": b"",
    "zeros": b"\0" * 100,
    "random": b"\xff\xfe\xfd" * 50,
    "gzip": b"\x1f\x8b\x08\0broken",
    "zip": b"PK\x03\x04broken",
    "Parquet": b"PAR1",
    "cut Parquet": b"PAR1 and so on PAR1",
    "brackets": b"[" * 50_000,
    "SQLite": b"SQLite format 3\0 no",
    "HTML": b"<html><body>404</body></html>",
}


def is_plain(words: list[object], capsys: pytest.CaptureFixture[str], *, codes: tuple[int, ...] = (0, 1, 2, 3)) -> str:
    """Return the last line of a command that ends as commands do, without the words of a library."""
    capsys.readouterr()
    code = main(list(map(str, words)))
    lines = capsys.readouterr().err.strip().splitlines() or [""]
    assert code in codes, (words, lines[-1])
    assert not RAW.search(lines[-1]), lines[-1]
    return lines[-1]


def row_of_answers(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ANSWER_COLUMNS, "")
    taxon = {"genus": "Pica", "species_epithet": "pica", "species": "Pica pica"}
    return row | taxon | {"file_name": str(path), "status": "ok", "score": 0.5, "detection_confidence": None}


READERS: dict[str, Callable[[Path, Path], list[object]]] = {
    "review": lambda table, out: ["review", table, "--decisions", out / "none", "--output", out / "a.csv"],
    "regions": lambda table, out: ["labels", "regions", table, "--output", out / "regions.parquet"],
    "download": lambda table, out: ["data", "download", table, "--output", out / "pictures"],
    "build": lambda table, out: ["data", "build", "--table", table, "--root", out, "--path-column", "file_name",
                                 "--no-resolve", "--overwrite", "--output", out / "data"],
    "checklist": lambda table, out: ["taxonomy", "lineage", "Pica pica", "--checklist", table],
    "config": lambda table, out: ["data", "build", "--config", table, "--output", out / "data"],
}  # fmt: skip


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "none").touch()
    return tmp_path / "out"


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_no_table(reader: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"table{ending}"
        for content in BYTES.values():
            path.write_bytes(content)
            line = is_plain(READERS[reader](path, out), capsys, codes=(1, 2))
            assert str(path) in line.replace(" ", ""), "it says which file"  # long lines are wrapped
        path.unlink()
        path.mkdir()
        is_plain(READERS[reader](path, out), capsys, codes=(1, 2))


CELLS = {
    "lists": [["a"]],
    "lists of numbers": [[1.5, None]],
    "records": [{"a": 1}],
    "bytes": [b"\xff\0"],
    "lists of bytes": [[b"\xff"]],
    "nothing": [None],
    "truth": [True],
    "a large number": [2**62],
    "not a number": [float("nan")],
    "infinity": [float("inf")],
    "a day": pl.Series(["2020-01-01"]).str.to_date().to_list(),
    "a word": ["x"],
}
TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "review": ("bbox", row_of_answers(Path("a.jpg"))),
    "regions": ("species", {"decimalLatitude": 48.1, "decimalLongitude": 11.5, "month": 3, "species": "Pica pica"}),
    "download": ("url", {"url": "nowhere", "md5": "x"}),
    "checklist": ("genus", {"kingdom": "Animalia", "family": "Corvidae", "genus": "Pica", "species": "pica"}),
}


@pytest.mark.parametrize("cells", CELLS)
@pytest.mark.parametrize("reader", TABLES)
def test_cells_of_another_type(
    reader: str, cells: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, row = TABLES[reader]
    for column in dict.fromkeys((first, *list(row)[:3])):
        table = pl.DataFrame([row]).with_columns(pl.Series(column, CELLS[cells]))
        table.write_parquet(tmp_path / "table.parquet")
        is_plain(READERS[reader](tmp_path / "table.parquet", out), capsys)


@pytest.mark.parametrize("reader", TABLES)
def test_two_columns_of_one_name(reader: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pl.DataFrame([TABLES[reader][1]]).to_arrow()
    twice = pa.Table.from_arrays([*table.columns, table.column(0)], names=[*table.column_names, table.column_names[0]])
    pq.write_table(twice, tmp_path / "table.parquet")
    line = is_plain(READERS[reader](tmp_path / "table.parquet", out), capsys, codes=(1, 2))
    assert "two columns have the name" in line


# fmt: off
LINES = ["3", "null", "[]", '"text"', "{}", "[[1]]", '{"name": [1, {"a": null}]}', "{", '{"name": NaN}',
         '{"name": 1} x',
         '{"name": 1}\n{"name": [1]}', '{"name": {"a": 1}}\n{"name": "x"}',
         "\0", "\xff"]
# fmt: on


@pytest.mark.parametrize("lines", LINES)
def test_lines_that_are_no_json(lines: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.jsonl").write_bytes(lines.encode("latin-1"))
    for reader in ("review", "regions", "build"):
        is_plain(READERS[reader](tmp_path / "table.jsonl", out), capsys, codes=(1, 2))


VALUES: list[Any] = [None, 3, -1, 2**70, float("nan"), "x", "", [], {}, [[]], {"a": {}}, True, "../x"]
DECISION = {"time": "2026-01-01T00:00:00.000Z", "reviewer": "Ann", "file_name": "a.jpg", "decision": "corrected",
            "taxon": {"genus": "Pica", "species_epithet": "pica"}, "answer": "x", "bbox": "", "event": "",
            "score": 0.5, "batch": "b"}  # fmt: skip


@pytest.mark.parametrize("name", ["", *DECISION, "genus"])
def test_decisions(name: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "answers.csv"
    pl.DataFrame([row_of_answers(Path("a.jpg"))]).write_csv(table)
    path = tmp_path / "decisions.jsonl"
    for value in VALUES:
        part = {"taxon": {"genus": value}} if name == "genus" else {name: value}
        path.write_text(json.dumps(DECISION | part if name else value) + "\n")
        line = is_plain(["review", table, "--decisions", path, "--output", out / "a.csv"], capsys, codes=(0, 1, 2))
        assert not line or "decisions.jsonl: line 1 is not a decision" in line or "reviewed" in line


def test_before_the_first_decision(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "answers.csv"
    pl.DataFrame([row_of_answers(Path("a.jpg"))]).write_csv(table)
    line = is_plain(["review", table, "--output", out / "a.csv"], capsys, codes=(1,))
    assert f"no decisions yet; run `linnaea review {table}` first" in line


def test_a_photograph_is_not_emptied_as_a_torn_file_of_decisions(tmp_path: Path) -> None:
    from linnaea.errors import LinnaeaError
    from linnaea.predict.records.decisions import DecisionLog

    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff of a single line")
    with pytest.raises(LinnaeaError, match=r"a\.jpg: not a file of decisions"):
        DecisionLog(tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"\xff\xd8\xff of a single line"


# fmt: off
TOML = ["", "x", "[[sources]]", "sources = 3", 'sources = "x"', "sources = [3]", "sources = [[]]", "sources = []",
        "sources = [{kind = []}]", "sources = [{kind = {}}]", "sources = [{}]", f"a = {'9' * 5000}",
        f"a = {'[' * 9000}",
        "sources = [{kind = 'folder'}]", "x = 1"]
BUILD = ["3", "''", "[]", "inf", "[[build]]", "{splits = 3}", "{splits = 'x'}", "{splits = [[]]}",
         "{splits = {val = 'x'}}",
         "{splits = {val = -1}}", "{licences = 'x'}", "{duplicates = []}", "{short_side = 1e300}", "{short_side = -1}",
         "{shard_size = true}", "{resize = 'x'}", "{names = {checklists = 'inat'}}", "{benchmarks = 'x'}"]
# fmt: on


@pytest.mark.parametrize("text", [*TOML, *BUILD])
def test_configurations(text: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "[[sources]]\nkind = 'folder'\nroot = '.'\n"
    (tmp_path / "c.toml").write_text(f"build = {text}\n{source}" if text in BUILD else text)
    line = is_plain(READERS["config"](tmp_path / "c.toml", out), capsys, codes=(1, 2))
    assert "c.toml: " in line


@pytest.mark.parametrize("kind", KINDS)
def test_sources_of_a_configuration(kind: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import fields

    for one in (field.name for field in fields(KINDS[kind]) if field.init):
        for value in ("3", "[]", "{}", "''"):
            needed = {field.name: f"'{tmp_path / 'no'}'" for field in fields(KINDS[kind]) if field.init}
            known = needed | {"kind": f"'{kind}'", one: value}
            pairs = ", ".join(f"{name} = {text}" for name, text in known.items() if name != "label_to_taxon")
            (tmp_path / "c.toml").write_text(f"sources = [{{{pairs}}}]\n")
            is_plain(READERS["config"](tmp_path / "c.toml", out), capsys, codes=(1, 2))


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_lists_and_records_are_written_as_json_in_text(ending: str, tmp_path: Path) -> None:
    from linnaea.tables import read_table, write_table

    table = pl.DataFrame(
        {"name": ["Pica"], "list": [["a", None]], "record": [{"b": [1.5]}], "bytes": [b"caf\xc3\xa9\xff"]}
    )
    write_table(table, tmp_path / f"a.{ending}")
    if ending == "parquet":
        assert pl.read_parquet(tmp_path / "a.parquet").equals(table), "as it is"
    row = read_table(tmp_path / f"a.{ending}").rows.row(0)
    assert row == ("Pica", '["a", null]', '{"b": [1.5]}', "café\\xff")


def test_names_in_lists_are_resolved_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pl.DataFrame({"name": [["Pica pica"], None], "n": [[1], [2]]})
    table.write_parquet(tmp_path / "names.parquet")
    (tmp_path / "list.csv").write_text("kingdom,family,genus,species\nAnimalia,Corvidae,Pica,pica\n")
    words = [
        "taxonomy",
        "resolve",
        tmp_path / "names.parquet",
        "--column",
        "name",
        "--checklist",
        tmp_path / "list.csv",
    ]
    for ending in ("csv", "parquet"):
        is_plain([*words, "--output", tmp_path / f"resolved.{ending}"], capsys, codes=(0, 3))
    assert pl.read_csv(tmp_path / "resolved.csv")["n"].to_list() == ["[1]", "[2]"]
    assert pl.read_parquet(tmp_path / "resolved.parquet")["n"].to_list() == [[1], [2]]


JSON = {b"{": "it ends too early", b"": "it is empty", b'{"a": x}': "it goes wrong at line 1, character 7",
        b"\xff\xff": "byte 1 is not UTF-8", b"9" * 5000: "a number in it is too long"}  # fmt: skip


@pytest.mark.parametrize("content", JSON, ids=lambda content: str(content[:9]))
def test_json_is_explained_without_its_readers_words(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "found.json").write_bytes(content)
    line = failed_in_one_line(["predict", str(tmp_path), "--detections", str(tmp_path / "found.json")], capsys)
    assert JSON[content] in line
