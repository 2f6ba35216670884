"""Training learns, stops and goes on bit for bit, and says what is wrong."""

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.load import load_model
from linnaea.train import checkpoints, fit
from linnaea.train.checkpoints import list_checkpoints, load_newest, save_checkpoint
from linnaea.train.fit import MetricsLog, due, make_optimizer, set_learning_rate
from linnaea.train.recipes import RECIPES, Descent, Feed, Recipe, Tower
from linnaea.train.run import Run, make_start, open_part, train

SMALL = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=64, image_layers=2, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=16, crop_scale=(0.8, 1.0)),
    descent=Descent(steps=12, lr=2e-3, warmup=4, checkpoint_every=5, log_every=1),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_run(data: Path, output: Path, recipe: Recipe = SMALL, **options: Any) -> Run:
    return Run(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu", **options)


def losses(run: Run) -> list[float]:
    return [json.loads(line)["loss"] for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    state = load_newest(run.run_dir / "checkpoints")
    assert state is not None
    model: dict[str, torch.Tensor] = state["model"]
    return model


def assert_same(a: Run, b: Run) -> None:
    assert losses(a) == losses(b)
    for name, value in weights(a).items():
        assert torch.equal(value, weights(b)[name]), name


def test_a_tiny_model_learns_a_tiny_set_by_heart(dataset_dir: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, descent=replace(SMALL.descent, steps=90), feed=replace(SMALL.feed, crop_scale=(1.0, 1.0)))
    run = make_run(
        dataset_dir, tmp_path / "run", replace(recipe, descent=replace(recipe.descent, objective="multi_positive"))
    )
    result = train(run)
    assert result.finished
    assert losses(run)[0] > 0.8 * math.log(16)
    floor = losses(run)[-10:]
    assert sum(floor) / 10 < 0.55 * math.log(16)


def test_every_line_of_the_log_is_valid(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    train(run)
    lines = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert all(math.isfinite(line["loss"]) and line["samples_per_s"] > 0 for line in lines)


def test_the_model_folder_is_open_clips(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    train(run)
    model = load_model(str(run.model_dir), device="cpu")
    for name, value in weights(run).items():
        assert torch.equal(value, model.clip.state_dict()[name]), name
    assert model.facts["steps"] == 12
    assert (run.model_dir / "taxa.parquet").exists()


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_a_run_that_stops_goes_on_bit_for_bit(
    dataset_dir: Path, tmp_path: Path, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in mid-epoch, then another number of workers."""
    whole = make_run(dataset_dir, tmp_path / "whole")
    train(whole)
    stopped = make_run(dataset_dir, tmp_path / "stopped", n_workers=1)

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    result = train(stopped, on_step)
    assert (result.step, result.finished) == (stop_at, False)
    assert not stopped.is_finished
    assert train(replace(stopped, n_workers=3)).finished
    assert_same(whole, stopped)


def test_a_run_that_died_goes_on_from_its_last_checkpoint(dataset_dir: Path, tmp_path: Path) -> None:
    """What kill -9 leaves: no last words, a torn line in the log."""
    whole = make_run(dataset_dir, tmp_path / "whole")
    train(whole)
    died = make_run(dataset_dir, tmp_path / "died")

    class Killed(BaseException):
        pass

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        train(died, on_step)
    with (died.run_dir / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "lo')
    assert train(died).finished
    assert_same(whole, died)


def train_command(data: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "linnaea", "train", "tiny", "--data", str(data), "--output", str(output),
            "--steps", "30",
            "--batch-size", "16", "--image-size", "32", "--width", "64", "--image-layers", "2", "--text-layers", "1",
            "--checkpoint-every", "7", "--log-every", "1", "--warmup", "5", "--device", "cpu", *more]  # fmt: skip


@pytest.mark.long
def test_kill_9_at_random_moments_changes_nothing(dataset_dir: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(train_command(dataset_dir, tmp_path / "whole"), check=True, capture_output=True, env=environment)
    rng = random.Random(0)
    for round_ in range(4):
        output = tmp_path / f"killed-{round_}"
        for _ in range(3):
            resume = ["--resume", "--workers", str(rng.randint(1, 4))] if (output / "recipe.json").exists() else []
            process = subprocess.Popen(train_command(dataset_dir, output, *resume), env=environment,
                                       stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
            time.sleep(rng.uniform(3, 9))
            process.kill()
            process.wait()
        resume = ["--resume"] if (output / "recipe.json").exists() else []
        subprocess.run(train_command(dataset_dir, output, *resume), check=True, capture_output=True, env=environment)
        assert_same(make_run(dataset_dir, tmp_path / "whole"), make_run(dataset_dir, output))


def test_ctrl_c_saves_and_resume_goes_on(dataset_dir: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(train_command(dataset_dir, tmp_path / "run"), stderr=subprocess.PIPE, env=environment)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (tmp_path / "run" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 0), err
    assert b"Traceback" not in err
    if process.returncode == 130:
        assert b"--resume` goes on" in err
    subprocess.run(
        train_command(dataset_dir, tmp_path / "run", "--resume"), check=True, capture_output=True, env=environment
    )
    subprocess.run(train_command(dataset_dir, tmp_path / "whole"), check=True, capture_output=True, env=environment)
    assert_same(make_run(dataset_dir, tmp_path / "whole"), make_run(dataset_dir, tmp_path / "run"))


def test_a_loss_that_is_not_finite_names_step_and_samples(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    compute, calls = fit.compute_loss, []

    def bad(*args: Any) -> torch.Tensor:
        calls.append(args)
        return compute(*args) * (math.nan if len(calls) == 8 else 1)

    monkeypatch.setattr(fit, "compute_loss", bad)
    with pytest.raises(LinnaeaError, match=r"step 8 is not finite; samples [0-9a-f]{24}"):
        train(run)
    state = load_newest(run.run_dir / "checkpoints")
    assert state is not None
    assert state["step"] == 5


def test_a_full_disk_keeps_the_last_checkpoint(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    save, calls = torch.save, []

    def full(state: Any, path: Path) -> None:
        calls.append(path)
        save(state, path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(LinnaeaError, match="disk is full"):
        train(run)
    assert [path.name for path in list_checkpoints(run.run_dir / "checkpoints")][-1] == "step-000000005.pt"
    assert train(run).finished


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step, "tensor": torch.ones(3) * step})
    newest = list_checkpoints(tmp_path)
    assert len(newest) == checkpoints.KEEP
    newest[-1].write_bytes(newest[-1].read_bytes()[:200])
    state = load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 2


def test_weight_decay_spares_what_open_clip_spares(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    clip = make_start(SMALL.tower, open_part(run), seed=0, device="cpu").clip
    free, decayed = make_optimizer(clip, SMALL.descent).param_groups
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    assert free["weight_decay"] == 0
    assert decayed["weight_decay"] == SMALL.descent.weight_decay
    assert "logit_scale" in {names[id(p)] for p in free["params"]}
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert len(names) == len(free["params"]) + len(decayed["params"])


def test_the_schedule_warms_up_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1)
    descent = Descent(lr=1.0, warmup=10)
    rates = [set_learning_rate(optimizer, step, 110, descent) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert max(rates) == 1.0


def test_due_counts_first_every_and_last() -> None:
    assert [step for step in range(1, 26) if due(step, 10, 25)] == [1, 10, 20, 25]


def test_a_torn_log_is_mended(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1.0})
    with log.path.open("a") as stream:
        stream.write('{"step": 4, "los')
    log.cut_after(2)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]


def test_the_papers_recipe_is_the_papers() -> None:
    """arXiv 2311.18803, section 4.1 and the released script."""
    recipe = RECIPES["bioclip-vit-b16"]
    assert (recipe.tower.start, recipe.tower.pretrained) == ("ViT-B-16", "openai")
    assert recipe.feed.batch_size == 32_768
    assert not recipe.feed.text_per_batch
    d = recipe.descent
    assert (d.lr, d.weight_decay, d.warmup, d.epochs, d.beta1, d.beta2, d.eps) == (
        1e-4,
        0.2,
        1000,
        100,
        0.9,
        0.98,
        1e-6,
    )


def test_command_line_of_a_run(dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, words = tmp_path / "run", train_command(dataset_dir, tmp_path / "run", "--steps", "3")[3:]
    assert main([*words, "--dry-run"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert not run.exists()
    assert main(words) == 0
    assert capsys.readouterr().out == f"model: {run / 'model'}\n"
    assert main(words) == 1
    assert "--resume goes on with it" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert main([*words, "--resume", "--lr", "0.5"]) == 1
    assert "descent.lr: 0.002 -> 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["train", "tinny", "--data", "d", "--output", "o"], 2, "did you mean tiny"),
        (["train", "tiny", "--data", "nowhere", "--output", "o"], 1, "nowhere: is no data set"),
        (["train", "tiny", "--data", "nowhere", "--output", "o", "--resume"], 1, "no run to resume"),
        (["train", "tiny", "--data", "d", "--output", "o", "--batch-size", "1"], 2, "at least 2 samples"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
