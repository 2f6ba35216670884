#!/bin/bash
# scikit-maad's read_audacity_annot() takes every second line of a label file as frequencies if one line is. Audacity writes that line only for a
# selection in the spectrogram, so that a file can have both kinds. One call that was marked in time alone moves all lines after it, the numbers
# do not fit, and the function returns an empty table: "If the file exists but has no annotations", says its docstring. A file that
# does not exist, or with a broken line, is an empty table as well. Nothing is said.
#
# Who is hurt: whoever reads a folder of annotated recordings: whole recordings have no calls, and are silence for training or surveys.
# What Linnaea does: reads no sound; a table that cannot be read is an error (src/linnaea/tables/formats.py).
#
# Expected: three calls, one of them without frequencies, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "numpy==2.4.6" "pandas==3.1.1" "scipy==1.17.1" "scikit-image==0.26.0" "matplotlib==3.11.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "scikit-maad==1.5.2"  # the rest of it measures sound
cd "$folder"
"$folder/venv/bin/python" -W ignore - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import sys
from importlib.metadata import version
from pathlib import Path

from maad.util import read_audacity_annot

wren = "1.000000\t2.000000\tTroglodytes troglodytes\n\\\t3000.000000\t6000.000000\n"
robin = "4.000000\t5.000000\tErithacus rubecula\n"
owl = "7.000000\t8.000000\tStrix aluco\n\\\t300.000000\t900.000000\n"
files = {"with frequencies": wren + owl, "without": robin, "both": wren + robin + owl}
seen = {}
for name, text in files.items():
    Path("labels.txt").write_text(text)
    seen[name] = len(read_audacity_annot("labels.txt"))
seen["no such file"] = len(read_audacity_annot("no_such_file.txt"))
print("scikit-maad", version("scikit-maad"))
print("expected: 2 calls with frequencies, 1 without, 3 in the file of both")
print("seen:", seen)
sys.exit(0 if seen == {"with frequencies": 2, "without": 1, "both": 0, "no such file": 0} else 1)
PYTHON
