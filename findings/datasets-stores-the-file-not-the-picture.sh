#!/bin/bash
# Hugging Face `datasets` stores the file that a Pillow image was opened from, not the image: whatever was done to it in place
# (ImageDraw over a person, paste, thumbnail) is not in the data set. from_dict, from_generator and map do so without a message.
# Methods that return a new image (resize, crop, convert) are stored as one expects.
#
# Who is hurt: whoever blacks out people on photographs of camera traps, or the label of a specimen, before publishing them: the
# data set has the originals, with their EXIF. Photographs that map() made small are as large as before.
# What Linnaea does: names an image as it is now (src/linnaea/predict/inputs.py; a test holds it to that), and exports the bytes of the
# pictures that it made (src/linnaea/data/export.py).
#
# Expected: the left half black, and 64 x 43 pixels. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "datasets==5.2.0" "pillow==13.0.0"
cd "$folder"
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - <<'PYTHON'
import sys

import datasets
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
Image.new("RGB", (600, 400), "white").save("photograph.jpg")


def blacked_out() -> Image.Image:
    picture = Image.open("photograph.jpg")
    ImageDraw.Draw(picture).rectangle((0, 0, 299, 399), fill="black")
    return picture


def made_small(row: dict) -> dict:
    row["image"].thumbnail((64, 64))
    return row


assert blacked_out().getpixel((100, 100)) == (0, 0, 0)
features = datasets.Features(image=datasets.Image())
people = datasets.Dataset.from_dict({"image": [blacked_out()]}, features=features)
people.to_parquet("people.parquet")
published = datasets.Dataset.from_parquet("people.parquet")[0]["image"]
small = datasets.Dataset.from_dict({"image": ["photograph.jpg"]}, features=features).map(made_small)[0]["image"]
print("datasets", datasets.__version__)
print("expected: a black left half after from_dict and to_parquet, and (64, 43) pixels after map")
print(f"seen: the left half is {published.getpixel((100, 100))}, and {small.size} pixels")
sys.exit(0 if published.getpixel((100, 100)) == (255, 255, 255) and small.size == (600, 400) else 1)
PYTHON
