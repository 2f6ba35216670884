#!/bin/bash
# pyinaturalist-convert's load_csv_exports() and read() of a file of iNaturalist's export tool drop observed_on, the date that iNaturalist
# made out, and read observed_on_string again, which is what the observer wrote. 3/4/2022 of an observer in Europe, 3 April in the file,
# becomes 4 March. What cannot be read, "yesterday at noon", stays as text, and is no date at all in the Observation.
#
# Who is hurt: whoever works with exports of observers outside of the United States: dates up to the 12th of a month are moved by weeks or
# months, the others are right.
# What Linnaea does: takes observed_on (src/linnaea/predict/priors.py).
#
# Expected: 3 April for all. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "pyinaturalist-convert==0.9.1" "pyinaturalist==0.21.1" "pandas==2.3.3" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import csv
import sys
from importlib.metadata import version

from pyinaturalist_convert import read

SHARED = {
    "observed_on": "2022-04-03", "created_at": "2022-04-05 07:00:00 UTC", "updated_at": "2022-04-05 07:00:00 UTC",
    "time_zone": "Berlin", "license": "CC0", "url": "https://www.inaturalist.org/observations/1", "captive_cultivated": "false",
    "image_url": "https://static.inaturalist.org/photos/1/medium.jpg", "scientific_name": "Meles meles", "taxon_id": "56846",
    "taxon_species_name": "Meles meles", "taxon_genus_name": "Meles", "user_id": "1",
}  # fmt: skip
WRITTEN = ("2022-04-03 10:15", "03/04/2022 10:15", "3.4.2022", "yesterday at noon")
rows = [SHARED | {"id": n, "observed_on_string": text, "latitude": 52.5, "longitude": 13.4} for n, text in enumerate(WRITTEN, 1)]
with open("observations.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
seen = [observation.observed_on and observation.observed_on.date().isoformat() for observation in read("observations.csv")]
print("pyinaturalist-convert", version("pyinaturalist-convert"), "pyinaturalist", version("pyinaturalist"))
for text, day in zip(WRITTEN, seen, strict=True):
    print(f"{text}: expected {SHARED['observed_on']}, seen {day}")
sys.exit(0 if seen == ["2022-04-03", "2022-03-04", "2022-03-04", None] else 1)
PYTHON
