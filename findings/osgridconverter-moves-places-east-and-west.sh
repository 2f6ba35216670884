#!/bin/bash
# OSGridConverter's grid2latlong() is right near the meridian of 2 degrees west and wrong beside it: 35 m in London, 274 m in Norfolk,
# 384 m on Skye, 431 m in Scilly, always away from that meridian. The documentation shows its own example come back 0.004 degrees farther
# east, and puts that down to rounding to squares of 10 m. latlong2grid() is right, so that a round trip is not.
#
# Who is hurt: whoever puts British records, which are kept as grid references, on a map or beside photographs with
# positions: in the west and the east they lie in the next squares of 100 m, and nothing tells the wrong ones from the right.
# What Linnaea does: reads positions in degrees, and no grid references (src/linnaea/data/sources/occurrences.py).
#
# Expected: within 10 m of pyproj's position. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "OSGridConverter==0.1.3" "pyproj==3.7.2"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from OSGridConverter import grid2latlong, latlong2grid
from pyproj import Geod, Transformer

places = {
    "SJ 63700 56000": (363700, 356000),  # Cheshire
    "TQ 30000 80000": (530000, 180000),  # London
    "TG 51409 13177": (651409, 313177),  # Norfolk, the example of the documentation
    "NG 45000 21000": (145000, 821000),  # Skye
    "SV 91000 11000": (91000, 11000),  # Scilly
}
to_degrees = Transformer.from_crs("EPSG:27700", "EPSG:4326", always_xy=True)
print("OSGridConverter", version("OSGridConverter"))
print("expected: within 10 m of", [tuple(round(n, 5) for n in to_degrees.transform(*p)[::-1]) for p in places.values()])
metres, forward = [], []
for reference, place in places.items():
    longitude, latitude = to_degrees.transform(*place)
    read = grid2latlong(reference)
    metres.append(round(Geod(ellps="WGS84").inv(longitude, latitude, read.longitude, read.latitude)[2]))
    square = latlong2grid(latitude, longitude)
    forward.append(max(abs(square.E - place[0]), abs(square.N - place[1])) <= 10)
    print(f"seen: {reference} at {read.latitude:.5f}, {read.longitude:.5f}, {metres[-1]} m away")
sys.exit(0 if all(forward) and metres[0] <= 10 and all(m > 200 for m in metres[2:]) else 1)
PYTHON
