"""Ten thousand photographs, one in a hundred broken: each gets a row, and kill -9 loses none."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from linnaea.cli import SOME_FAILED

N, EVERY = 10_000, 100
pytestmark = pytest.mark.long


def start(folder: Path, model: Path, output: Path) -> "subprocess.Popen[bytes]":
    words = ["predict", str(folder), "--model", str(model), "--output", str(output), "--device", "cpu"]
    return subprocess.Popen([sys.executable, "-m", "linnaea.cli", *words], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip


def wait_for_size(path: Path, size: float) -> None:
    end = time.monotonic() + 300
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_every_photograph_gets_a_row_whatever_is_killed(photographs: Path, trained: Path, tmp_path: Path) -> None:
    folder, drawn = tmp_path / "photographs", sorted(photographs.rglob("*.jpg"))
    folder.mkdir()
    for number in range(N):
        place = folder / f"{number:05d}.jpg"
        if number % EVERY:
            os.link(drawn[number % len(drawn)], place)
        else:
            place.write_bytes(drawn[number // EVERY % len(drawn)].read_bytes()[: 200 * (number // EVERY % 3)])
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    assert start(folder, model, tmp_path / "whole.csv").wait() == SOME_FAILED
    size, rng = (tmp_path / "whole.csv").stat().st_size, random.Random(0)
    for part in (0.2, 0.5, 0.8):
        killed = start(folder, model, tmp_path / "killed.csv")
        wait_for_size(tmp_path / "killed.csv.journal", part * size)
        time.sleep(rng.uniform(0, 0.2))
        os.killpg(killed.pid, signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL, "it was at work"
        assert not (tmp_path / "killed.csv").exists()
    assert start(folder, model, tmp_path / "killed.csv").wait() == SOME_FAILED
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    rows = pl.read_csv(tmp_path / "whole.csv", infer_schema=False)
    assert rows["file_name"].n_unique() == N
    failed = rows.filter(pl.col("status") == "failed")
    assert failed.height == N // EVERY
    assert failed["reason"].is_not_null().all()
