"""One seed, one machine, several threads: the recipe's own size gives the same bits every time."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_state import load_newest

from linnaea.train.claim import TrainingRun
from linnaea.train.recipes import RECIPES
from linnaea.train.run import run_training

STEPS, STOPPED_AT = 60, 23
TIMES = ("samples_per_s", "mfu", "data_wait")
"""What a line of the log says about the clock."""


@pytest.fixture(scope="module")
def forty_species(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of which a batch of 256 draws about a hundred captions, each several times."""
    from linnaea.data.build import BuildConfig, build
    from linnaea.data.engine import LocalEngine
    from linnaea.data.sources.table import TableSource
    from linnaea.data.synthetic import SyntheticConfig, synthesize

    folder = tmp_path_factory.mktemp("forty")
    photographs = folder / "photographs"
    synthesize(photographs, SyntheticConfig(n_species=40, n_images=10, size=72), n_workers=1)
    source = TableSource(
        table=photographs / "metadata.csv", root=photographs, path_column="filepath", split_column="split"
    )
    build([source], folder / "data", BuildConfig(), LocalEngine(1))
    return folder / "data"


def make_run(data_dir: Path, run_dir: Path) -> TrainingRun:
    recipe = RECIPES["tiny"]
    assert recipe.feed.batch_size == 256
    recipe = replace(recipe, descent=replace(recipe.descent, steps=STEPS, log_every=1, checkpoint_every=0))
    return TrainingRun(recipe_name="tiny", recipe=recipe, data_dir=data_dir, run_dir=run_dir, device="cpu")


def assert_same_bits(a: TrainingRun, b: TrainingRun) -> None:
    logs = [[json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()] for run in (a, b)]
    assert len(logs[0]) == STEPS
    for one, other in zip(*logs, strict=True):
        assert {name: value for name, value in one.items() if name not in TIMES} == {
            name: value for name, value in other.items() if name not in TIMES
        }
    weights = [(load_newest(run.run_dir / "checkpoints") or {})["model"] for run in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    saved = [(run.model_dir / "open_clip_model.safetensors").read_bytes() for run in (a, b)]
    assert saved[0] == saved[1]


@pytest.mark.long
@pytest.mark.usefixtures("two_threads")
def test_the_tiny_recipe_twice_and_in_two_parts(forty_species: Path, tmp_path: Path) -> None:
    """60 steps at batch 256 with two threads: twice without a stop, then with one."""
    whole, again, stopped = (make_run(forty_species, tmp_path / name) for name in ("whole", "again", "stopped"))
    run_training(whole)
    run_training(again)
    assert_same_bits(whole, again)

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not run_training(stopped, on_step).finished
    assert run_training(stopped).finished
    assert_same_bits(whole, stopped)
