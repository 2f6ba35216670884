"""The notebooks: whole, small, and run from top to bottom."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def outputs_of(book: Any) -> list[Any]:
    return [output for cell in book["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["adapt", "compare-models", "predict-and-explore"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_its_outputs_are_of_no_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 150_000
    assert not re.search(r"/(home|tmp|work|root|Users)/", text)
    outputs = outputs_of(json.loads(text))
    assert outputs
    assert all(output["output_type"] in ("execute_result", "display_data") for output in outputs)


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_progress_is_one_line(path: Path, tmp_path: Path) -> None:
    """No carriage returns, no lines of a log, no leftover of a bar."""
    nbformat = pytest.importorskip("nbformat", reason="needs the extra notebooks")
    nbclient = pytest.importorskip("nbclient", reason="needs the extra notebooks")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for output in outputs_of(book):
        text = json.dumps(output)
        assert "\\r" not in text
        assert "<progress" not in text
        assert output["output_type"] != "stream" or output["name"] == "stderr"
        assert "ETA" not in text
