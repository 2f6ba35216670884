#!/bin/bash
# exif2pandas makes a table of the positions and times of photographs. A receiver that has no fix writes its numbers as 0/0, which EXIF reads as
# "unknown"; the table has 0.0, 0.0 for them, a place in the Atlantic south of Ghana, as for a photograph that was taken there. So have
# photographs whose degrees and minutes are good and only the seconds are 0/0. Times are DateTime, which an editor changes, or none:
# DateTimeOriginal is looked for one directory too high.
#
# Who is hurt: whoever maps a folder of field photographs: the ones in the forest, where there is no fix, count as records from the sea.
# What Linnaea does: 0/0 is no position, nor is 0, 0 (`_position` in src/linnaea/data/exif.py).
#
# Expected: no position for the first; Berlin, or none, for the second. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "exif2pandas==2.1" "ExifRead==2.3.2" "pandas==2.3.3" "numpy==2.4.6" "pillow==13.0.0"
mkdir "$folder/photographs"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from exif2pandas.utils import get_panda_df
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

UNKNOWN = IFDRational(0, 0)


def photograph(name: str, north: tuple[object, ...], east: tuple[object, ...]) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2023:06:15 05:30:00"
    exif.get_ifd(0x8825).update({1: "N", 2: north, 3: "E", 4: east})
    Image.new("RGB", (64, 64)).save(f"photographs/{name}.jpg", exif=exif)


photograph("forest", (UNKNOWN, UNKNOWN, UNKNOWN), (UNKNOWN, UNKNOWN, UNKNOWN))
photograph("minutes", (52, IFDRational(315, 10), UNKNOWN), (13, IFDRational(246, 10), UNKNOWN))
photograph("seconds", (52.0, 31.0, 30.0), (13.0, 24.0, 36.0))
table = get_panda_df(["photographs"])
rows = zip(table["filename"], table["cleaned_latitude"], table["cleaned_longitude"], table["cleaned_date"], strict=True)
seen = {Path(name).stem: (round(north, 3), round(east, 3), date) for name, north, east, date in rows}
print("exif2pandas", version("exif2pandas"))
print("expected: forest nowhere; seconds, and minutes or not, at 52.525, 13.41; all on 15 June 2023")
print("seen:    ", seen)
sys.exit(0 if seen == {"forest": (0, 0, None), "minutes": (0, 0, None), "seconds": (52.525, 13.41, None)} else 1)
PYTHON
