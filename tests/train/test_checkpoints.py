"""A checkpoint is whole or not there, and a broken one is never taken for a good one."""

import errno
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_state import load_newest
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from linnaea.errors import LinnaeaError
from linnaea.train.checkpoint_reader import PlainLoadPlanner
from linnaea.train.checkpoints import (
    KEEP,
    MARK,
    Checkpoints,
    checksum,
    list_checkpoints,
    optimizer_state,
    restore_newest,
)


def save(folder: Path, *steps: int) -> None:
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"tensor": torch.full((1000,), 0.1 * step)})
            checkpoints.finish()


def newest(folder: Path) -> int:
    state = load_newest(folder)
    assert state is not None
    assert torch.equal(state["tensor"], torch.full((1000,), 0.1 * state["step"]))
    return int(state["step"])


def part_of(path: Path) -> Path:
    return next(path.glob("*.distcp"))


def test_what_is_saved_is_the_state_at_that_moment(tmp_path: Path) -> None:
    """Though it is written while the training goes on."""
    tensor = torch.zeros(1_000_000)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"tensor": tensor})
        tensor += 1
    found = torch.ones(1_000_000)
    assert restore_newest(tmp_path, lambda: {"tensor": found}) == 1
    assert not found.any()


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    kept = list_checkpoints(tmp_path)
    assert len(kept) == KEEP
    part_of(kept[-1]).write_bytes(part_of(kept[-1]).read_bytes()[:200])
    assert newest(tmp_path) == 2


def test_one_wrong_bit_in_a_tensor_is_seen(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    part = part_of(list_checkpoints(tmp_path)[-1])
    content = bytearray(part.read_bytes())
    content[content.index(torch.tensor([0.2]).numpy().tobytes() * 100) + 200] ^= 1
    part.write_bytes(bytes(content))
    assert newest(tmp_path) == 1


def test_without_its_mark_a_checkpoint_does_not_count(tmp_path: Path) -> None:
    """What a kill -9 during the writing leaves; the same step is saved again over it."""
    save(tmp_path, 1, 2)
    (tmp_path / "step-000000002" / MARK).unlink()
    assert newest(tmp_path) == 1
    save(tmp_path, 2)
    assert newest(tmp_path) == 2


def test_where_all_are_broken_a_run_does_not_start_over_unasked(tmp_path: Path) -> None:
    save(tmp_path, 5)
    part_of(list_checkpoints(tmp_path)[0]).write_bytes(b"")
    with pytest.raises(LinnaeaError, match=r"every checkpoint is broken \(step-000000005\)"):
        load_newest(tmp_path)


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") is None


def test_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(LinnaeaError, match="belongs to another model"):
        restore_newest(tmp_path, lambda: {"other": torch.zeros(3)})


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 90, 100, 1000)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000100", "step-000001000"]


@pytest.mark.parametrize("hidden", [False, True])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """Also where torch's writer reports it as an error of its own."""
    save(tmp_path, 1)

    def full(*args: Any) -> None:
        raise RuntimeError("unexpected pos 4 vs 0") if hidden else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, Checkpoints(tmp_path) as checkpoints:
        patch.setattr(filesystem, "_write_item", full)
        checkpoints.save(2, {"tensor": torch.zeros(3)})
        with pytest.raises(LinnaeaError, match=r"disk.*full.*step-000000001, is intact") as caught:
            checkpoints.finish()
    assert "\n" not in str(caught.value)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000001"]
    assert newest(tmp_path) == 1


class Touches:
    """A value whose pickle would touch a file where it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def spoil(checkpoint: Path, content: bytes) -> None:
    """Replace the description, and the checksum beside it, as someone would who means harm."""
    (checkpoint / ".metadata").write_bytes(content)
    facts = json.loads((checkpoint / MARK).read_text())
    facts["files"][".metadata"] = [len(content), checksum(checkpoint / ".metadata")]
    (checkpoint / MARK).write_text(json.dumps(facts))


def restore(folder: Path) -> int:
    return restore_newest(folder, lambda: {"tensor": torch.ones(1000)})


@pytest.mark.parametrize("where", ["whole", "inside", "planner_data"])
def test_no_description_of_a_checkpoint_runs_code(where: str, tmp_path: Path) -> None:
    save(tmp_path / "run", 1)
    (checkpoint,) = list_checkpoints(tmp_path / "run")
    marker, described = tmp_path / "ran", pickle.loads((checkpoint / ".metadata").read_bytes())
    if where == "inside":
        described.state_dict_metadata["tensor"] = Touches(marker)
    else:
        described.planner_data = Touches(marker)
    spoil(checkpoint, pickle.dumps(Touches(marker) if where == "whole" else described))
    with pytest.raises(LinnaeaError, match=r"not the description of a checkpoint .*; refused"):
        restore(tmp_path / "run")
    assert not marker.exists()


def test_an_entry_that_is_no_tensor_runs_no_code(tmp_path: Path) -> None:
    marker, stored, plain = tmp_path / "ran", io.BytesIO(), io.BytesIO()
    torch.save(Touches(marker), stored)
    torch.save({"step": 3}, plain)
    planner: Any = PlainLoadPlanner()
    planner.flatten_state_dict, planner.state_dict = False, {}
    index, nothing = MetadataIndex("extra"), torch.Size([0])
    item = ReadItem(LoadItemType.BYTE_IO, index, nothing, index, nothing, nothing)
    for content in (stored, plain):
        content.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        planner.load_bytes(item, stored)
    assert not marker.exists()
    planner.load_bytes(item, plain)
    assert planner.state_dict == {"extra": {"step": 3}}


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_the_files_of_a_checkpoint_are_inside_it(name: str, tmp_path: Path) -> None:
    save(tmp_path / "run", 1)
    (checkpoint,) = list_checkpoints(tmp_path / "run")
    described = pickle.loads((checkpoint / ".metadata").read_bytes())
    for info in described.storage_data.values():
        info.relative_path = name
    spoil(checkpoint, pickle.dumps(described))
    with pytest.raises(LinnaeaError, match="not a path inside"):
        restore(tmp_path / "run")


def test_the_optimisers_state_lies_where_the_weights_lie() -> None:
    """A fused update on a GPU reads the step there, also after a run is resumed."""
    model = torch.nn.Linear(3, 2, device="meta")
    state = optimizer_state(model, torch.optim.AdamW(model.parameters()))
    assert state.keys() == {"weight", "bias"}
    assert {value.device.type for parts in state.values() for value in parts.values()} == {"meta"}
