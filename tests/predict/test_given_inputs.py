"""The small inputs that failed once (../shared/cases/images, one of each kind) give what they should."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from linnaea.cli import main
from linnaea.data.exif import read_taken
from linnaea.data.images import ImageError, decode, prepare
from linnaea.predict.index import index
from linnaea.predict.inputs import list_inputs
from linnaea.predict.pybioclip import CustomLabelsClassifier
from linnaea.predict.session import Model, open_model

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases/images")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases") / "images"
    shutil.copytree(CASES, folder)
    os.system(f"chmod -R u+w '{folder}'")
    return folder


@pytest.fixture(scope="module")
def nano() -> Model:
    return open_model("nano", device="cpu")


def test_photographs_are_answered_or_failed_with_their_reason(cases: Path, nano: Model) -> None:
    names = ["narrow-1x8000.png", "no-end-marker.jpg", "last-byte-missing.jpg", "phone.heic", "intact.psd",
             "planar-16-bit.tif", "12-bits-in-16.tif", "white-is-zero-16-bit.tif",
             "card-failure-all-zeros.jpg", "members.tar"]  # fmt: skip
    answers = list(nano.predict([str(cases / name) for name in names], top_k=1))
    assert [one.status for one in answers] == ["ok"] * 8 + ["failed"] + ["ok"] * 5
    assert "zero bytes" in answers[8].reason
    assert len({one.name for one in answers}) == len(answers) == 14


def test_videos_give_each_frame(cases: Path, nano: Model) -> None:
    for name, every_s, n_rows in (
        ("no-frame-count.mkv", 1.0, 10),
        ("fps25.mp4", 0.04, 50),
        ("program-stream.mpg", 1.0, 10),
    ):
        answers = list(nano.predict(list_inputs([str(cases / name)], every_s=every_s), top_k=1))
        assert [one.status for one in answers] == ["ok"] * n_rows
        assert len({one.name for one in answers}) == n_rows
    first, *_, last = list_inputs([str(cases / "program-stream.mpg")])
    assert (first.name.rpartition("t=")[2], last.name.rpartition("t=")[2]) == ("0.0", "9.0")
    assert np.abs(first.load(None).astype(int) - last.load(None)).mean() > 1


def test_a_label_that_is_given_twice_has_two_rows_as_in_pybioclip(cases: Path) -> None:
    classifier = CustomLabelsClassifier(["sunglasses", "missile", "sunglasses"], model_str="nano")
    rows = classifier.predict(str(cases / "no-end-marker.jpg"))
    assert sorted(row["classification"] for row in rows) == ["missile", "sunglasses", "sunglasses"]
    assert sum(row["score"] for row in rows) == pytest.approx(1, rel=1e-5)


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


def test_names_that_are_not_utf_8_are_rows(cases: Path, nano: Model, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(cases / "md-bad-box" / "photos" / "a.jpg", os.fsencode(photos) + b"/Fl\xfcgel.jpg")
    for ending in ("jsonl", "npy"):
        assert main(["embed", str(photos), "--output", str(tmp_path / f"e.{ending}"), "--device", "cpu"]) == 0
    assert r"Fl\\xfcgel.jpg" in (tmp_path / "e.jsonl").read_text()
    assert r"Fl\xfcgel.jpg" in (tmp_path / "e.files.csv").read_text()
    assert len(index(photos, tmp_path / "i", model=nano.encoder).index) == 1
    assert main(["search", str(tmp_path / "i"), "--image", str(cases / "no-end-marker.jpg")]) == 0


def test_what_holds_no_picture_gives_its_reason(cases: Path) -> None:
    with pytest.raises(ImageError, match="zero bytes"):
        list_inputs([str(cases / "card-failure-all-zeros.jpg")])[0].load(None)
