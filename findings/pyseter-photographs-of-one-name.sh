#!/bin/bash
# pyseter's prep_images() copies the photographs of all encounters into one folder by their names alone: DSC_0001.JPG of the second day
# replaces that of the first. It says "Copied 2 images", and encounter_info.csv lists both. Folders whose name is a part of the path of
# the new folder are passed over as well: with photographs in survey-2023/, an encounter called "2023" or "all" is not looked at.
#
# Who is hurt: whoever prepares photographs of whales, dolphins or other individuals with it, day by day or boat by boat: cameras
# count from 1 again. The animals of one day are gone, and sort_images() puts the other day's photograph into both encounters, so that
# an individual was seen on a day on which it was not.
# What Linnaea does: a photograph is its path below the folder, not its name (src/linnaea/data/sources/folder.py).
#
# Expected: three photographs, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "pandas==2.3.3" "scikit-learn==1.9.1" \
    "networkx==3.6.1" "matplotlib==3.11.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "pyseter==0.3.2"
"$folder/venv/bin/python" - "$folder/survey-2023" <<'PYTHON'
import csv
import sys
from importlib.metadata import version
from pathlib import Path

from pyseter.sort import prep_images

survey = Path(sys.argv[1])
for encounter in ("05-01", "05-02", "2023"):
    (survey / "original_images" / encounter).mkdir(parents=True)
    (survey / "original_images" / encounter / "DSC_0001.JPG").write_text(f"taken in {encounter}")
prep_images(str(survey / "original_images"), str(survey / "all_images"))
copied = [path.name for path in sorted((survey / "all_images").iterdir())]
with (survey / "encounter_info.csv").open() as file:
    listed = sorted((row["encounter"], row["image"]) for row in csv.DictReader(file))
print("pyseter", version("pyseter"))
print("expected: 3 photographs of 3 encounters")
print("seen:", copied, "for", listed)
both = [("05-01", "DSC_0001.JPG"), ("05-02", "DSC_0001.JPG")]
sys.exit(0 if (copied, listed) == (["DSC_0001.JPG"], both) else 1)
PYTHON
