"""A newcomer's path and the Python of docs/guide.md work as they stand there."""

import re
import shutil
import tomllib
from pathlib import Path

import polars as pl
import pytest

from linnaea.cli import main

ROOT = Path(__file__).parent.parent


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section of the guide."""
    text = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
    part = re.split(r"^## ", text.split(f"\n## {section}\n")[1], flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def newcomer(photographs: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs and a run, and a bundled model."""
    assert main(["pack", str(trained), "--output", str(tmp_path / "nano")]) == 0
    monkeypatch.setattr("linnaea.model.folders._BUNDLED", {"nano": tmp_path / "nano"})
    (tmp_path / "home" / "photos").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")
    pictures = sorted(photographs.rglob("*.jpg"))[::20]
    for number, path in enumerate(pictures):
        shutil.copy(path, Path("photos") / f"{number}.jpg")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(pictures[0], name)
    Path("runs").mkdir()
    Path("runs/mine").symlink_to(trained)
    return Path.cwd()


def test_three_lines_from_nothing_to_a_table_of_taxa(newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install, *commands = blocks("In three lines", "")[0].strip().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert install == f'pip install "{project["name"]} @ git+{project["urls"]["Repository"]}"'
    assert len(commands) == 2
    for command in commands:
        program, *words = command.split()
        assert program in project["scripts"]
        assert main(words) == 0
    assert "0.jpg" in capsys.readouterr().out
    table = pl.read_csv("taxa.csv")
    assert set(table["file_name"]) == {f"photos/{path.name}" for path in Path("photos").iterdir()}
    assert set(table["status"]) == {"ok"}
    assert all(table["kingdom"])


def test_the_python_of_the_guide_runs(newcomer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks("Python", "python"):
        exec(compile(block, "guide.md", "exec"), names)
    rows = names["rows"]
    assert isinstance(rows, list)
    assert {row["file_name"] for row in rows} == {"a.jpg", "b.jpg"}
    assert "photos/0.jpg ok" in capsys.readouterr().out
    assert names["probability"].shape == (1, len(names["classifier"].get_current_txt_names()))  # type: ignore[attr-defined]
    assert names["probability"].requires_grad, "for saliency"  # type: ignore[attr-defined]
