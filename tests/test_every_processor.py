"""The numerical tests pass with every kernel that this processor can run: no bound leans on one kernel's rounding.

OpenBLAS (numpy, scipy), PyTorch and oneDNN choose their kernels by the processor, and each adds in an order of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KERNELS = (
    {},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "Nehalem"},
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
)
"""The first is what the processor chooses itself."""
CHOSEN_BY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
NUMERICAL = {
    "data": ("copies", "copies_search"),
    "taxonomy": ("tree",),
    "model": ("encode", "fast", "onnx", "text"),
    "predict": ("adapt", "calibration", "classifier", "index", "nano", "predict", "priors", "pybioclip"),
    "train": ("backbone", "cutmix", "losses", "objectives", "relatives", "replay", "trajectory", "tuning"),
    "evaluate": ("beyond_species", "intervals", "probes", "protocols", "structure", "trust"),
}
FILES = [f"tests/{folder}/test_{name}.py" for folder, names in NUMERICAL.items() for name in names]
PROBE = """
import numpy, threadpoolctl
for dtype in ("float32", "float64"):
    numpy.ones((99, 99), dtype) @ numpy.ones((99, 99), dtype)
print(sorted({str(library.get("architecture")) for library in threadpoolctl.threadpool_info()}))
"""
"""Multiply matrices, and say for which processor the kernels were written."""


def run_python(kernel: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the root of the repository with the kernels that ``kernel`` names, and no other choice."""
    kept = {name: value for name, value in os.environ.items() if name not in CHOSEN_BY and "PYTEST" not in name}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=ROOT, env=kept | kernel, check=False, capture_output=True, text=True, timeout=1800
    )


@pytest.mark.long
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: "-".join(kernel.values()) or "own")
def test_the_numbers_hold_with_the_kernels_of(kernel: dict[str, str]) -> None:
    if "OPENBLAS_CORETYPE" in kernel:
        probe, own = run_python(kernel, "-c", PROBE), run_python({}, "-c", PROBE)
        assert own.returncode == 0, own.stderr
        if probe.returncode != 0:
            pytest.skip("this processor has not the instructions")
        if probe.stdout == own.stdout:
            pytest.skip("the kernels that this processor chooses itself, or none of this OpenBLAS")
    done = run_python(kernel, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not long", *FILES)
    assert done.returncode == 0, done.stdout[-8000:]
