#!/bin/bash
# gpxpy's get_location_at(time), "approx. location at given time", returns the first point of the track at or after that
# time, however far away: neither the nearest point nor one between the two. Nothing tells how old the point is.
#
# Who is hurt: whoever gives photographs their positions from a GPX track. Receivers write few points while they stand, and
# none under trees: a photograph one minute after a point gets the position of two hours later, here 111 km away.
# What Linnaea does: reads no tracks. A photograph's place is what its EXIF says, or the camera's in the table of deployments
# (src/linnaea/predict/records/media.py); positions that such a tool wrote into the EXIF cannot be told from measured ones.
#
# Expected: about 10.008 degrees (or 10, the nearest point). Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gpxpy==1.6.2"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import gpxpy

TRACK = """<gpx version="1.1" creator="receiver" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
  <trkpt lat="10" lon="30"><time>2024-05-01T10:00:00Z</time></trkpt>
  <trkpt lat="11" lon="30"><time>2024-05-01T12:00:00Z</time></trkpt>
</trkseg></trk></gpx>"""
track = gpxpy.parse(TRACK)
(found,) = track.get_location_at(datetime(2024, 5, 1, 10, 1, tzinfo=UTC))
print(f"gpxpy {version('gpxpy')}; a track from 10 degrees north at 10:00 to 11 degrees at 12:00")
print("expected at 10:01: about 10.008 (or 10, the nearest point)")
print(f"seen at 10:01: {found.latitude}")
sys.exit(0 if found.latitude == 11 else 1)
PYTHON
