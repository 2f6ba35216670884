#!/bin/bash
# country_converter finds a country wherever a country's name stands in a text: the Gulf of Mexico is Mexico, the South China Sea China,
# and Lebanon in Pennsylvania is Lebanon. Historical names fare the same: South West Africa (Namibia) is South Africa, French Sudan
# (Mali) is Sudan, Dutch New Guinea (Indonesia) is Papua New Guinea, and "Guinea Ecuatorial" is Guinea. Nothing is said, though what is
# not found is reported ("East Germany", "New Mexico"), so that one takes the rest for found.
#
# Who is hurt: whoever fills countryCode from the words of labels and old tables, where seas, towns and former countries stand: fishes
# of the open sea get a country, and records one of which no map of that day would tell.
# What Linnaea does: takes countries from the file as they are written, and makes none from words (src/linnaea/predict/priors.py).
#
# Expected: not found, or the country of the place. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "country_converter==1.3.2" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import country_converter

places = {
    "Gulf of Mexico": ("not found", "MX"),
    "South China Sea": ("not found", "CN"),
    "Lebanon, Pennsylvania": ("US or not found", "LB"),
    "South West Africa": ("NA or not found", "ZA"),
    "French Sudan": ("ML or not found", "SD"),
    "Dutch New Guinea": ("ID or not found", "PG"),
    "Guinea Ecuatorial": ("GQ or not found", "GN"),
}
print("country_converter", version("country_converter"))
seen = {place: country_converter.convert(place, to="ISO2") for place in places}
for place, (expected, _) in places.items():
    print(f"{place}: expected {expected}, seen {seen[place]}")
sys.exit(0 if all(seen[place] == before for place, (_, before) in places.items()) else 1)
PYTHON
