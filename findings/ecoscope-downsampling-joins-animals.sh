#!/bin/bash
# ecoscope's Trajectory.to_relocations() turns the steps of all animals back into positions and leaves out whose they are: all belong to
# "0". downsample(), which goes through it, then thins two elephants as if they were one: of Bo, whose collar reports ten minutes after Ada's,
# nothing is left. With interpolation=True each animal stays itself.
#
# Who is hurt: whoever thins tracks to a common interval before home ranges, speeds or maps, as collars report differently: animals vanish from
# the table, and what is left has no names.
# What Linnaea does: keeps no tracks; what has been joined to a row stays in it (src/linnaea/predict/records/media.py).
#
# The part that talks to EarthRanger is left out, which wants forty more packages. Expected: four positions of each. Exits with 1 if the
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
from ecoscope.base import Relocations, Trajectory
from shapely.geometry import Point

START = pd.Timestamp("2024-03-01 06:00", tz="UTC")
fixes = gpd.GeoDataFrame(
    [
        {"subject": subject, "fixtime": START + pd.Timedelta(minutes=30 * number + late), "geometry": Point(37.5 + 0.001 * number, north)}
        for subject, late, north in [("Ada", 0, 0.5), ("Bo", 10, 0.9)]
        for number in range(8)
    ],
    crs=4326,
)
steps = Trajectory.from_relocations(Relocations.from_gdf(fixes, groupby_col="subject"))


def count(positions: Relocations) -> dict[tuple[object, float], int]:
    rows = pd.DataFrame({"whose": positions["groupby_col"], "north": positions.geometry.y})
    return {key: int(number) for key, number in rows.groupby(["whose", "north"]).size().items()}


seen, interpolated = count(steps.downsample("60min")), count(steps.upsample("60min"))
print("ecoscope", version("ecoscope"))
print("expected: {('Ada', 0.5): 4, ('Bo', 0.9): 4}")
print(f"seen:     {seen}; {interpolated} with interpolation")
sys.exit(0 if seen == {(0, 0.5): 4} and set(interpolated) == {("Ada", 0.5), ("Bo", 0.9)} else 1)
PYTHON
