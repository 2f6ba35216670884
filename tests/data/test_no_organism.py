"""Pictures without organisms: a function of the seed, of every kind, and none like another."""

from pathlib import Path

import numpy as np
import pytest

from linnaea.cli import main
from linnaea.data.images import decode
from linnaea.data.no_organism import KINDS, draw, write_pictures


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
    assert picture.std() > 1


def test_the_command_writes_pictures_that_decode(tmp_path: Path) -> None:
    assert main(["data", "no-organism", str(tmp_path), "--images", "9", "--size", "48"]) == 0
    paths = sorted(tmp_path.glob("*.jpg"))
    assert len(paths) == 9
    assert all(decode(path.read_bytes()).shape == (48, 48, 3) for path in paths)
    assert main(["data", "no-organism", str(tmp_path), "--images", "0"]) == 2
