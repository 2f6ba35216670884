#!/bin/bash
# eBird2ABAP takes the centre of a pentad (5 by 5 minutes) for one that lies a cell farther south, north of the equator, and a cell farther
# east, west of Greenwich: latlng2pentad() names cells by the corner that is nearest to 0, 0, and pentad2latlng() takes that for the
# north-western corner. South of the equator and east of Greenwich the two agree. Of a checklist it asks whether it lies near the centre,
# "KEEP PENTAD", and so leaves out nearly all travelling checklists elsewhere; pentad2polygon() draws the neighbouring cell.
#
# Who is hurt: the bird atlases that it is made for: Nigeria, Ghana and the north of Kenya lose their walks. A trial with records of
# Nairobi or Cape Town shows nothing.
# What Linnaea does: counts records near a place by their own degrees, without a grid (src/linnaea/predict/priors.py).
#
# Expected: each place in the polygon of its pentad, and each checklist kept. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "eBird2ABAP==0.3.0" "geopandas==1.2.0" "pandas==3.1.1" \
    "shapely==2.2.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import math
import sys
from importlib.metadata import version

import pandas as pd
from eBird2ABAP import latlng2pentad, pentad2polygon
from eBird2ABAP.ebird2card import ebd2chk
from shapely.geometry import Point

PLACES = {"Cape Town": (-33.93, 18.46), "Nairobi": (-1.27, 36.81), "Eldoret": (0.52, 35.27), "Lagos": (6.45, 3.40), "Accra": (5.56, -0.20)}


def middle(degrees: float) -> float:
    return (math.floor(degrees * 12) + 0.5) / 12


walks = pd.DataFrame(
    {
        "SAMPLING EVENT IDENTIFIER": f"S{n}",
        "LATITUDE": middle(latitude),  # the middle of a cell
        "LONGITUDE": middle(longitude),
        "OBSERVATION DATE": pd.Timestamp("2024-05-01"),
        "OBSERVATION DATETIME": pd.Timestamp("2024-05-01 07:00"),
        "PROTOCOL TYPE": "Traveling",
        "DURATION MINUTES": 180,
        "EFFORT DISTANCE KM": 1.0,
        "ALL SPECIES REPORTED": True,
        "OBSERVER ID": f"obsr{n}",
    }
    for n, (latitude, longitude) in enumerate(PLACES.values())
)
kept = dict(zip(PLACES, ebd2chk(walks)["KEEP PENTAD"].tolist()))
inside = {
    name: pentad2polygon(latlng2pentad(latitude, longitude)[0]).contains(Point(longitude, latitude))
    for name, (latitude, longitude) in PLACES.items()
}
print("eBird2ABAP", version("eBird2ABAP"))
print("expected: all five in their pentad, and a walk of 1 km in the middle of a pentad kept in all five")
print(f"seen: in their pentad {[name for name in PLACES if inside[name]]}; kept {[name for name in PLACES if kept[name]]}")
south = ["Cape Town", "Nairobi"]
sys.exit(0 if all([name for name in PLACES if found[name]] == south for found in (kept, inside)) else 1)
PYTHON
