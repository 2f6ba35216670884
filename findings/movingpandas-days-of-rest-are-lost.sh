#!/bin/bash
# movingpandas' splitters cut the track of an animal by day, by month or at gaps, and discard parts that are shorter than min_length, 0 unless
# told otherwise. From a TrajectoryCollection they discard those of length 0 as well: the days on which an animal did not leave its
# den, or its nest, are gone. From one Trajectory they are not, and the collection itself keeps an animal that never moves.
#
# Who is hurt: whoever counts days, or averages the way of a day, for several animals at once: resting animals are left out, and the
# others make the mean. Positions that are rounded to 4 decimals rest within 11 m.
# What Linnaea does: keeps no tracks; rows in are rows out plus rejects, each with its reason (src/linnaea/data/build.py).
#
# Expected: three days of each. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "movingpandas==0.23.0" "geopandas==1.1.1" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import geopandas as gpd
import movingpandas as mpd
import pandas as pd
from shapely.geometry import Point

START = pd.Timestamp("2024-03-01")
fixes = [
    {"animal": animal, "t": START + pd.Timedelta(days=day, hours=6 * step), "geometry": Point(37.0 if at_rest else 37.0 + 0.01 * step, 0.5)}
    for animal, resting_days in (("Ada", {0, 1, 2}), ("Bo", {1}), ("Cy", set()))
    for day in range(3)
    for at_rest in [day in resting_days]
    for step in range(4)
]
table = gpd.GeoDataFrame(fixes, crs=4326).set_index("t")
animals = mpd.TrajectoryCollection(table, "animal")
together = [part.id for part in mpd.TemporalSplitter(animals).split(mode="day")]
one_by_one = [part.id for one in animals for part in mpd.TemporalSplitter(one).split(mode="day")]
print("movingpandas", version("movingpandas"), "of", [one.id for one in animals])
print("expected:", one_by_one)
print("seen:    ", together)
sys.exit(0 if len(one_by_one) == 9 and together == ["Bo_0", "Bo_2", "Cy_0", "Cy_1", "Cy_2"] else 1)
PYTHON
