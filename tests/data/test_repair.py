"""A repaired data set has the bytes it had; what cannot be had again is named, and nothing whole is touched."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from linnaea import cli
from linnaea.data import repair as repair_module
from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.repair import iter_problems, repair
from linnaea.data.shards import DataSet
from linnaea.data.sources.folder import FolderSource
from linnaea.errors import LinnaeaError


@pytest.fixture
def photos(photographs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(photographs, tmp_path / "photos"))


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    build([FolderSource(root=photos)], directory, BuildConfig(shard_size=20, captions=True), LocalEngine(1))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("train/*.tar"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)


def test_broken_cut_and_missing_files_come_back_byte_for_byte(data: Path) -> None:
    whole = contents(data)
    missing, cut, flipped = shards(data)[:3]
    missing.unlink()
    cut.write_bytes(cut.read_bytes()[:3000])
    flip(flipped, 700)
    (data / "licences.parquet").write_bytes(b"torn")
    untouched = {path: path.stat().st_mtime_ns for path in shards(data)[3:]}
    result = repair(data)
    assert set(result.mended) == {f"train/{path.name}" for path in (missing, cut, flipped)} | {"licences.parquet"}
    assert result.is_whole
    assert contents(data) == whole
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}
    assert repair(data).mended == ()


@pytest.mark.parametrize("captions", [False, True])
@pytest.mark.parametrize(
    "options", [{"resize": "squash-224"}, {"short_side": 32, "quality": 60}, {"resize": "short-side"}], ids=str
)
def test_a_shard_comes_back_however_it_was_resized(
    options: dict[str, Any], captions: bool, photos: Path, tmp_path: Path
) -> None:
    config = BuildConfig(shard_size=20, captions=captions, **options)
    build([FolderSource(root=photos)], tmp_path / "data", config, LocalEngine(1))
    whole = contents(tmp_path / "data")
    shards(tmp_path / "data")[0].unlink()
    assert repair(tmp_path / "data").is_whole
    assert contents(tmp_path / "data") == whole


def test_a_manifest_from_before_resize_was_an_option_is_read(data: Path) -> None:
    whole = shards(data)[0].read_bytes()
    manifest = json.loads((data / "manifest.json").read_text())
    del manifest["options"]["resize"]
    (data / "manifest.json").write_text(json.dumps(manifest))
    shards(data)[0].unlink()
    assert repair(data).is_whole
    assert shards(data)[0].read_bytes() == whole


def test_samples_that_survive_in_a_broken_shard_need_no_original(data: Path, photos: Path) -> None:
    """One flipped byte in the head of a member costs nothing, although every original is gone."""
    whole = contents(data)
    flip(shards(data)[0], 10)
    shutil.rmtree(photos)
    assert repair(data).is_whole
    assert contents(data) == whole


def test_what_is_gone_is_named_and_the_rest_goes_on(
    data: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = DataSet.open(data)
    first, second = shards(data)[:2]
    row = dataset.split("train").index.row(0, named=True)
    plan = repair_module._plan_of(dataset, [row["key"]])
    original = Path(next(iter(plan))["location"])
    original.unlink()
    flip(first, row["offset"] + 5)
    broken = first.read_bytes()
    good = second.read_bytes()
    second.unlink()
    assert cli.main(["data", "repair", str(data)]) == cli.SOME_FAILED
    captured = capsys.readouterr()
    assert original.name in captured.err
    assert "no such file" in captured.err
    assert captured.out.splitlines()[-1].endswith("1 still broken (1 photograph lost)")
    assert second.read_bytes() == good
    assert first.read_bytes() == broken, "a shard that cannot be mended stays as it is"


def test_an_original_that_changed_is_not_passed_off_as_the_old_one(data: Path, photos: Path) -> None:
    shards(data)[0].unlink()
    some = next(photos.rglob("*.jpg")).read_bytes()
    for path in photos.rglob("*.jpg"):
        path.write_bytes(some)
    result = repair(data)
    assert result.lost
    assert all("has changed since the build" in lost.reason for lost in result.lost)
    assert not shards(data)[0].name.endswith("000000.tar")


def test_a_repair_that_was_interrupted_goes_on(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(data)
    for path in shards(data)[:3]:
        path.unlink()
    rebuilt = []
    real = repair_module._rebuild

    def interrupted(*args: object) -> object:
        if len(rebuilt) == 2:
            raise KeyboardInterrupt
        rebuilt.append(args[2])
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(repair_module, "_rebuild", interrupted)
        with pytest.raises(KeyboardInterrupt):
            repair(data)
    assert len(repair(data).mended) == 1
    assert contents(data) == whole


def test_what_cannot_be_mended_is_said(data: Path) -> None:
    (data / "rejects.parquet").unlink()
    assert "rejects.parquet" in repair(data).notes[0]
    (data / "records.parquet").unlink()
    shards(data)[0].unlink()
    with pytest.raises(LinnaeaError, match="without the plan no shard can be rebuilt"):
        repair(data)
    (data / "index.parquet").write_bytes(b"torn")
    with pytest.raises(LinnaeaError, match="which cannot be repaired: build it again"):
        repair(data)


def test_check_points_to_repair(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards(data)[0].unlink()
    assert cli.main(["data", "check", str(data)]) == cli.FAILED
    assert f"linnaea data repair {data}" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["data", "repair", str(data)]) == cli.DONE
    assert not list(iter_problems(DataSet.open(data)))
