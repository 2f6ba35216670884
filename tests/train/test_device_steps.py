"""Steps on a device that computes by itself: numbers read late, towers compiled once, a run that is killed."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_state import load_newest
from torch.nn.attention import SDPBackend

from linnaea.errors import LinnaeaError
from linnaea.train import fit
from linnaea.train.checkpoints import list_checkpoints
from linnaea.train.claim import TrainingRun
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.tuning import compiles, tuned_device

SMALL = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=64, image_layers=2, text_layers=2, context_length=48, n_merges=200),
    feed=Feed(batch_size=16, crop_scale=(0.8, 1.0)),
    descent=Descent(steps=12, lr=2e-3, warmup=4, checkpoint_every=5, log_every=1),
)
COMPILED = replace(SMALL, descent=replace(SMALL.descent, compile=True))
TIMES = ("samples_per_s", "mfu", "data_wait")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_run(data: Path, output: Path, recipe: Recipe = SMALL) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu")


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    lines = [json.loads(text) for text in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def assert_same(a: Path, b: Path) -> None:
    assert read_log(a) == read_log(b)
    one, other = ((load_newest(run / "checkpoints") or {})["model"] for run in (a, b))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture
def _reads_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "reads_late", lambda device: True)


def test_numbers_that_are_read_late_are_the_same(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(make_run(dataset_dir, tmp_path / "at-once"))
    monkeypatch.setattr(fit, "reads_late", lambda device: True)
    reported: list[int] = []
    run_training(make_run(dataset_dir, tmp_path / "late"), lambda step, total, line: reported.append(step))
    assert reported == list(range(1, 13))
    assert_same(tmp_path / "at-once", tmp_path / "late")


@pytest.mark.usefixtures("_reads_late")
def test_a_step_is_reported_during_the_next_one(dataset_dir: Path, tmp_path: Path) -> None:
    order: list[str] = []
    take_step = fit.Learner.take_step

    def noted(self: fit.Learner, batches: Any, step: int, n_steps: int) -> None:
        order.append(f"take {step + 1}")
        take_step(self, batches, step, n_steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit.Learner, "take_step", noted)
        run = make_run(dataset_dir, tmp_path, replace(SMALL, descent=replace(SMALL.descent, steps=4)))
        run_training(run, lambda step, total, line: order.append(f"read {step}"))
    # The first and the last step are read at once, because a checkpoint follows them.
    assert order == ["take 1", "read 1", "take 2", "take 3", "read 2", "take 4", "read 3", "read 4"]


@pytest.mark.parametrize(("bad", "kept"), [(8, 5), (10, 5), (12, 10)])
@pytest.mark.usefixtures("_reads_late")
def test_a_loss_that_is_not_finite_stops_before_a_checkpoint(
    bad: int, kept: int, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, calls = fit.compute_loss, []

    def spoilt(*args: Any) -> torch.Tensor:
        calls.append(args)
        return compute(*args) * (math.nan if len(calls) == bad else 1)

    monkeypatch.setattr(fit, "compute_loss", spoilt)
    with pytest.raises(LinnaeaError, match=rf"the loss at step {bad} is not finite; samples [0-9a-f]{{24}}"):
        run_training(make_run(dataset_dir, tmp_path / "run"))
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert newest.name == f"step-{kept:09d}"
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.usefixtures("_reads_late")
def test_a_run_that_stops_has_reported_every_step(dataset_dir: Path, tmp_path: Path) -> None:
    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    run = make_run(dataset_dir, tmp_path / "stopped")
    result = run_training(run, on_step)
    assert not result.finished and [line["step"] for line in read_log(run.run_dir)] == list(range(1, result.step + 1))
    assert run_training(run).finished
    run_training(make_run(dataset_dir, tmp_path / "whole"))
    assert_same(tmp_path / "whole", tmp_path / "stopped")


COUNTED = """
import json, pathlib, pickle, sys, torch
torch.set_num_threads(1)
from linnaea.train.run import run_training
compile_, done, found = torch.compile, 0, []
def count(graph, inputs):
    found[-1].append(done)
    return graph.forward
def on_step(step, total, line):
    global done
    done = step
