"""The verb ``linnaea.evaluate``: the command's numbers without its files, and its files when they are asked for."""

import json
from pathlib import Path

import pytest

import linnaea
from linnaea.cli import main
from linnaea.errors import UsageError


def test_the_verb_finds_what_the_command_writes(trained: Path, dataset_dir: Path, tmp_path: Path) -> None:
    found = linnaea.evaluate(trained, data=dataset_dir, split="val", shots=(0, 1), device="cpu")
    assert found.report_path is None
    words = ["evaluate", str(trained), "--data", str(dataset_dir), "--split", "val", "--shots", "0", "1"]
    assert main([*words, "--device", "cpu", "--output", str(tmp_path / "command")]) == 0
    page = found.save(tmp_path / "saved")
    assert page == tmp_path / "saved" / "report.html"
    for name in ("metrics.json", "run.json", "examples.parquet", "report.html"):
        assert (tmp_path / "saved" / name).read_bytes() == (tmp_path / "command" / name).read_bytes(), name
    assert json.loads((tmp_path / "saved" / "metrics.json").read_text()) == found.metrics
    assert found.examples is not None
    assert found.examples.height == found.metrics["n_images"]
    assert "zero_shot/taxon_com/top1" in repr(found)


def test_a_task_keeps_every_score_of_its_page(trained: Path, photographs: Path, tmp_path: Path) -> None:
    found = linnaea.evaluate(trained, task="folder", root=photographs, output=tmp_path, shots=(0,), templates="plain",
                             text_type="asis", device="cpu")  # fmt: skip
    assert json.loads((tmp_path / "metrics.json").read_text()) == found.metrics
    assert "calibration/fitted" in found.metrics


@pytest.mark.parametrize("given", [{}, {"task": "fungi"}, {"data": "d", "task": "fungi", "root": "r"}])
def test_what_to_evaluate_on_is_said_once(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--data|--root"):
        linnaea.evaluate("nano", **given)  # type: ignore[arg-type]
