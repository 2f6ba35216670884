#!/bin/bash
# biodex writes the time at which it analysed a photograph where its exports say when the animal was there: "timestamp" of the table for
# Wildlife Insights and "observation_date" of the draft for iNaturalist. The photograph's own time is not asked for. Where it is,
# for the chart of activity by hour, EXIF is read one level too high: DateTime, which an editor sets, is taken instead of DateTimeOriginal,
# and positions are never found.
#
# Who is hurt: whoever hands in a season of a camera trap with it: all animals were seen today, within minutes, and the animals'
# hours are those of the computer. "MANUAL REVIEW REQUIRED", says the draft, of the species and the location.
# What Linnaea does: a record has the time of its photograph, or none (src/linnaea/data/exif.py).
#
# The detector is replaced by one that finds nothing. Expected: 15 June 2023, 5:30. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0" "pandas==2.3.3" "numpy==2.4.6" "requests==2.34.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "biodex==1.0.3"  # the rest of it wants torch
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import csv
import sys
from importlib.metadata import version
from pathlib import Path

from core.detector import analyze_single_image
from core.exif_utils import extract_metadata
from core.exports import export_wildlife_insights
from core.types import BatchResult
from PIL import Image

TAKEN, EDITED = "2023:06:15 05:30:00", "2025:02:01 10:00:00"
exif = Image.Exif()
exif[0x0132] = EDITED
exif.get_ifd(0x8769)[0x9003] = TAKEN
exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 0.0), 3: "E", 4: (18.0, 25.0, 0.0)})
Image.new("RGB", (64, 64)).save("IMG_0001.JPG", exif=exif)


class Detector:
    """A detector that finds nothing: an empty photograph has a row as well."""

    model_id = "none"

    def predict(self, image: Image.Image, threshold: float) -> list:
        return []

    def build_records(self, found: list) -> list:
        return []


image = Image.open("IMG_0001.JPG")
result = analyze_single_image(image, filename="IMG_0001.JPG", detector=Detector())
batch = BatchResult([result], [], 1, 1, 1, 0, 0, 0, 0)
with Path(export_wildlife_insights(batch)).open() as file:
    written = next(csv.DictReader(file))["timestamp"]
read = extract_metadata(image)
print("biodex", version("biodex"), "pillow", version("pillow"))
print("expected:", TAKEN, "at -33.85, 18.42")
print(f"seen:     {written} in the table; {read.timestamp} at {read.latitude}, {read.longitude} for the chart")
same = written == result.analyzed_at and (read.timestamp, read.latitude, read.longitude) == (EDITED, None, None)
sys.exit(0 if same else 1)
PYTHON