torch.compile = lambda function, **more: compile_(function, backend=count, **more)
for run in pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()):
    torch._dynamo.reset()
    done = 0
    found.append([])
    run_training(run, on_step)
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "variants",
    [
        [{}, {"lora_rank": 2}],
        pytest.param([{"accumulate": 2}, {"freeze_blocks": 1}, {"grad_checkpointing": True}], marks=pytest.mark.long),
    ],
)
def test_towers_are_compiled_in_the_first_three_steps(
    variants: list[dict[str, Any]], dataset_dir: Path, tmp_path: Path
) -> None:
    """Captions come in other numbers and lengths in every step; nothing is compiled again for that.

    In a process of its own, because the tests' checks of shapes break the compiled functions apart.
    """
    runs = [
        make_run(dataset_dir, tmp_path / str(number), replace(COMPILED, descent=replace(COMPILED.descent, **variant)))
        for number, variant in enumerate(variants)
    ]
    (tmp_path / "runs.pickle").write_bytes(pickle.dumps(runs))
    command = [sys.executable, "-c", COUNTED, str(tmp_path / "runs.pickle")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    for variant, after_steps in zip(variants, json.loads(done.stdout.splitlines()[-1]), strict=True):
        # Images and captions, each with the last block apart, and the probe; frozen blocks have code of their own.
        assert 5 <= len(after_steps) <= 9 and max(after_steps) < 3, (variant, after_steps)


def test_the_compiler_takes_packs_of_many_sizes_and_leaves_blocks_whole(tmp_path: Path) -> None:
    settings = torch._dynamo.config
    before = settings.recompile_limit, settings.optimize_ddp
    with tuned_device(torch.device("cpu"), COMPILED.descent, tmp_path):
        assert (settings.recompile_limit, settings.optimize_ddp) == (64, False)
    assert (settings.recompile_limit, settings.optimize_ddp) == before


def test_a_gpu_keeps_its_kernel_of_attention_for_the_whole_run(tmp_path: Path) -> None:
    """Blocks are computed again in the backward pass, and must save what they saved before."""
    before = torch._C._get_sdp_priority_order()
    with tuned_device(torch.device("cuda"), Descent(compile=False), tmp_path):
        first, *_ = torch._C._get_sdp_priority_order()
        assert first == SDPBackend.CUDNN_ATTENTION.value
    assert torch._C._get_sdp_priority_order() == before


def test_products_in_8_bits_need_bf16_and_a_gpu(dataset_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float8: needs --precision bf16"):
        replace(SMALL, descent=replace(SMALL.descent, float8=True))
    recipe = replace(SMALL, descent=replace(SMALL.descent, float8=True, precision="bf16"))
    with pytest.raises(LinnaeaError, match=r"--float8 needs an NVIDIA GPU .*; this run is on cpu"):
        run_training(make_run(dataset_dir, tmp_path, recipe))


def test_towers_are_compiled_by_default_on_a_gpu_only() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [compiles(Descent(compile=given), cpu) for given in (None, True, False)] == [False, True, False]
    assert [compiles(Descent(compile=given), gpu) for given in (None, True, False)] == [True, True, False]


def test_compiled_code_is_kept_in_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = str(Path(tempfile.gettempdir()) / "torchinductor_me")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", default)
    with tuned_device(torch.device("cpu"), COMPILED.descent, tmp_path / "compiled"):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "compiled")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == default
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/my/own")
    with tuned_device(torch.device("cpu"), COMPILED.descent, tmp_path / "compiled"):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/my/own"


KILLED = """
import os, pathlib, pickle, signal, sys, torch
torch.set_num_threads(1)
from linnaea.train.run import run_training
run, last = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
def on_step(step, total, line):
    if step == last:
        os.kill(os.getpid(), signal.SIGKILL)
run_training(run, on_step, on_notice=lambda text: sys.exit(text))
"""


@pytest.mark.long
def test_a_compiled_run_that_is_killed_goes_on_bit_for_bit(dataset_dir: Path, tmp_path: Path) -> None:
    """kill -9 at step 8; the newest checkpoint is of step 5."""

    def go(name: str, last: int = 0) -> int:
        task = tmp_path / f"{name}.pickle"
        task.write_bytes(pickle.dumps((make_run(dataset_dir, tmp_path / name, COMPILED), last)))
        return subprocess.run([sys.executable, "-c", KILLED, str(task)], check=False, timeout=900).returncode

    assert go("whole") == 0
    assert go("killed", last=8) == -signal.SIGKILL
    assert go("killed") == 0
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert any((tmp_path / "killed" / "compiled").rglob("*.so"))
    run_training(make_run(dataset_dir, tmp_path / "plain"))
    plain, compiled = ([line["loss"] for line in read_log(tmp_path / name)] for name in ("plain", "whole"))
    assert torch.allclose(torch.tensor(plain), torch.tensor(compiled), rtol=0, atol=1e-4)
