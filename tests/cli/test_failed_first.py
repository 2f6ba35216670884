"""A command that fails leaves nothing that blocks the corrected one: it writes to the same output."""

from pathlib import Path

import pytest

from linnaea.cli import main

WRITERS: dict[str, tuple[list[str], list[list[str]]]] = {
    "adapt": (
        ["adapt", "{classes}", "--model", "{run}"],
        [["--model", "nowhere"], ["--device", "no-such-device"]],
    ),
    "labels build": (
        ["labels", "build", "--taxa", "{data}", "--model", "{run}"],
        [["--model", "nowhere"], ["--taxa", "nowhere"], ["--within", "class:Nowhere"]],
    ),
    "pack": (
        ["pack", "{run}"],
        [["--labels", "nowhere"], ["--image-size", "64"]],
    ),
    "evaluate": (
        ["evaluate", "{run}", "--data", "{data}", "--shots", "0"],
        [["--labels", "nowhere"], ["--templates", "nowhere"], ["--pretrained", "nowhere"]],
    ),
    "export": (
        ["export", "{run}"],
        [["--pretrained", "nowhere"]],
    ),
}
"""A command that works, and options that make it fail."""


@pytest.mark.parametrize("name", list(WRITERS))
def test_the_corrected_command_writes_to_the_same_output(
    name: str, trained: Path, dataset_dir: Path, photographs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if name == "export":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    words, failures = WRITERS[name]
    places = {"run": trained, "data": dataset_dir, "classes": photographs}
    command = [*(word.format(**places) for word in words), "--output", str(tmp_path / "output")]
    for options in failures:
        assert main([*command, *options]) in (1, 2), options
        err = capsys.readouterr().err
        assert [line for line in err.splitlines() if line.startswith("linnaea: ")][-1:] == err.splitlines()[-1:]
    assert main(command) == 0
    assert any((tmp_path / "output").iterdir())
