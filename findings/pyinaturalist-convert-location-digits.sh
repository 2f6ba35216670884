#!/bin/bash
# pyinaturalist-convert's to_dwc() gives an observation from iNaturalist's API the first two characters of its position as
# latitude and longitude: the API writes "52.5,13.4", and to_dwc() takes the first and the second item of that text, "5" and
# "2". JSON from the API is one of the stated inputs, and to_gpx() and to_dwc() of Observation objects read it rightly.
#
# Who is hurt: whoever turns saved answers of the API into Darwin Core. Most records of the northern hemisphere land between 1
# and 9 degrees north and 0 and 9 degrees east, where a check of ranges finds nothing; southern ones get "-" and a digit.
# What Linnaea does: it reads iNaturalist's own export, not the API: its columns latitude and longitude as numbers, and rows
# where they are none are left out and counted (src/linnaea/predict/priors.py).
#
# Expected: 52.5, 13.4. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pyinaturalist-convert==0.9.1" "pyinaturalist==0.21.1"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version

from pyinaturalist import Observation
from pyinaturalist_convert import to_dwc

ANSWER = """{"total_results": 1, "results": [{"id": 1, "uri": "https://www.inaturalist.org/observations/1",
  "quality_grade": "research", "captive": false, "license_code": "cc-by", "photos": [], "sounds": [],
  "observed_on": "2024-05-01", "time_observed_at": "2024-05-01T10:30:00+02:00", "location": "52.5,13.4",
  "geojson": {"type": "Point", "coordinates": [13.4, 52.5]}, "taxon": {"id": 891696, "name": "Pica pica", "rank": "species"},
  "user": {"id": 1, "login": "somebody"}}]}"""


def position(observations) -> tuple[str, str]:
    (record,) = to_dwc(observations)
    return str(record["dwc:decimalLatitude"]), str(record["dwc:decimalLongitude"])


of_answer = position(json.loads(ANSWER))
of_objects = position(Observation.from_json_list(json.loads(ANSWER)))
print(f"pyinaturalist-convert {version('pyinaturalist-convert')}, pyinaturalist {version('pyinaturalist')}")
print("expected: latitude 52.5, longitude 13.4")
print(f"seen: from the API's JSON {', '.join(of_answer)}; from Observation objects {', '.join(of_objects)}")
sys.exit(0 if of_answer == ("5", "2") and of_objects == ("52.5", "13.4") else 1)
PYTHON
