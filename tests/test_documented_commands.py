"""The commands of README, guide and questions run, from top to bottom, on a small drawn world with the files they name.

Those of tutorials run in ``test_pages``, and those of all pages are understood there. A command that is not run has its
reason in ``NOT_RUN``.
"""

import csv
import re
import shlex
import shutil
from pathlib import Path

import pytest

from linnaea.cli import DONE, SOME_FAILED, main
from test_pages import BLOCK, ROOT, iter_commands, read_tutorial

pytestmark = pytest.mark.long

PAGES = ("README.md", "docs/guide.md", "docs/questions.md")
SPECIES = (
    "Pica pica", "Turdus merula", "Arctia villica", "Deilephila elpenor", "Aglais io", "Papilio machaon",
    "Vulpes vulpes", "Rattus norvegicus",
)  # fmt: skip
NOT_RUN = (
    (r"linnaea serve|linnaea review (?!.*--output)", "a server that waits for callers: tests/serve"),
    (r"--push", "uploads to the hub: tests/predict/test_pack_card.py, with a hub on this machine"),
    (r"--decisions", "a model learns from no fewer than ten reviewed events: tests/serve/test_season.py"),
    (r"(?<![/\w])(bioclip(-2)?|biocap|ViT-B-16)\b(?!-)", "a published model is downloaded"),
    (r"--task (?!folder|sentences)|cornell", "the published set must be there: tests/evaluate/test_tasks.py"),
    (r"treeoflife-1m|inat21|treeoflife/(?!.*--dry-run)|mixture", "TreeOfLife or iNat21, and a GPU for days"),
    (r"compare .*(bioclip|scores/clip)|--model birds", "what a command made that is not run"),
)
SMALL = ("--steps", "6", "--batch-size", "16", "--image-size", "32")
"""Options that make a training short."""


def reason_against(line: str) -> str:
    """Return why a command is not run, or nothing."""
    return next((reason for pattern, reason in NOT_RUN if re.search(pattern, line)), "")


def write_table(path: Path, *rows: tuple[str, ...]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".txt" else ",").writerows(rows)


@pytest.fixture
def world(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name: class folders, tables, a card with detections, a data set."""
    monkeypatch.chdir(tmp_path)
    drawn = sorted(path for path in photographs.iterdir() if path.is_dir())
    for name, folder in zip(SPECIES, drawn, strict=False):
        shutil.copytree(folder, Path("photos") / name)
    for copy in ("class-folders", "my-species", "my-photos", "new"):
        shutil.copytree("photos", copy)
    pictures = sorted(Path("photos").rglob("*.jpg"))
    Path("exam").mkdir()
    for target in ("exam/1.jpg", "example.jpg"):
        shutil.copy(pictures[0], target)
    rows = [(str(one.relative_to("photos")), one.parent.name, str(one)) for one in pictures]
    write_table(Path("photos.csv"), ("file", "name", "filepath", "license"), *((*row, "CC0 1.0") for row in rows))
    sentences = ((file, f"picture {n} of {name}") for n, (file, name, _) in enumerate(rows))
    write_table(Path("photos/metadata.csv"), ("file_name", "sentence"), *sentences)
    write_table(Path("labels.csv"), ("name",), *((name,) for name in SPECIES))
    write_table(Path("reserve.txt"), *((name,) for name in SPECIES))
    write_table(Path("mine.csv"), ("scientific_name",), ("Sciurus vulgaris",))
    write_table(Path("ebird-taxonomy.csv"), ("SCI_NAME", "CATEGORY", "ORDER1", "FAMILY", "PRIMARY_COM_NAME"),
                ("Pica pica", "species", "Passeriformes", "Corvidae (Crows)", "Eurasian Magpie"))  # fmt: skip
    columns = ("species", "decimalLatitude", "decimalLongitude", "month")
    write_table(Path("occurrence.txt"), columns, *(("Pica pica", "52.5", "13.4", str(n % 12 + 1)) for n in range(5000)))
    for name in ("follow-taxonomy", "camera-traps"):
        make_files(ROOT / f"docs/tutorials/{name}.md")
    assert main(["data", "build", "--folder", "photos", "--output", "data", "--unseen", "0.2"]) == DONE
    shutil.copytree("data", "treeoflife")
    assert run("linnaea train tiny --data data/ --output runs/mine") == DONE
    return tmp_path


def make_files(tutorial: Path) -> None:
    """Make the files of a tutorial, without its commands: blocks with a title, and the first block of Python."""
    blocks = [*BLOCK.finditer(tutorial.read_text(encoding="utf-8"))]
    python = [found for found in blocks if found["language"] == "python"][:1]
    read_tutorial("\n\n".join(found[0] for found in [*python, *(one for one in blocks if one["title"])]))


def run(line: str) -> int:
    """Run a command, in place of what an earlier one left at its output."""
    words = shlex.split(line)[1:]
    if "--output" in words and "--resume" not in words:
        output = Path(words[words.index("--output") + 1])
        shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
    if words[0] == "train" and "--data" in words and "--dry-run" not in words:
        words += SMALL
    try:
        return main(words)
    except SystemExit as stop:  # --help
        return int(stop.code or 0)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wrong, n_run = [], 0
    for line in iter_commands(ROOT / page):
        if reason_against(line):
            continue
        n_run += 1
        if (code := run(line)) not in (DONE, SOME_FAILED):
            wrong.append(f"{line}: {code}: {capfd.readouterr().err.strip().splitlines()[-1:]}")
        capfd.readouterr()
    assert not wrong, "\n".join(wrong)
    assert n_run >= 4


def test_every_reason_is_needed() -> None:
    lines = [line for page in PAGES for line in iter_commands(ROOT / page)]
    assert [pattern for pattern, _ in NOT_RUN if not any(re.search(pattern, line) for line in lines)] == []
