#!/bin/bash
# pycococt adds indices for camera traps to COCO's: locToImgs has all photographs of a location, seqToImgs all of a sequence, and locToSeqs
# the first sequence of each location alone. What is added when a new location is met is not added for its later photographs.
#
# Who is hurt: whoever counts visits, draws a sample of sequences for each camera, or splits a set by sequences: a camera with hundreds of
# visits has one, as has a camera with one, and the others are in no list.
# What Linnaea does: events are a column of the table of photographs (src/linnaea/predict/records/media.py).
#
# Expected: camera A has A1, A2 and A3. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pycococt==0.1" "pycocotools==2.0.11" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from pycococt.cococt import COCOCT

shots = [("A", "A1"), ("A", "A1"), ("A", "A2"), ("A", "A3"), ("B", "B1"), ("B", "B2")]
images = [{"id": n, "file_name": f"{n}.jpg", "location": place, "seq_id": visit} for n, (place, visit) in enumerate(shots)]
Path("season.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
season = COCOCT("season.json")
photographs = {place: len(of_place) for place, of_place in season.locToImgs.items()}
print("pycococt", version("pycococt"))
print("expected: {'A': ['A1', 'A2', 'A3'], 'B': ['B1', 'B2']}")
print(f"seen:     {season.locToSeqs}, with {photographs} photographs and {len(season.seqs)} sequences in all")
same = season.locToSeqs == {"A": ["A1"], "B": ["B1"]} and photographs == {"A": 4, "B": 2} and len(season.seqs) == 5
sys.exit(0 if same else 1)
PYTHON
