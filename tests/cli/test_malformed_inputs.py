"""What is malformed ends a command in a line that helps, never in "unexpected ...Error"."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.cli import main

JSONS = [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'"text"', b"[" * 5000, b'{"a": NaN}', b'{"a": 1e999}']


def failed_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    code = main(words)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert code in (1, 2), (words, line)
    assert "unexpected" not in line
    assert "Traceback" not in line
    return line


@pytest.mark.parametrize("content", JSONS)
def test_json(content: bytes, tmp_path: Path, dataset_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(dataset_dir, data)
    (data / "manifest.json").write_bytes(content)
    failed_in_one_line(["data", "repair", str(data)], capsys)
    (tmp_path / "found.json").write_bytes(content)
    failed_in_one_line(["predict", str(tmp_path), "--detections", str(tmp_path / "found.json")], capsys)


@pytest.fixture
def bank(dataset_dir: Path, trained: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    words = ["labels", "build", "--taxa", str(dataset_dir), "--model", str(trained / "model"), "--output", str(path)]
    assert main(words) == 0
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flat(path: Path) -> None:
    np.save(path, np.zeros(12))


BANKS: list[tuple[str, Callable[[Path], object]]] = [
    ("taxa.parquet", cut),
    ("taxa.parquet", lambda path: path.write_bytes(b"PAR1")),
    ("taxa.parquet", lambda path: pl.DataFrame({"a": [1]}).write_parquet(path)),
    ("embeddings.npy", cut),
    ("embeddings.npy", flat),
    ("embeddings.npy", lambda path: path.write_bytes(b"")),
    ("embeddings.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': 'O'}")),
    ("embeddings.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',")),
    *(("bank.json", lambda path, content=content: path.write_bytes(content)) for content in JSONS),
]


def test_banks(bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (name, spoil) in enumerate(BANKS):
        spoilt = tmp_path / f"bank{number}"
        shutil.copytree(bank, spoilt)
        spoil(spoilt / name)
        if name == "bank.json" and isinstance(_json(spoilt / name), dict):
            continue
        assert str(spoilt) in failed_in_one_line(["labels", "show", str(spoilt)], capsys)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


CHECKLISTS = {
    "a.zip": b"PK\x03\x04 no zip",
    "b.tar.gz": b"\x1f\x8b no gzip",
    "c.sqlite": b"SQLite format 3\0 no database",
    "d.csv": b"",
    "e.csv.gz": b"\x1f\x8b\x08\0 broken",
    "f.xlsx": b"PK\x03\x04 no workbook",
    "g.parquet": b"PAR1 no Parquet",
}


@pytest.mark.parametrize("name", CHECKLISTS)
def test_checklists(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(CHECKLISTS[name])
    line = failed_in_one_line(["taxonomy", "checklists", "--add", str(tmp_path / name), "--name", "mine"], capsys)
    assert name in line


CORE = '<archive><core rowType="Taxon"%s><files><location>t.txt</location></files>%s</core></archive>'
META = ("", "<archive>", "<archive/>", CORE % ("", '<id index="x"/>'), CORE % (' ignoreHeaderLines="two"', ""),
        CORE % (' fieldsTerminatedBy=""', ""))  # fmt: skip


@pytest.mark.parametrize("meta", META)
def test_archives_of_darwin_core(meta: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "meta.xml").write_text(meta)
    (tmp_path / "t.txt").write_text("id,scientificName\n1,Pica pica\n")
    failed_in_one_line(["taxonomy", "checklists", "--add", str(tmp_path), "--name", "mine"], capsys)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"file_name": "a"}', '{"file_name": "a", "rows": [{}]}', "\0\xff"]
)
def test_a_malformed_journal_is_begun_anew(content: str, photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder = next(path for path in sorted(photographs.iterdir()) if path.is_dir())
    words = ["predict", str(folder), "--model", str(trained / "model"), "--output", str(tmp_path / "a.csv")]
    assert main(words) == 0
    expected = (tmp_path / "a.csv").read_bytes()
    head = json.dumps({"question": {}}, sort_keys=True)
    (tmp_path / "a.csv.journal").write_text(f"{head}\n{content}\n{content}\n")
    assert main(words) == 0
    assert (tmp_path / "a.csv").read_bytes() == expected
