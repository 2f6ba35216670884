"""The small inputs that failed once (../shared/cases/images, one of each kind) give what they should."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.cli import main
from linnaea.data.exif import read_taken
from linnaea.data.images import ImageError, decode, prepare
from linnaea.predict.inputs import list_inputs

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases/images")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "images"
    shutil.copytree(CASES, folder)
    os.system(f"chmod -R u+w '{folder}'")
    return folder


def answer(*words: str, output: Path, code: int = 0) -> pl.DataFrame:
    assert (
        main(["predict", *words, "--model", "nano", "--device", "cpu", "--top-k", "1", "--output", str(output)]) == code
    )
    return pl.read_csv(output)


def test_photographs_are_answered_or_failed_with_their_reason(cases: Path, tmp_path: Path) -> None:
    names = ["narrow-1x8000.png", "no-end-marker.jpg", "last-byte-missing.jpg", "phone.heic", "intact.psd",
             "planar-16-bit.tif", "12-bits-in-16.tif", "white-is-zero-16-bit.tif",
             "card-failure-all-zeros.jpg", "members.tar"]  # fmt: skip
    rows = answer(*(str(cases / name) for name in names), output=tmp_path / "a.csv", code=3)
    assert rows["status"].to_list() == ["ok"] * 8 + ["failed"] + ["ok"] * 5
    failed = rows.filter(pl.col("status") == "failed")
    assert "zero bytes" in failed["reason"][0]
    assert rows["file_name"].n_unique() == rows.height == 14


def test_videos_give_each_frame(cases: Path, tmp_path: Path) -> None:
    clips = (("no-frame-count.mkv", "1", 10), ("fps25.mp4", "0.04", 50), ("program-stream.mpg", "1", 10))
    for name, every, n_rows in clips:
        rows = answer(str(cases / name), "--every", every, output=tmp_path / f"{name}.csv")
        assert rows.height == rows["file_name"].n_unique() == n_rows
    first, *_, last = list_inputs([str(cases / "program-stream.mpg")])
    assert (first.name.rpartition("t=")[2], last.name.rpartition("t=")[2]) == ("0.0", "9.0")
    assert np.abs(first.load(None).astype(int) - last.load(None)).mean() > 1


def test_instruments_pictures_show_the_scene(cases: Path) -> None:
    """The two grey files hold the same scene, one at a sixteenth of its light, one as a negative."""
    planar, low, negative = (decode((cases / f"{name}.tif").read_bytes()) for name in
                             ("planar-16-bit", "12-bits-in-16", "white-is-zero-16-bit"))  # fmt: skip
    assert low.max() > 150
    assert np.abs(low.astype(int) - negative).mean() < 2
    assert np.corrcoef(planar.mean(axis=2).ravel(), low.mean(axis=2).ravel())[0, 1] > 0.8
    for name in ("planar-16-bit", "12-bits-in-16", "white-is-zero-16-bit"):
        stored = decode(prepare((cases / f"{name}.tif").read_bytes()).jpeg)
        shown = decode((cases / f"{name}.tif").read_bytes())
        assert np.abs(stored.astype(int) - shown).mean() < 5


def test_nought_nought_is_no_place(cases: Path) -> None:
    assert read_taken(cases / "gps-zero-zero.jpg").position is None


def test_an_unreadable_photograph_does_not_end_an_evaluation(
    cases: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "nano", "--task", "folder", "--root", str(cases / "task-folder"), "--output", str(tmp_path)]
    assert main([*words, "--device", "cpu"]) == 3
    assert '"n_images": 6' in (tmp_path / "metrics.json").read_text()
    assert "3.jpg: image is truncated" in capfd.readouterr().err


def test_names_that_are_not_utf_8_are_rows(cases: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(cases / "md-bad-box" / "photos" / "a.jpg", os.fsencode(photos) + b"/Fl\xfcgel.jpg")
    for ending in ("jsonl", "parquet", "npy"):
        output = tmp_path / f"e.{ending}"
        assert main(["embed", str(photos), "--output", str(output), "--device", "cpu"]) == 0
    assert r"Fl\\xfcgel.jpg" in (tmp_path / "e.jsonl").read_text()
    assert pl.read_parquet(tmp_path / "e.parquet")["file_name"][0].endswith(r"Fl\xfcgel.jpg")
    assert r"Fl\xfcgel.jpg" in (tmp_path / "e.files.csv").read_text()
    assert main(["index", str(photos), "--output", str(tmp_path / "i"), "--device", "cpu"]) == 0
    assert main(["search", str(tmp_path / "i"), "--image", str(cases / "no-end-marker.jpg")]) == 0


def test_what_holds_no_picture_gives_its_reason(cases: Path) -> None:
    with pytest.raises(ImageError, match="zero bytes"):
        list_inputs([str(cases / "card-failure-all-zeros.jpg")])[0].load(None)
