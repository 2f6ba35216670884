"""A newcomer's clock: a clone, an installation, and the first named photograph."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_COMMANDS = 4
pytestmark = pytest.mark.long


@pytest.mark.parametrize("more", [[], ["--without-compiler", "--minimal"]], ids=["make", "without-compiler"])
def test_a_newcomer_names_a_photograph(more: list[str], tmp_path: Path) -> None:
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), "protego"]
    if not (ROOT / ".git").exists() or subprocess.run(fetch, capture_output=True, check=False).returncode:
        pytest.skip("needs a git checkout, and pip's packages in reach")
    script = [sys.executable, str(ROOT / "benchmarks" / "newcomer.py"), *more]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert int(done.stdout.splitlines()[-1].split()[0]) <= MOST_COMMANDS + len(more) // 2
