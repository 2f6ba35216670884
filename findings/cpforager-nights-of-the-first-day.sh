#!/bin/bash
# cpforager marks each fix of a seabird's logger as taken by day or by night, with the sunrise and sunset of the first day of the record. A
# logger that was put on in June has its December evenings in daylight. Where the sun sets after midnight, as in Iceland in June, every hour
# is after sunset: noon is night. "Night is defined using the sunrise and sunset times at the colony center", says its docstring.
#
# Who is hurt: whoever compares diving or flying by day and by night over more than a few days, or in the north: the column is_night and
# all that is counted by it. (`step_heading_to_colony`, "heading to the colony", is likewise the heading away from it.)
# What Linnaea does: computes no sun; an answer has the time of its photograph (src/linnaea/data/exif.py).
#
# Expected: 22:00 is day in June and night in December; noon is day. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cpforager==1.3.1" "pandas==2.3.3" "numpy==2.4.6" "suntime==1.4.0" "pyyaml"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import pandas as pd
from cpforager.processing import add_is_night, add_step_heading_to_colony


def nights(east: float, north: float, zone: str, times: list[str]) -> dict[str, str]:
    record = pd.DataFrame({"datetime": pd.to_datetime(times)})
    marked = add_is_night(record, {"colony": {"center": [east, north]}, "local_tz": zone})
    return {time: "night" if is_night else "day" for time, is_night in zip(times, marked["is_night"], strict=True)}


brittany = nights(-5.2, 48.5, "Europe/Paris", ["2023-06-20 12:00", "2023-06-20 22:00", "2023-12-20 22:00"])
iceland = nights(-21.9, 64.2, "Atlantic/Reykjavik", ["2023-06-20 12:00", "2023-06-20 18:00"])
bird = pd.DataFrame({"longitude": [1.0], "latitude": [0.0]})
heading = add_step_heading_to_colony(bird, {"colony": {"center": [0.0, 0.0]}})["step_heading_to_colony"].iloc[0]
print("cpforager", version("cpforager"))
print("expected: day, day, night in Brittany; day, day in Iceland; 270 degrees from a bird in the east to its colony")
print(f"seen:     {brittany}; {iceland}; {heading:.0f} degrees")
same = list(brittany.values()) == ["day", "day", "day"] and set(iceland.values()) == {"night"} and heading == 90
sys.exit(0 if same else 1)
PYTHON
