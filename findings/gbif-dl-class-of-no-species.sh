#!/bin/bash
# gbif-dl makes a class called "None" of all records that have no species: generate_urls(..., label="speciesKey") turns the missing key into
# the text "None" before it looks whether there is one. The lines behind are there to leave such records out, and its reader of archives
# does so. An occurrence with a photograph and a recording can give the recording, although pictures were asked for.
#
# Who is hurt: whoever trains on what it downloads ("to be used for training machine learning models"): birds, moths and mosses that are
# named to the genus or family only are one class beside the species.
# What Linnaea does: a record without a name is rejected with that reason; one that is named to the genus is a picture of the genus
# (src/linnaea/taxonomy/row.py).
#
# GBIF is not asked: pygbif's search is replaced and answers with three records. Expected: one photograph, of Larus canus.
# Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gbif-dl==0.1.1" "pygbif==0.7.0" "pescador==3.0.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from typing import Any

import pygbif
from gbif_dl.generators import api


def photograph(number: int, **names: Any) -> dict[str, Any]:
    return {"key": number, **names, "media": [{"type": "StillImage", "identifier": f"https://example.org/{number}.jpg"}]}


RECORDS = [
    photograph(1, speciesKey=2481174, species="Larus canus", genus="Larus", kingdom="Animalia"),
    photograph(2, genus="Larus", kingdom="Animalia"),
    photograph(3, family="Bryaceae", kingdom="Plantae"),
]
pygbif.occurrences.search = lambda **_: {"offset": 0, "endOfRecords": True, "results": RECORDS}
seen = [found["label"] for found in api.generate_urls({"country": "DE"}, label="speciesKey")]
print("gbif-dl", version("gbif-dl"))
print("expected classes: ['2481174']")
print(f"seen: {seen}")
sys.exit(0 if seen == ["2481174", "None", "None"] else 1)
PYTHON
