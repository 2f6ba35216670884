#!/bin/bash
# wiutils' change_image_timestamp() mends the time of a photograph whose camera had a wrong clock, and writes it into the main directory of
# EXIF, also under the tag DateTimeOriginal. That tag belongs into the directory below, and the one that is there keeps the wrong time. Readers
# look there: DateTimeOriginal is as wrong as before by Pillow and ExifRead, and the file has two of them.
#
# Who is hurt: whoever mends a camera that was reset to 1 January 2019 before an upload: viewers and some tables show the new time, while
# everything that goes by DateTimeOriginal files the animals under 2019. The photographs are compressed again as well.
# What Linnaea does: reads DateTimeOriginal from its own directory, and changes no times (src/linnaea/data/exif.py).
#
# Expected: the new time. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==2.2.3" "numpy==1.26.4" "pillow==13.0.0" "ExifRead==3.5.1" \
    "opencv-python-headless==4.11.0.86" "ffmpeg-python==0.2.0" "seaborn==0.13.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "wiutils==1.1.0"  # the rest of it wants another OpenCV
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import exifread
import wiutils
from PIL import Image

WRONG, RIGHT = "2019:01:01 00:10:00", "2023:06:15 05:30:00"
exif = Image.Exif()
exif[0x0132] = WRONG
exif.get_ifd(0x8769)[0x9003] = WRONG
Image.new("RGB", (64, 64)).save("IMG_0001.JPG", exif=exif)
wiutils.change_image_timestamp("IMG_0001.JPG", "mended.jpg", timestamp="2023-06-15 05:30:00")
by_pillow = Image.open("mended.jpg").getexif().get_ifd(0x8769)[0x9003]
with Path("mended.jpg").open("rb") as file:
    tags = exifread.process_file(file)
by_exifread, other = str(tags["EXIF DateTimeOriginal"]), str(tags["Image DateTimeOriginal"])
print("wiutils", version("wiutils"))
print("expected: DateTimeOriginal", RIGHT)
print(f"seen:     {by_pillow} by Pillow, {by_exifread} by ExifRead; {other} in the directory above")
sys.exit(0 if (by_pillow, by_exifread, other) == (WRONG, WRONG, RIGHT) else 1)
PYTHON
