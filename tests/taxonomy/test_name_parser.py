"""The parser is the one that we depend on, and only its own failures are caught."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from linnaea.taxonomy import name_parser
from linnaea.taxonomy.name_parser import parse_all, split_authors


def test_another_package_of_the_same_name_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "nameparser.py").write_text("class HumanName: ...\n")
    path = os.pathsep.join([str(tmp_path), *(part for part in sys.path if part)])
    command = [sys.executable, "-m", "linnaea.cli", "taxonomy", "lineage", "Pica pica"]
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    (line,) = ran.stderr.strip().splitlines()
    assert "another package than gbif-name-parser" in line and "pip" in line


class PanicException(BaseException):
    """What pyo3 raises when the parser itself fails."""


def test_a_failure_of_the_parser_costs_one_name_and_nothing_else_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def panics(texts: list[str]) -> list[str]:
        if "bad" in texts:
            raise PanicException
        return texts

    monkeypatch.setattr(name_parser.nameparser, "parse_all", panics)
    assert parse_all(["a", "bad", "b"]) == ["a", None, "b"]

    def breaks(texts: list[str]) -> list[str]:
        raise MemoryError

    monkeypatch.setattr(name_parser.nameparser, "parse_all", breaks)
    with pytest.raises(MemoryError):
        parse_all(["a"])


def test_authors_are_split_from_the_names_of_checklists() -> None:
    names = [
        "Corvus pica Linnaeus, 1758",
        "Heracleum sphondylium subsp. sibiricum (Linnaeus) Simonkai",
        "Acer rubrum Linnaeus var. drummondii (Hook. & Arn.) Sarg.",
        "Pica pica",
        "Equisetum ×litorale",
        "",
    ]
    table = split_authors(pl.Series(names))
    assert table["name"].to_list() == [
        "Corvus pica",
        "Heracleum sphondylium subsp. sibiricum",
        "Acer rubrum var. drummondii",
        "Pica pica",
        "Equisetum ×litorale",
        "",
    ]
    assert table["authorship"][0] == "Linnaeus, 1758"
