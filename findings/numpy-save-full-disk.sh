#!/bin/bash
# numpy.save and ndarray.tofile return without an error although the end of the array was not written, if the disk gets
# full (or a quota or file size limit is met) within the last 4,096 bytes. Larger arrays that are cut earlier do raise.
# tofile hands the array to a C stream; the last part waits in its buffer until fclose, whose result is not looked at.
#
# Who is hurt: whoever writes vectors to a nearly full disk, takes the return as success, and removes or replaces what
# was there before (a rename of "new.npy" over "old.npy"). The loss shows when the file is read.
# What Linnaea does: writes through Python's stream, whose errors are raised (src/linnaea/arrays.py); a test injects the
# error at each system call.
#
# Expected: OSError. Exits with 1 if the behaviour changes. A file size limit of the process stands for the full disk.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import resource
import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])


def outcome(n_numbers: int, room: int) -> str:
    path = folder / f"{n_numbers}.npy"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        np.save(path, np.ones(n_numbers))
        said = "no error"
    except OSError as error:
        said = f"OSError ({error})"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    try:
        np.load(path)
        read = "can be read"
    except ValueError as error:
        read = f"cannot be read ({str(error)[:60]})"
    print(f"{n_numbers} numbers ({128 + 8 * n_numbers} bytes), room for {room}: {said}; {path.stat().st_size} bytes, {read}")
    return said


print(f"numpy {np.__version__}; expected an OSError each time")
silent, loud = outcome(100, 500), outcome(100_000, 500)
vectors = outcome(77_000, 128 + 8 * 77_000 - 1000)
sys.exit(0 if silent == vectors == "no error" and loud.startswith("OSError") else 1)
PYTHON
