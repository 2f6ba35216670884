"""An engine runs every task once, hands on what goes wrong, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linnaea.data.engine import LocalEngine
from linnaea.errors import LinnaeaError


def square(number: int) -> int:
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise LinnaeaError("three is too much")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("n_workers", [1, 2])
def test_every_task_is_done_once(n_workers: int) -> None:
    assert sorted(LocalEngine(n_workers).map(square, range(20))) == [n * n for n in range(20)]
    assert list(LocalEngine(n_workers).map(square, [])) == []


@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_first_error_stops_the_rest(n_workers: int) -> None:
    with pytest.raises(LinnaeaError, match="three is too much"):
        list(LocalEngine(n_workers).map(fail_at_three, range(1000)))


def test_a_worker_that_dies_is_explained() -> None:
    with pytest.raises(LinnaeaError, match="a worker process died"):
        list(LocalEngine(2).map(die, range(4)))


def test_tasks_are_taken_as_they_are_needed() -> None:
    """Ten thousand shards are never queued whole."""
    taken = []

    def tasks():  # type: ignore[no-untyped-def]
        for number in range(1000):
            taken.append(number)
            yield number

    results = LocalEngine(2).map(square, tasks())
    next(results)
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]


PARENT = """
import os, sys, time
from linnaea.data.engine import LocalEngine

def report(seconds):
    with open(sys.argv[1], "a") as out:
        out.write(f"{os.getpid()}\\n")
    time.sleep(seconds)

if __name__ == "__main__":
    list(LocalEngine(2).map(report, [300, 300]))
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_no_worker_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    script, pids = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    pids.touch()
    parent = subprocess.Popen([sys.executable, str(script), str(pids)])
    deadline = time.monotonic() + 60
    while len(pids.read_text().split()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(pid) for pid in pids.read_text().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))
