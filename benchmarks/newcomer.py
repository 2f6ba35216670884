"""A newcomer's clock: from a clean clone to the first named photograph, in commands typed and seconds.

``python benchmarks/newcomer.py [--without-compiler] [--minimal]``

The clone is of the last commit of this checkout, in a temporary folder. Packages come from pip's cache or index, so
the clock means something only if they are there. ``--without-compiler`` hides cc, gcc, clang and their like from PATH,
as on a fresh machine. ``--minimal`` installs the package alone (``pip install .``) instead of ``make setup``, which
also installs what the tests need.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPILERS = re.compile(r"(.*-)?(cc|gcc|g\+\+|c\+\+|clang(\+\+)?|cpp|c89|c99|f77|gfortran|nvcc|cargo|rustc)(-[\d.]+)?")
OURS = ("PYTHONPATH", "VIRTUAL_ENV", "CC", "CXX", "MAKEFLAGS", "MAKELEVEL")
"""Variables of this environment that a newcomer does not have."""


def main() -> int:
    """Run the commands and print a table; return 1 if the photograph gets no name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-compiler", action="store_true")
    parser.add_argument("--minimal", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        return run(Path(folder), asked.without_compiler, asked.minimal)


def run(folder: Path, without_compiler: bool, minimal: bool) -> int:
    """Type the commands in a folder, one after the other."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    if without_compiler:
        environment["PATH"] = str(tools_without_compilers(folder / "bin"))
    python = sys.executable if sys.prefix == sys.base_prefix else str(Path(sys.base_prefix) / "bin" / "python3")
    install = (
        [f"{python} -m venv .venv", ".venv/bin/pip install --quiet -c constraints.txt ."] if minimal else ["make setup"]
    )
    typed = [f"git clone --quiet {ROOT} linnaea", "cd linnaea", *install, ".venv/bin/linnaea predict photo.jpg"]
    place, seconds, answer = folder, 0.0, ""
    print("| command | seconds |\n|---|---:|")
    for command in typed:
        if command.startswith("cd "):
            place = place / command.removeprefix("cd ")
            shutil.copyfile(a_photograph(), place / "photo.jpg")  # which the newcomer has
            print(f"| `{command}` | |")
            continue
        start = time.perf_counter()
        done = subprocess.run(
            command, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        seconds += time.perf_counter() - start
        shown = command.replace(str(ROOT), "ADDRESS").replace(python, "python3")
        print(f"| `{shown}` | {time.perf_counter() - start:.1f} |", flush=True)
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-2000:], sep="\n", file=sys.stderr)
            return 1
        answer = done.stdout
    named = [line for line in answer.splitlines() if line.startswith("photo.jpg")]
    compiler = " without a compiler" if without_compiler else ""
    print(f"\n{len(typed)} commands and {seconds:.0f} s from a clone to the first name{compiler}: "
          + (",".join(named[0].split(",")[1:10]) if named else "none"))  # fmt: skip
    return 0 if named else 1


def tools_without_compilers(folder: Path) -> Path:
    """Fill a folder with links to all programs of PATH but compilers, and return it."""
    folder.mkdir()
    for where in os.environ["PATH"].split(os.pathsep):
        for program in sorted(Path(where).iterdir()) if Path(where).is_dir() else ():
            link = folder / program.name
            if not COMPILERS.fullmatch(program.name) and not link.is_symlink():
                link.symlink_to(program)
    return folder


def a_photograph() -> Path:
    """Return a photograph that comes with scikit-learn."""
    import sklearn

    return Path(sklearn.__file__).parent / "datasets" / "images" / "flower.jpg"


if __name__ == "__main__":
    sys.exit(main())
