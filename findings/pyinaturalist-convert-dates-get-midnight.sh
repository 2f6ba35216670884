#!/bin/bash
# pyinaturalist turns an observation's date without a time into midnight, and pyinaturalist-convert's to_dwc() writes that
# into Darwin Core: eventTime 00:00:00, and even verbatimEventDate, which should repeat the observer's words. From the API's
# own JSON, to_dwc() writes the date alone.
#
# Who is hurt: whoever studies when animals are active. Records with a date only, such as scans of old slides, become records
# of midnight, and no field tells them from animals that were seen at night.
# What Linnaea does: a date without a time stays a month or a date, in photographs (src/linnaea/data/exif.py) and in
# iNaturalist's exports (src/linnaea/predict/priors.py); it makes up no time.
#
# Expected: eventDate 2024-05-01 and no eventTime. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pyinaturalist-convert==0.9.1" "pyinaturalist==0.21.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from pyinaturalist import Observation
from pyinaturalist_convert import to_dwc

ITEM = {"id": 1, "uri": "https://www.inaturalist.org/observations/1", "quality_grade": "research", "captive": False,
        "license_code": "cc-by", "photos": [], "sounds": [], "location": "52.5,13.4", "user": {"id": 1, "login": "somebody"},
        "taxon": {"id": 891696, "name": "Pica pica", "rank": "species"},
        "observed_on": "2024-05-01", "observed_on_string": "2024-05-01", "time_observed_at": None}
TERMS = ("dwc:eventDate", "dwc:eventTime", "dwc:verbatimEventDate")


def when(observation) -> list[str | None]:
    (record,) = to_dwc([observation])
    return [record[term] for term in TERMS]


of_object, of_item = when(Observation.from_json(dict(ITEM))), when(dict(ITEM))
print(f"pyinaturalist-convert {version('pyinaturalist-convert')}, pyinaturalist {version('pyinaturalist')}")
print(f"{TERMS}, expected: ['2024-05-01', None, '2024-05-01']")
print(f"seen from an Observation: {of_object}; from the API's JSON: {of_item}")
midnight = ["2024-05-01T00:00:00", "00:00:00", "2024-05-01 00:00:00"]
sys.exit(0 if of_object == midnight and of_item == ["2024-05-01", None, "2024-05-01"] else 1)
PYTHON
