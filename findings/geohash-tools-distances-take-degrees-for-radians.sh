#!/bin/bash
# geohash-tools' distance(), the "exact distance between two geohashes" in metres, puts degrees into sine and cosine as if they were
# radians, and latitude where longitude belongs. From Berlin to Potsdam it is 2,290 km instead of 28, and two ends of a park, 2.4 km
# apart, are 127 km apart. The numbers look like distances; nothing is said. Cells and their positions are right.
#
# Who is hurt: whoever thins records by distance, or asks for the nearest camera or colony, by their geohashes.
# What Linnaea does: has no cells, and measures no distances between records.
#
# Expected: distances to within 1%. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "geohash-tools==0.2.0" "pyproj==3.7.2"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import geohash_tools
from pyproj import Geod

PAIRS = {
    "Berlin to Potsdam": ((52.520, 13.405), (52.390, 13.060)),
    "London to Paris": ((51.500, -0.120), (48.850, 2.350)),
    "Nairobi to Mombasa": ((-1.290, 36.820), (-4.040, 39.670)),
    "two ends of a park": ((52.520, 13.405), (52.500, 13.420)),
}
earth = Geod(ellps="WGS84")
print("geohash-tools", version("geohash-tools"), "pyproj", version("pyproj"))
wrong = 0
for name, places in PAIRS.items():
    cells = [geohash_tools.encode(*place, precision=9) for place in places]
    (south, west), (north, east) = (geohash_tools.decode(cell) for cell in cells)
    expected = earth.inv(west, south, east, north)[2] / 1000
    seen = geohash_tools.distance(*cells) / 1000
    wrong += seen > 10 * expected
    print(f"{name}: expected {expected:,.1f} km, seen {seen:,.1f} km")
sys.exit(0 if wrong == len(PAIRS) else 1)
PYTHON
