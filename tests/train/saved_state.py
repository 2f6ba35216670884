"""What a run has saved, read without a model."""

import warnings
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from linnaea.train.checkpoints import find_newest


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Return all of the newest whole checkpoint and its ``step``, on the CPU; ``None`` without any."""
    found = find_newest(folder)
    if found is None:
        return None
    step, path = found
    state: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = FileSystemReader(path)
        planner = _EmptyStateDictLoadPlanner()  # type: ignore[no-untyped-call]
        _load_state_dict(state, storage_reader=reader, planner=planner, no_dist=True)
    return {**state, "step": step}
