"""A process that a runtime ends leaves a note, and later ones do without that runtime; a killed process leaves none."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A package that stands for a runtime; it sends itself the signal of a fault, or of somebody's kill.
RUNTIME = "import os\ndef infer(number):\n    if number:\n        os.kill(os.getpid(), number)\n"
RUN = """
import sys
from linnaea.model.crashes import has_crashed, watch
from fast_runtime.core import infer
print(has_crashed("fast_runtime", "1.0"))
watch("fast_runtime", sys.argv[2])
infer(int(sys.argv[1]))
"""


def run(tmp_path: Path, number: int, version: str = "1.0") -> "subprocess.CompletedProcess[str]":
    package = tmp_path / "fast_runtime"
    package.mkdir(exist_ok=True)
    (package / "core.py").write_text(RUNTIME)
    paths = [str(tmp_path), *sys.path]
    code = f"import sys; sys.path[:] = {paths!r}\n{RUN}"
    return subprocess.run([sys.executable, "-c", code, str(number), version], capture_output=True, text=True,
                          check=False, env={"LINNAEA_CACHE": str(tmp_path / "cache")})  # fmt: skip


@pytest.mark.parametrize(("number", "version", "is_noted"), [
    (signal.SIGSEGV, "1.0", True), (signal.SIGABRT, "1.0", True), (signal.SIGSEGV, "0.9", False),
    (signal.SIGKILL, "1.0", False), (0, "1.0", False),
])  # fmt: skip
def test_what_a_fault_ended_is_not_used_again(number: int, version: str, is_noted: bool, tmp_path: Path) -> None:
    assert run(tmp_path, number, version).returncode == -number
    after = run(tmp_path, 0)
    assert (after.returncode, after.stdout.strip()) == (0, str(is_noted)), after.stderr
    left = list((tmp_path / "cache" / "crashes").iterdir())
    assert len(left) == (number in (signal.SIGSEGV, signal.SIGABRT)), "what was killed or ended well leaves no file"
    if is_noted:
        assert "fast_runtime 1.0 ended a process on" in after.stderr
        assert str(left[0]) in after.stderr
        left[0].unlink()
        assert run(tmp_path, 0).stdout.strip() == "False"
