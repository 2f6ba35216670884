"""Pictures without organisms: a function of the seed, of every kind, and none like another."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linnaea.cli import main
from linnaea.data.images import decode
from linnaea.data.no_organism import KINDS, draw, lay, read_cutout, write_pictures


def test_the_same_seed_draws_the_same_and_another_does_not(tmp_path: Path) -> None:
    drawn = {name: [path.read_bytes() for path in write_pictures(tmp_path / name, 12, seed=seed, size=64)]
             for name, seed in (("a", 0), ("b", 0), ("c", 1))}  # fmt: skip
    assert drawn["a"] == drawn["b"]
    assert not set(drawn["a"]) & set(drawn["c"])
    assert len(set(drawn["a"])) == 12


@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
@pytest.mark.parametrize("size", [32, 200])
def test_every_kind_has_content_at_every_size(kind: str, size: int) -> None:
    picture = draw(kind, np.random.default_rng(3), size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert kind == "blank" or picture.std() > 1


def test_blank_pictures_have_one_colour_or_a_ramp_of_two() -> None:
    pictures = [draw("blank", np.random.default_rng([0, number]), 64).astype(int) for number in range(100)]
    one_colour = [not np.ptp(picture, axis=(0, 1)).any() for picture in pictures]
    assert 20 < sum(one_colour) < 60
    assert {0, 255} <= {int(picture[0, 0, 0]) for picture, one in zip(pictures, one_colour, strict=True) if one}


def test_only_the_kinds_that_are_named_are_drawn(tmp_path: Path) -> None:
    assert main(["data", "no-organism", str(tmp_path / "a"), "--images", "4", "--kinds", "blank", "sky"]) == 0
    assert [path.stem[6:] for path in sorted((tmp_path / "a").iterdir())] == ["blank", "sky", "blank", "sky"]


def test_an_unknown_kind_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "no-organism", str(tmp_path / "a"), "--kinds", "blank", "fog"]) == 2
    assert "--kinds fog: write some of wall, cloth" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def write_cutout(path: Path, colour: tuple[int, int, int], opacity: int = 255) -> Path:
    """A square of one colour in the middle of nothing; what is transparent is white."""
    picture = np.full((60, 80, 4), (255, 255, 255, 0), np.uint8)
    picture[20:40, 30:50] = (*colour, opacity)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([32, 100, 256]))
def test_a_thing_lies_whole_on_the_picture_and_leaves_the_rest(seed: int, size: int) -> None:
    cutout = np.full((20, 30, 4), (250, 0, 250, 255), np.uint8)
    ground = np.zeros((size, size, 3), np.uint8)
    picture = lay(cutout, ground, np.random.default_rng(seed))
    rows, columns = (np.flatnonzero((picture > 0).any(axis=(2, axis))) for axis in (1, 0))
    assert 0.4 * size - 2 <= len(columns) <= size
    assert len(rows) == pytest.approx(len(columns) * 2 / 3, abs=1)
    inside = picture[rows[0] + 1 : rows[-1], columns[0] + 1 : columns[-1]]
    assert np.abs(inside.astype(int) - (250, 0, 250)).max() <= 1
    assert not ground.any(), "the ground itself is not drawn on"


def test_what_is_transparent_colours_nothing(tmp_path: Path) -> None:
    cutout = read_cutout(write_cutout(tmp_path / "red.png", (200, 0, 0)))
    assert cutout.shape == (20, 20, 4), "cropped to what can be seen"
    half = read_cutout(write_cutout(tmp_path / "half.png", (200, 0, 0), 128))
    picture = lay(half, np.zeros((50, 50, 3), np.uint8), np.random.default_rng(0))
    assert picture[..., 0].max() == pytest.approx(100, abs=2)
    assert not picture[..., 1:].any()


def test_the_command_lays_things_on_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/cup", "a/deep/saw", "b/car"):
        write_cutout(tmp_path / f"{name}.png", (200, 0, 0))
    words = ["data", "no-organism", str(tmp_path / "out"), "--images", "7", "--size", "64", "--cutouts"]
    assert main([*words, str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    paths = sorted((tmp_path / "out").glob("*.jpg"))
    assert [path.stem.split("-")[1] for path in paths] == ["cup", "saw", "car", "cup", "saw", "car", "cup"]
    assert len({path.read_bytes() for path in paths}) == 7
    (tmp_path / "a/cup.png").write_bytes(b"no picture")
    assert main([*words, str(tmp_path / "a")]) == 1
    assert "cup.png: not a picture" in capsys.readouterr().err
    write_cutout(tmp_path / "c/air.png", (1, 2, 3), 0)
    assert main([*words, str(tmp_path / "c")]) == 1
    assert "air.png: is fully transparent" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "out")]) == 1
    assert "no PNG with transparency" in capsys.readouterr().err


def test_the_command_writes_pictures_that_decode(tmp_path: Path) -> None:
    assert main(["data", "no-organism", str(tmp_path), "--images", "9", "--size", "48"]) == 0
    paths = sorted(tmp_path.glob("*.jpg"))
    assert len(paths) == 9
    assert all(decode(path.read_bytes()).shape == (48, 48, 3) for path in paths)
    assert main(["data", "no-organism", str(tmp_path), "--images", "0"]) == 2
