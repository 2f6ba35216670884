"""Photographs of one moment are found, and stay in one split."""

import io
import json
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from scenes import scene

from linnaea.data.build import BuildConfig, build
from linnaea.data.copies.bursts import find_bursts, look, look_at_each
from linnaea.data.engine import LocalEngine
from linnaea.data.images import Picture
from linnaea.data.report import write_report
from linnaea.data.shards import DataSet
from linnaea.data.sources.folder import FolderSource
from linnaea.data.splits import SplitRule

NOON = datetime(2024, 6, 1, 12)


def as_jpeg(picture: Picture, *, camera: str = "", clock: datetime | None = None) -> bytes:
    image, stream = Image.fromarray(picture), io.BytesIO()
    exif = image.getexif()
    if camera:
        exif[Base.Model] = camera
    if clock:
        exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"{clock:%Y:%m:%d %H:%M:%S}"
    image.save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


def frames(seed: int, n_frames: int = 5) -> list[Picture]:
    """A scene as a hand holds it: each frame is moved by up to 4% of the picture."""
    rng, whole = np.random.default_rng(seed), scene(seed, 440, 440)
    places = rng.integers(0, 17, (n_frames, 2))
    return [np.ascontiguousarray(whole[top : top + 420, left : left + 420]) for top, left in places]


def bursts_of(datas: list[bytes], folders: list[str] | None = None, names: list[str] | None = None) -> list[int]:
    there = folders or [""] * len(datas)
    return find_bursts(
        look_at_each(partial(bytes, data) for data in datas), there, names or ["a"] * len(datas)
    ).tolist()


def test_slightly_moved_frames_are_one_burst_and_other_scenes_are_not() -> None:
    datas = [as_jpeg(frame) for seed in range(12) for frame in frames(seed)]
    assert bursts_of(datas) == np.repeat(np.arange(12) * 5, 5).tolist()


def test_saved_again_and_resized_is_one_burst() -> None:
    small = cv2.resize(scene(1), (300, 260), interpolation=cv2.INTER_AREA)
    assert bursts_of([as_jpeg(scene(1)), as_jpeg(scene(2)), as_jpeg(small)]) == [0, 1, 0]


def test_shots_of_one_camera_within_a_minute_are_one_burst() -> None:
    """In one folder or of one taxon; another camera, a later hour or another taxon elsewhere is another burst."""
    shots = [("C1", 0, "x", "fox"), ("C1", 40, "x", "hare"), ("C1", 95, "x", "fox"), ("C2", 41, "x", "hare"),
             ("C1", 3600, "x", "fox"), ("C1", 3610, "y", "fox"), ("C1", 3620, "z", "owl")]  # fmt: skip
    datas = [as_jpeg(scene(n), camera=camera, clock=NOON + timedelta(seconds=seconds))
             for n, (camera, seconds, _, _) in enumerate(shots)]  # fmt: skip
    assert bursts_of(datas, [shot[2] for shot in shots], [shot[3] for shot in shots]) == [0, 0, 0, 3, 4, 4, 6]


def test_numbered_folders_of_one_taxon_are_bursts() -> None:
    folders = [f"fox/{name}" for name in ("burst-1", "burst-2", "male") for _ in range(2)] + ["012.hare"] * 2
    names = ["fox"] * 6 + ["hare"] * 2
    datas = [as_jpeg(scene(n)) for n in range(8)]
    assert bursts_of(datas, folders, names) == [0, 0, 2, 2, 4, 5, 6, 7]


def test_what_cannot_be_read_is_alone() -> None:
    assert look(b"no picture") == (None, "", None)
    assert bursts_of([b"", b"no picture", as_jpeg(np.full((90, 90, 3), 128, np.uint8))]) == [0, 1, 2]
    assert bursts_of([]) == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three taxa with ten bursts of four frames each."""
    root = tmp_path_factory.mktemp("bursts") / "photos"
    for number, species in enumerate(("Pica pica", "Corvus corax", "Apis mellifera")):
        (root / species).mkdir(parents=True)
        for burst in range(10):
            for k, frame in enumerate(frames(100 * number + burst, 4)):
                (root / species / f"{burst}-{k}.jpg").write_bytes(as_jpeg(frame))
    return root


def _splits(directory: Path) -> pl.DataFrame:
    records = pl.read_parquet(directory / "records.parquet").select("key", "record_id")
    index = DataSet.open(directory).index.join(records, on="key")
    return index.with_columns(burst=pl.col("record_id").str.extract(r"(.*)-\d\.jpg")).select("burst", "split", "group")


def test_a_build_keeps_bursts_together_by_default(photos: Path, tmp_path: Path) -> None:
    rule = SplitRule(val=0.25, test=0.25)
    summary = build([FolderSource(root=photos)], tmp_path / "data", BuildConfig(splits=rule), LocalEngine(1))
    assert (summary.n_out, summary.n_rejected) == (120, 0)
    table = _splits(tmp_path / "data")
    assert (table.group_by("burst").agg(pl.col("split").n_unique())["split"] == 1).all()
    assert table["split"].n_unique() == 3
    assert table["group"].n_unique() == 30
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["bursts"] == {"groups": 30, "photographs": 120}
    write_report(DataSet.open(tmp_path / "data"), {})
    assert "120 photographs are of 30 bursts" in (tmp_path / "data" / "report.html").read_text()


def test_bursts_may_be_ignored(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `keep`, and where nothing is drawn, no picture is looked at before the shards."""
    monkeypatch.setattr("linnaea.data.settle.look_at_table", pytest.fail)
    for name, rule in (("keep", SplitRule(val=0.3, bursts="keep")), ("undrawn", SplitRule(val=0, test=0))):
        build([FolderSource(root=photos)], tmp_path / name, BuildConfig(splits=rule), LocalEngine(1))
        assert set(_splits(tmp_path / name)["group"]) == {""}
