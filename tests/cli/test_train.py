"""``linnaea train`` as a person meets it: what it prints, what it leaves, how it stops and goes on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from linnaea.cli import main
from linnaea.train.checkpoints import load_newest


def assert_same(a: Path, b: Path) -> None:
    """Two runs have the same losses and the same last weights, to the bit."""
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (a, b)]
    assert [(line["step"], line["loss"]) for line in logs[0]] == [(line["step"], line["loss"]) for line in logs[1]]
    states = [load_newest(run / "checkpoints") for run in (a, b)]
    assert states[0] is not None
    assert states[1] is not None
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name


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
        assert_same(tmp_path / "whole", output)


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
    assert_same(tmp_path / "whole", tmp_path / "run")


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


def test_dry_run_says_what_it_would_take(dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(dataset_dir), "--output", str(tmp_path / "run"), "--dry-run", "--throughput", "100"]
    assert main(["train", "tiny", *words, "--steps", "3600"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == {"samples", "steps", "start", "parameters", "arithmetic", "memory", "time"}
    assert lines["time"].endswith("2.56 hours at 100 samples/s")
    assert main(["train", "bioclip-vit-b16", *words]) == 0  # without its weights
    assert "149,620,737" in capsys.readouterr().out


def test_scores_of_a_split_go_into_the_log(dataset_dir: Path, tmp_path: Path) -> None:
    words = train_command(dataset_dir, tmp_path / "run", "--steps", "3", "--evaluate-split", "val")[3:]
    assert main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "evaluate/val/top1" in line]
    assert [line["step"] for line in scored] == [1, 3]
    assert all(0 <= line["evaluate/val/genus"] <= 1 for line in scored)


@pytest.mark.parametrize("words", [["--help"], ["tiny", "--help"]])
def test_help_names_recipes_and_flags(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *words])
    assert not stop.value.code
    out = capsys.readouterr().out
    for word in ("--steps", "--batch-size", "--lr", "--sources") if words[0] == "tiny" else ("tiny", "bioclip-vit-b16"):
        assert word in out


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
