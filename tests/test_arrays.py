"""Arrays on disk are whole, or their writer says that they are not."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from linnaea.arrays import create_array, save_array
from linnaea.errors import LinnaeaError


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Let no file of this process grow above a size; it stands for a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("n_numbers", "room"), [(100, 500), (77_000, 128 + 8 * 77_000 - 1000), (77_000, 500)])
def test_an_array_that_does_not_fit_is_an_error(n_numbers: int, room: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    save_array(np.zeros(3), path)
    with room_for(room), pytest.raises(LinnaeaError, match=r"a\.npy"):
        save_array(np.ones(n_numbers), path)
    assert np.load(path).tolist() == [0, 0, 0], "the old one is there"
    assert [one.name for one in tmp_path.iterdir()] == ["a.npy"]


def test_a_mapped_array_that_does_not_fit_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    with room_for(100_000), pytest.raises(OSError, match="File too large"):
        create_array(tmp_path / "a.npy", np.float32, (1000, 100))
    array = create_array(tmp_path / "b.npy", np.float16, (10, 4))
    array[3] = 7
    array.flush()
    assert np.load(tmp_path / "b.npy")[3].tolist() == [7, 7, 7, 7]


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 4)])
def test_an_array_comes_back(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    save_array(array, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="c" if array.size else None), array)
