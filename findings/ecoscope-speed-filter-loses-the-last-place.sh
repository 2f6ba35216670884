#!/bin/bash
# ecoscope's speed filter marks impossible fixes of a collar as junk, and gives back a table without the last fix of each animal: where an
# animal is now is gone, and each further filter by speed or distance takes one more. Of one wild fix among good ones it marks two: the wild one
# and the good one before it, as a step belongs to its start. An animal with a single fix is gone. "Apply a given filter by marking the fix
# junk_status", says its docstring; filters by place and by date keep all rows.
#
# Who is hurt: whoever cleans positions with it, above all for the last known place of an animal: nothing is reported as lost.
# What Linnaea does: rows in are rows out plus rejects, each with its reason (src/linnaea/data/build.py).
#
# The part that talks to EarthRanger is left out, which wants forty more packages. Expected: 9 rows, of which one is junk. Exits with 1 if the
# behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "geopandas==0.14.2" "pandas==2.2.3" "numpy==1.26.4" "shapely==2.0.6" "pyproj==3.7.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "ecoscope==1.7.3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import types
from importlib.metadata import version

sys.modules["ecoscope.io"] = types.ModuleType("ecoscope.io")

import geopandas as gpd
import pandas as pd
from ecoscope.base import Relocations, RelocsSpeedFilter
from shapely.geometry import Point

START, WILD = pd.Timestamp("2024-03-01 06:00", tz="UTC"), 4
fixes = gpd.GeoDataFrame(
    [
        {"subject": "Ada", "fixtime": START + pd.Timedelta(minutes=30 * n), "geometry": Point(38.5 if n == WILD else 37.5 + n / 1000, 0.5)}
        for n in range(8)
    ]
    + [{"subject": "Bo", "fixtime": START, "geometry": Point(37.5, 0.9)}],
    crs=4326,
)
positions = Relocations.from_gdf(fixes, groupby_col="subject")
slow = RelocsSpeedFilter(max_speed_kmhr=10)
once = positions.apply_reloc_filter(slow)
twice = once.apply_reloc_filter(slow)
junk = [n for n, bad in enumerate(once["junk_status"]) if bad]
print("ecoscope", version("ecoscope"))
print("expected: 9 rows of Ada and Bo, twice; junk [4]")
print(f"seen:     {len(once)} rows of {sorted(set(once['groupby_col']))}, then {len(twice)}; junk {junk}")
sys.exit(0 if (len(positions), len(once), len(twice)) == (9, 7, 6) and set(once["groupby_col"]) == {"Ada"} and junk == [3, 4] else 1)
PYTHON
