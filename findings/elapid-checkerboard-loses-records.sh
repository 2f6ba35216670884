#!/bin/bash
# elapid's checkerboard_split() puts a record neither into training nor into test if any of its columns is empty, remarks or sex as well:
# it joins the records with the squares and drops all rows with a gap, not only those without a square. Records on a line between
# squares are dropped, too, and so are the westernmost and the southernmost, since the first lines go through them: of a grid of
# positions, as rounded coordinates are, none may be left. Nothing is said; the two tables are numbered anew.
#
# Who is hurt: whoever tests on other places than were trained on: most of the records are gone, and those left are the
# well-documented ones.
# What Linnaea does: each photograph is in exactly one split (src/linnaea/data/splits.py).
#
# Expected: all 100 records, in one half or the other. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "elapid==1.0.4" "geopandas==1.2.0" "pandas==3.1.1" \
    "shapely==2.2.0" "numpy==2.4.6" "scikit-learn==1.9.1"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import geopandas
import numpy as np
from elapid import checkerboard_split


def count_kept(records: geopandas.GeoDataFrame) -> int:
    return sum(len(half) for half in checkerboard_split(records, grid_size=1000))


generator = np.random.default_rng(0)
x, y = generator.uniform(0, 10_000, (2, 100))
anywhere = geopandas.GeoDataFrame({"occurrenceID": range(100)}, geometry=geopandas.points_from_xy(x, y), crs=32632)
remarks = ["on a fence" if n % 5 == 0 else None for n in range(100)]
east, north = np.arange(100) // 10 * 1000, np.arange(100) % 10 * 1000
to_the_kilometre = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(east, north), crs=32632)
seen = [count_kept(anywhere), count_kept(anywhere.assign(occurrenceRemarks=remarks)), count_kept(to_the_kilometre)]
print("elapid", version("elapid"))
print("expected: 100, 100 with remarks for every fifth, 100 rounded to the kilometre")
print("seen: {}, {} with remarks for every fifth, {} rounded to the kilometre".format(*seen))
sys.exit(0 if 90 < seen[0] < 100 and seen[1] <= 20 and seen[2] == 0 else 1)
PYTHON
