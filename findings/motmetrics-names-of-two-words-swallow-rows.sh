#!/bin/bash
# py-motmetrics' reader of VATIC's text format, whose labels are "enclosed in quotation marks", cuts each row at its spaces, also at those within the
# quotation marks. With a label of two words, as a species has, the quotation mark is open until the next row's, and that row is swallowed:
# half of the boxes are gone, the class of the others has lines of numbers in it, and the epithets are columns of attributes.
#
# Who is hurt: whoever scores trackers of animals with it: half of the truth is missing, and good boxes count as false ones.
# What Linnaea does: reads detections from JSON, where a name is one text (src/linnaea/predict/detection_files.py).
#
# Expected: four boxes of two species. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "motmetrics==1.4.0" "numpy==1.26.4" "pandas==2.3.3"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import motmetrics

animals = ["Vulpes vulpes", "Lepus europaeus"]
seen = {}
for words in (2, 1):
    names = [" ".join(name.split()[:words]) for name in animals]
    rows = [f'{track} 10 20 50 60 {frame} 0 0 0 "{name}"' for track, name in enumerate(names) for frame in (0, 1)]
    Path("truth.txt").write_text("\n".join(rows) + "\n")
    read = motmetrics.io.loadtxt("truth.txt", fmt="vatic-txt")
    seen[words] = (len(read), sorted(set(read["ClassId"]) & set(names)))
print("motmetrics", version("motmetrics"))
print("expected: (4, ['Lepus europaeus', 'Vulpes vulpes'])")
print("seen:", seen[2], "with one word:", seen[1])
sys.exit(0 if seen == {2: (2, []), 1: (4, ["Lepus", "Vulpes"])} else 1)
PYTHON
