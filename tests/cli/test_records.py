"""``predict`` to records, as a user runs it: events that agree, and packages."""

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base

from linnaea.cli import main


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """Three shots of one camera within seconds, one an hour later, and one of another camera."""
    for name, after_s in {"north/a": 0, "north/b": 5, "north/c": 9, "north/d": 3600, "south/e": 5}.items():
        path, exif = tmp_path / f"card/{name}.jpg", Image.Exif()
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = datetime(2024, 5, 1, 12) + timedelta(seconds=after_s)
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"{taken:%Y:%m:%d %H:%M:%S}"
        pixels = np.random.default_rng(after_s + ord(name[0])).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(path, exif=exif)
    return tmp_path / "card"


def test_the_photographs_of_one_event_agree(card: Path, trained: Path, tmp_path: Path) -> None:
    words = ["predict", str(card), "--model", str(trained / "model"), "--top-k", "1", "--output"]
    assert main([*words, str(tmp_path / "alone.csv")]) == 0
    assert main([*words, str(tmp_path / "events.csv"), "--sequence-gap", "60"]) == 0
    alone, events = (pl.read_csv(tmp_path / f"{name}.csv") for name in ("alone", "events"))
    assert alone["event"].null_count() == 5
    assert events["file_name"].to_list() == alone["file_name"].to_list(), "each photograph keeps its row"
    assert events["event"].n_unique() == 3
    assert events["event"][:3].n_unique() == events["score"][:3].n_unique() == events["species"][:3].n_unique() == 1
    assert alone["score"][:3].n_unique() == 3
    assert events["score"][3:].to_list() == alone["score"][3:].to_list(), "an event of one says what it said"
    assert main([*words[:-1], "--sequence-gap", "60"]) == 2, "an event is known when all of it is read"


def test_a_package_in_one_command(card: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "deployments.csv").write_text("deploymentID,latitude,longitude\nnorth,52.5,13.4\nsouth,52.6,13.5\n")
    words = ["predict", str(card), "--model", str(trained / "model"), "--timezone", "Europe/Berlin", "--sequence-gap",
             "60", "--deployments", str(tmp_path / "deployments.csv"), "--format"]  # fmt: skip
    assert main([*words, "camtrapdp-package", "--output", str(tmp_path / "package")]) == 0
    assert json.loads((tmp_path / "package/datapackage.json").read_text())["temporal"]["start"] == "2024-05-01"
    with (tmp_path / "package/observations.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["observationLevel"] for row in rows] == ["media"] * 5 + ["event"] * 3
    assert {path.name for path in tmp_path.iterdir()} >= {"package"}
    assert not list(tmp_path.glob("package.journal"))
    assert main([*words, "dwca", "--output", str(tmp_path / "archive.zip")]) == 0
    assert (tmp_path / "archive.zip").stat().st_size > 500
