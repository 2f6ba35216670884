"""Workbooks lose nothing that Excel has room for elsewhere."""

from pathlib import Path

import polars as pl
import pytest
from answered import FOX, answer, draw

from linnaea.predict.inputs import file_input
from linnaea.predict.outputs import write


def test_rows_that_a_sheet_cannot_hold_are_on_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "MOST_ROWS", 2)
    rows = answer([file_input(draw(tmp_path / f"{number}.jpg")) for number in range(5)], FOX)
    write.write_rows(tmp_path / "taxa.xlsx", "xlsx", iter(rows))
    sheets = pl.read_excel(tmp_path / "taxa.xlsx", sheet_id=0)
    assert list(sheets) == ["predictions", "predictions 2", "predictions 3"]
    names = pl.concat(list(sheets.values()))["file_name"].to_list()
    assert [Path(name).name for name in names] == [f"{number}.jpg" for number in range(5)]


def test_addresses_and_formulas_stay_text(tmp_path: Path) -> None:
    names = ["https://example.org/1.jpg", "=1+1"]
    write._write_excel(tmp_path / "taxa.xlsx", pl.DataFrame({"file_name": names}))
    assert pl.read_excel(tmp_path / "taxa.xlsx")["file_name"].to_list() == names
    write._write_excel(tmp_path / "none.xlsx", pl.DataFrame({"file_name": []}, schema={"file_name": pl.String}))
    assert pl.read_excel(tmp_path / "none.xlsx").columns == ["file_name"]
