"""``linnaea demo``: the whole pipeline once, with the commands that a user would type."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linnaea.cli import DONE, Commands, main
from linnaea.cli.console import say, tell
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL, bundled_models

SAMPLES = (
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/chelsea.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/brick.png"),
)
"""Packages and the paths of their photographs; packages that are not installed are skipped."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run the whole pipeline once: name photographs, draw a tree of life, build, train, evaluate, predict, report."""

    output: Path = Path("runs/demo")
    """Folder for all output of the demo; an interrupted demo resumes where it stopped."""
    recipe: str = "tiny"
    """The training recipe."""


def demo(options: Demo) -> int:
    """Run every step and print the path of the report page."""
    from linnaea.cli.demo_report import write_report

    folder = options.output
    photographs, data, run = folder / "photographs", folder / "data", folder / "run"
    model = run / "model"
    if DEFAULT_MODEL in bundled_models():
        step("predict", copy_sample_photographs(folder / "samples"), "--rank", "auto")
    step("data", "synthesize", photographs)
    table = photographs / "metadata.csv"
    columns = ["--path-column", "filepath", "--label-column", "scientific_name", "--split-column", "split"]
    step("data", "build", "--table", table, "--root", photographs, *columns, "--output", data)
    step("train", options.recipe, "--data", data, "--output", run, *(["--resume"] if run.exists() else []))
    for split in ("test", "unseen"):
        evaluation = folder / f"evaluate-{split}"
        step("evaluate", model, "--data", data, "--split", split, "--candidates", "all", "--output", evaluation)
    unlabelled = copy_unlabelled(photographs, folder / "unlabelled")
    predictions = folder / "predictions.csv"
    predictions.unlink(missing_ok=True)
    step("predict", unlabelled, "--model", model, "--labels", data, "--output", predictions)
    step("predict", unlabelled, "--model", model, "--labels", data, "--rank", "auto", "--confidence", "0.8")
    report = write_report(folder)
    tell(f"report: {report}", flush=True)
    return DONE


def step(*words: str | Path) -> None:
    """Print one command as a user would type it and run it; stop the demo if it fails."""
    command = [str(word) for word in words]
    say(f"\n$ linnaea {shlex.join(command)}")
    if (code := main(command)) != DONE:
        raise LinnaeaError(f"the demo stopped: `linnaea {shlex.join(command)}` failed with exit code {code}")


def copy_sample_photographs(target: Path) -> Path:
    """Copy openly licensed photographs of installed packages: a flower, a cat, trees at a temple, a cup, a wall."""
    import shutil
    from importlib.resources import files

    target.mkdir(parents=True, exist_ok=True)
    for package, path in SAMPLES:
        try:
            source = Path(str(files(package) / path))
        except ModuleNotFoundError:
            continue
        if source.exists():
            shutil.copyfile(source, target / source.name)
    return target


def copy_unlabelled(photographs: Path, target: Path) -> Path:
    """Copy a few photographs that the model never saw to ``target``, under neutral file names."""
    import shutil

    import polars as pl

    target.mkdir(parents=True, exist_ok=True)
    table = pl.read_csv(photographs / "metadata.csv", glob=False)
    for split in ("test", "unseen"):
        rows = table.filter(pl.col("split") == split).sort("filepath")
        for number, path in enumerate(spread(rows["filepath"].to_list(), 4), start=1):
            shutil.copyfile(photographs / path, target / f"{split}-{number}.jpg")
    return target


def spread(values: Sequence[str], n: int) -> list[str]:
    """Return ``n`` evenly spaced elements of ``values``."""
    return [values[i * len(values) // n] for i in range(min(n, len(values)))]


COMMANDS: Commands = {"": (Demo, demo)}
