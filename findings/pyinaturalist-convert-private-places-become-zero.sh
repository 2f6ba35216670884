#!/bin/bash
# pyinaturalist-convert's load_csv_exports() and read() of a file of iNaturalist's export tool write 0 for empty cells in columns of
# numbers. An observation whose place is private is at latitude 0, longitude 0, in the Gulf of Guinea, and one without a stated accuracy is
# accurate to 0 metres, the best there is.
#
# Who is hurt: whoever maps an export, or keeps records that are accurate to 100 m: private and unstated ones are among the best.
# What Linnaea does: has no place where the cells are empty (src/linnaea/predict/priors.py).
#
# Expected: no place, and no accuracy. Exits with 1 if the behaviour changes.
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
SHARED["observed_on_string"] = SHARED["observed_on"]
rows = [
    SHARED | {"id": 1, "latitude": 52.5, "longitude": 13.4, "positional_accuracy": 10, "geoprivacy": ""},
    SHARED | {"id": 2, "latitude": 52.6, "longitude": 13.5, "positional_accuracy": "", "geoprivacy": ""},
    SHARED | {"id": 3, "latitude": "", "longitude": "", "positional_accuracy": "", "geoprivacy": "private"},
]
with open("observations.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
seen = [(observation.location, observation.positional_accuracy) for observation in read("observations.csv")]
print("pyinaturalist-convert", version("pyinaturalist-convert"), "pyinaturalist", version("pyinaturalist"))
print("expected: ((52.5, 13.4), 10), ((52.6, 13.5), None), (None, None)")
print("seen:", *seen)
sys.exit(0 if seen == [((52.5, 13.4), 10), ((52.6, 13.5), 0), ((0, 0), 0)] else 1)
PYTHON
