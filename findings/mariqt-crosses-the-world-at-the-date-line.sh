#!/bin/bash
# mariqt interpolates the positions of a ship or a vehicle to the time of each photograph, and takes longitudes for plain numbers: halfway
# between 179.9995 and -179.9995, a hundred metres apart, lies 0, on the meridian of Greenwich. The smoothing of a track sums longitudes
# likewise. Yaw, pitch and roll are turned rightly, from 179 to -179 over 180, and a comment beside them says why.
#
# Who is hurt: whoever describes photographs of the sea off Fiji, New Zealand or in the Bering Sea with it (the "curation toolbox" of the
# MareHub): those taken while the track crosses 180 degrees get a place on the other side of the world, and nothing is said.
# What Linnaea does: interpolates no positions; each photograph has its own or its deployment's (src/linnaea/predict/records/media.py).
#
# Expected: longitude 180 or -180. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mariqt==1.0.1" "numpy==2.4.6" "pymap3d==3.2.0" "utm==0.9.0"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from mariqt.geo import Attitudes, Positions

track, heading = Positions(), Attitudes({})
for time_ms, longitude, yaw in [(0, 179.9995, 179.0), (10_000, -179.9995, -179.0)]:
    track.setVals(time_ms, -17.0, longitude, -1000.0)
    heading.setVals(time_ms, yaw=yaw)
position, attitude = track.interpolateAtTime(5_000)[0], heading.interpolateAtTime(5_000)[0]
print("mariqt", version("mariqt"))
print("expected: longitude 180.0, yaw 180.0")
print(f"seen:     longitude {position.lon}, yaw {attitude.yaw}")
sys.exit(0 if abs(position.lon) < 1e-6 and abs(attitude.yaw - 180) < 1e-6 else 1)
PYTHON
