#!/bin/bash
# BirdNET-Analyzer's `segments` cuts out what was detected, and looks for the recording of each table of results by folder and name. To leave
# out the folder that all have in common it strips its letters, not its name, off both ends: below forest/2023, the folders A2, A3, A20
# and A32 all become "A". Recorders name files by time, so that all sites have the same names. Of such sites one is left; if the
# last one has a recording without a table of results, the other site's table is read with that recording.
#
# Who is hurt: whoever cuts out detections of several recorders to check them by ear or to train on them: clips are missing, or are cut from
# another site's recording and stored under the species that was heard elsewhere. "Found 2 audio files with valid result file" is all
# that is said.
# What Linnaea does: rows of results name their photograph by its path below the folder (src/linnaea/predict/detection_files.py).
#
# No sound is opened, so that librosa and soundfile are left out. Expected: each site's recording with its own results. Exits with 1 if
# the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "birdnet-analyzer==2.4.0" "numpy==2.4.6" "scipy==1.17.1"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

sys.modules |= {name: ModuleType(name) for name in ("librosa", "soundfile")}
from birdnet_analyzer.segments.utils import parse_folders

FOLDER = Path("forest/2023")


def pairs() -> list[tuple[str, str]]:
    """Return the site of each recording that is found, and that of its results."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = parse_folders(str(FOLDER), str(FOLDER))
    return sorted((Path(one["audio"]).parent.name, Path(one["result"]).parent.name) for one in found)


def results(site: str) -> Path:
    """Return the path of a site's results."""
    return FOLDER / site / "20230501_050000.BirdNET.results.csv"


for site in ("A1", "A2", "A3"):
    (FOLDER / site).mkdir(parents=True)
    (FOLDER / site / "20230501_050000.WAV").touch()
    results(site).touch()
print("birdnet-analyzer", version("birdnet-analyzer"))
seen = pairs()
print("three sites:                expected [('A1', 'A1'), ('A2', 'A2'), ('A3', 'A3')], seen", seen)
kept = [site for site, _ in seen]
results(kept[-1]).unlink()
without = pairs()
print(f"without results of {kept[-1]}:      expected the other two, each with its own; seen", without)
other = "A2" if kept[-1] == "A3" else "A3"
sys.exit(0 if kept == ["A1", kept[-1]] and without == [("A1", "A1"), (kept[-1], other)] else 1)
PYTHON
