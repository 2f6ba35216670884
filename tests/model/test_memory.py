"""Freed memory is kept: a batch finds the memory of the one before."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from linnaea.model import open as opening
from linnaea.model.open import load_model
from linnaea.train import tuning
from linnaea.train.recipe import Descent

_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
_BATCHES = """
import ctypes, resource
from linnaea.model.memory import keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def batch():
    blocks = [libc.malloc(80_000_000) for _ in range(3)]  # as large activations are
    for block in blocks:
        ctypes.memset(block, 1, 80_000_000)
    for block in blocks:
        libc.free(block)
for _ in range(3):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _count_faults(**environment: str) -> int:
    done = subprocess.run([sys.executable, "-c", _BATCHES], capture_output=True, text=True, check=True,
                          env=os.environ | environment)  # fmt: skip
    return int(done.stdout)


@_GLIBC
def test_the_next_batch_finds_the_memory_of_the_one_before() -> None:
    assert _count_faults() < 1000


@_GLIBC
@pytest.mark.parametrize(
    "setting", [{"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, {"MALLOC_TRIM_THRESHOLD_": "131072"}], ids=str
)
def test_settings_of_the_user_stay(setting: dict[str, str]) -> None:
    assert _count_faults(**setting) > 100_000


@pytest.mark.parametrize(("device", "kept"), [("cpu", 1), ("meta", 0)])
def test_training_keeps_it_on_a_cpu(device: str, kept: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    monkeypatch.setattr(tuning, "keep_freed_memory", lambda: calls.append(1))
    with tuning.tuned_device(torch.device(device), Descent(steps=1), tmp_path / "compiled"):
        assert len(calls) == kept


def test_a_loaded_model_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(opening, "keep_freed_memory", lambda: calls.append(1))
    load_model("nano", device="cpu")
    assert calls == [1]
