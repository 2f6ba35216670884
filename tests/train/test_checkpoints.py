"""A checkpoint is whole or not there, and a broken one is never taken for a good one."""

import errno
import os
from pathlib import Path

import pytest
import torch

from linnaea.errors import LinnaeaError
from linnaea.train import checkpoints
from linnaea.train.checkpoints import list_checkpoints, load_newest, save_checkpoint


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step, "tensor": torch.ones(3) * step})
    newest = list_checkpoints(tmp_path)
    assert len(newest) == checkpoints.KEEP
    newest[-1].write_bytes(newest[-1].read_bytes()[:200])
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 2


def test_one_wrong_bit_in_a_tensor_is_seen(tmp_path: Path) -> None:
    """torch.load does not look at the checksums in its files."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"step": step, "tensor": torch.full((1000,), 0.1 * step)})
    newest = list_checkpoints(tmp_path)[-1]
    content = bytearray(newest.read_bytes())
    place = content.index(torch.tensor([0.2]).numpy().tobytes() * 100) + 50 * 4
    content[place] ^= 1
    newest.write_bytes(bytes(content))
    assert torch.load(newest, weights_only=True)["step"] == 2
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_where_all_are_broken_a_run_does_not_start_over_unasked(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, {"step": 5})
    list_checkpoints(tmp_path)[0].write_bytes(b"")
    with pytest.raises(LinnaeaError, match=r"every checkpoint is broken \(step-000000005\.pt\)"):
        load_newest(tmp_path)


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (90, 100, 1000):
        save_checkpoint(tmp_path, step, {"step": step})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000100.pt", "step-000001000.pt"]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """Also where torch's writer reports it as an error of its own."""
    save_checkpoint(tmp_path, 1, {"step": 1})

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("unexpected pos 4 vs 0") if hidden else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.torch, "save", full)
        with pytest.raises(LinnaeaError, match="disk") as caught:
            save_checkpoint(tmp_path, 2, {"step": 2})
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001.pt"]
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1
