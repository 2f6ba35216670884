"""Freed memory is kept: a batch finds the memory of the one before."""

import os
import platform
import subprocess
import sys

import pytest

_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
_BATCHES = """
import resource, sys, torch
from linnaea.model.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "train":
    from pathlib import Path
    from linnaea.train.recipe import Descent
    from linnaea.train.tuning import tuned_device
    with tuned_device(torch.device("cpu"), Descent(steps=1), Path("compiled")):
        pass
elif sys.argv[1] == "load":
    from linnaea.model.open import load_model
    load_model("nano", device="cpu")
def batch():
    return [torch.ones(20_000_000) for _ in range(3)]  # 80 MB each, as large activations are
for _ in range(3):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _count_faults(how: str, **environment: str) -> int:
    done = subprocess.run([sys.executable, "-c", _BATCHES, how], capture_output=True, text=True, check=True,
                          env=os.environ | environment)  # fmt: skip
    return int(done.stdout.split()[-1])


@_GLIBC
@pytest.mark.parametrize("how", ["train", "load"])
def test_the_next_batch_finds_the_memory_of_the_one_before(how: str) -> None:
    assert _count_faults(how) < 1000


@_GLIBC
@pytest.mark.parametrize(
    "setting", [{"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, {"MALLOC_TRIM_THRESHOLD_": "131072"}], ids=str
)
def test_settings_of_the_user_stay(setting: dict[str, str]) -> None:
    assert _count_faults("train", **setting) > 100_000
