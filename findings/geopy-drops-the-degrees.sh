#!/bin/bash
# geopy's Point("N52 30 07 E13 24 27") is 24 degrees north, 27 degrees east: where the marks for minutes and seconds are missing, the text
# is read from the number from which on it fits, and what stands before is left out. Receivers write positions so ("N52 30.123 E013
# 24.456"), and so do many labels. With a decimal comma "52,517 13,389" is 13 north and 389 east of the first meridian, which is turned to
# 29. Nothing is said; "52.5N 13.4E" and texts with all marks are read rightly, and some other forms are refused.
#
# Who is hurt: whoever turns the text of coordinates on labels and in old tables into numbers: a record of Berlin lies in Libya, in
# the range of all checks. distance(), which takes such texts as well, measures from there.
# What Linnaea does: reads latitude and longitude from columns of their own, each as one whole number, and calls others none
# (src/linnaea/predict/priors.py).
#
# Expected: 52.502 (or 52.517) and 13.408 (or 13.389), or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "geopy==2.5.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from geopy import Point

texts = {
    "52°30'07\"N 13°24'27\"E": (52.502, 13.408),
    "N52 30 07 E13 24 27": (24, 27),
    "N52 30.123 E013 24.456": (13, 24.456),
    "52,517 13,389": (13, 29),
}
print("geopy", version("geopy"))
same = True
for text, before in texts.items():
    point = Point(text)
    seen = (round(point.latitude, 3), round(point.longitude, 3))
    same &= seen == before
    print(f"{text}: expected about (52.5, 13.4) or an error, seen {seen}")
sys.exit(0 if same else 1)
PYTHON
