"""``linnaea train`` as a person meets it: what it prints, what it leaves, how it stops and goes on."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from saved_state import load_newest

from linnaea.cli import main
from linnaea.data.shards import DataSet


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


def start(data: Path, output: Path, n_processes: int, *more: str) -> list[subprocess.Popen[bytes]]:
    """The processes of a run, as torchrun starts them; the run goes on where there is one."""
    resume = ["--resume"] if (output / "recipe.json").exists() else []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common["WORLD_SIZE"] = str(n_processes)
    return [
        subprocess.Popen(
            train_command(data, output, *resume, *more), env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for rank in range(n_processes)
    ]  # fmt: skip


def last_step(run: Path) -> int:
    log = run / "metrics.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def kill_at(processes: list[subprocess.Popen[bytes]], run: Path, step: int, delay: float) -> None:
    """SIGKILL to all some time after the step; what was logged before they were started does not count."""
    log = run / "metrics.jsonl"
    before = log.stat().st_mtime_ns if log.exists() else 0
    while not log.exists() or log.stat().st_mtime_ns == before or last_step(run) < step:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.003)
    time.sleep(delay)
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    assert [process.wait(timeout=120) for process in processes] == [0] * len(processes)


@pytest.mark.long
def test_kill_9_at_random_steps_changes_nothing(dataset_dir: Path, tmp_path: Path) -> None:
    """With another number of workers each time: the same bits."""
    finish(start(dataset_dir, tmp_path / "whole", 1))
    rng = random.Random(0)
    for round_ in range(3):
        output = tmp_path / f"killed-{round_}"
        for step in sorted(rng.sample(range(2, 24), 3)):
            workers = ("--workers", str(rng.randint(1, 4)))
            kill_at(start(dataset_dir, output, 1, *workers), output, step, rng.uniform(0, 0.03))
            assert not (output / "model").exists()
        finish(start(dataset_dir, output, 1))
        assert_same(tmp_path / "whole", output)


@pytest.mark.long
@pytest.mark.parametrize("numbers", [(2, 1), (1, 2), (2, 1, 2)])
def test_kill_9_with_other_numbers_of_processes(numbers: tuple[int, ...], dataset_dir: Path, tmp_path: Path) -> None:
    """The curve of the loss is the uninterrupted run's to 1e-4, whoever goes on after a kill at a random step."""
    finish(start(dataset_dir, tmp_path / "whole", 1))
    rng, output = random.Random(sum(numbers)), tmp_path / "killed"
    for n_processes, step in zip(numbers, sorted(rng.sample(range(8, 24), len(numbers) - 1)), strict=False):
        kill_at(start(dataset_dir, output, n_processes), output, step, rng.uniform(0, 0.03))
    finish(start(dataset_dir, output, numbers[-1]))
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in (tmp_path / "whole", output)]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert len(losses[0]) == len(losses[1]) == 30
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) <= 1e-4


def test_a_corrupt_shard_is_named_and_the_run_goes_on(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of one shard is gone, and another is overwritten in the middle."""
    shutil.copytree(dataset_dir, tmp_path / "data")
    index = DataSet.open(tmp_path / "data").split("train").index
    cut, spoilt = (tmp_path / "data" / shard for shard in sorted(set(index["shard"]))[:2])
    os.truncate(cut, cut.stat().st_size // 2)
    lost = index.filter((index["shard"] == str(cut.relative_to(tmp_path / "data")))
                        & (index["offset"] + index["size"] > cut.stat().st_size))  # fmt: skip
    other = index.filter(index["shard"] == str(spoilt.relative_to(tmp_path / "data"))).row(1, named=True)
    with spoilt.open("r+b") as stream:
        stream.seek(other["offset"])
        stream.write(bytes(other["size"]))
    words = train_command(tmp_path / "data", tmp_path / "run", "--steps", "6")[3:]
    assert main(words) == 3
    err = capsys.readouterr().err
    assert f"sample {other['key']}: " in err
    assert f"{cut}: ends before sample {lost['key'][0]}; see `linnaea data check`; another sample replaces it" in err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    named = {line.partition(":")[0] for part in lines for line in part["unreadable"]}
    assert named == {other["key"], *lost["key"]}
    assert (tmp_path / "run" / "model" / "open_clip_model.safetensors").exists()


@pytest.fixture
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
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
        assert f"`linnaea train --output {tmp_path / 'run'} --resume` continues".encode() in err
    assert main(["train", "--output", str(tmp_path / "run"), "--resume"]) == 0
    assert main(train_command(dataset_dir, tmp_path / "whole")[3:]) == 0
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_resume_reads_the_recipe_and_the_data_set_of_the_run(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With or without the recipe's name; what is written again must be what the run was started with."""
    words = train_command(dataset_dir, tmp_path / "run", "--steps", "2")[3:]
    assert main(words) == 0
    for again in (["train"], ["train", "tiny"], ["train", "tiny", "--data", str(dataset_dir), "--steps", "2"]):
        shutil.rmtree(tmp_path / "run" / "model")
        assert main([*again, "--output", str(tmp_path / "run"), "--resume"]) == 0
        assert (tmp_path / "run" / "model" / "open_clip_model.safetensors").exists()
    shutil.rmtree(tmp_path / "run" / "model")
    capsys.readouterr()
    assert main(["train", "--output", str(tmp_path / "run"), "--resume", "--steps", "3"]) == 1
    assert "was started with other settings (descent.steps: 2 -> 3)" in capsys.readouterr().err
    assert main(["train", "--output", str(tmp_path / "none"), "--resume"]) == 1
    assert "no run to resume" in capsys.readouterr().err
    assert main(["train", "--output", str(tmp_path / "run"), "--data", str(dataset_dir)]) == 2
    assert "give a recipe" in capsys.readouterr().err


def test_command_line_of_a_run(dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, words = tmp_path / "run", train_command(dataset_dir, tmp_path / "run", "--steps", "3")[3:]
    assert main([*words, "--dry-run"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert not run.exists()
    assert main(words) == 0
    assert capsys.readouterr().out == f"model: {run / 'model'}\n"
    assert main(words) == 1
    assert "continue it with --resume" in capsys.readouterr().err
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
        (["train", "tiny", "--data", "nowhere", "--output", "o"], 1, "nowhere: not a data set"),
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
