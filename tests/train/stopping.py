"""Runs that are stopped between two checkpoints and go on."""

import polars as pl
import pytest

from linnaea.train.claim import TrainingRun
from linnaea.train.run import run_training


def losses_of(run: TrainingRun) -> list[float]:
    losses: list[float] = pl.read_ndjson(run.run_dir / "metrics.jsonl")["loss"].to_list()
    return losses


def train_whole_and_in_parts(whole: TrainingRun, parts: TrainingRun) -> tuple[list[float], list[float]]:
    """Train two runs, of which the second dies at its third step; return the losses of both."""
    run_training(whole)

    def stop_at_three(step: int, total: int, line: object) -> None:
        if step == 3:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        run_training(parts, stop_at_three)
    assert run_training(parts).finished
    return losses_of(whole), losses_of(parts)
