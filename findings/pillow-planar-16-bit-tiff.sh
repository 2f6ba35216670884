#!/bin/bash
# Pillow opens a TIFF of red, green and blue in 16 bits that is stored by planes, raises nothing, and returns pixels that
# are not the picture's: it reads the bytes of the planes as if they were 8-bit samples.
#
# Who is hurt: everyone who names or trains on pictures of scanners and microscopes (planes are what several of their
# programs write): a cat is named as a plant, and the pixels go into data sets, with exit code 0.
# What Linnaea does: reads such files with tifffile (src/linnaea/data/tiffs.py).
#
# Expected of a reader: the picture, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pillow==13.0.0" "tifffile==2026.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder/planes.tif" <<'PYTHON'
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

rows, columns = np.mgrid[:120, :160]
scene = np.stack([columns * 65_535 // 159, rows * 65_535 // 119, columns // 40 % 2 * 40_000], axis=-1).astype(np.uint16)
tifffile.imwrite(sys.argv[1], np.moveaxis(scene, -1, 0), photometric="rgb", planarconfig="separate")
expected = (scene >> 8).astype(int)
with Image.open(sys.argv[1]) as image:
    seen = np.asarray(image.convert("RGB")).astype(int)
    mode = image.mode
by_tifffile = np.moveaxis(tifffile.imread(sys.argv[1]), 0, -1) >> 8
wrong = float((np.abs(seen - expected).max(axis=-1) > 8).mean())
print(f"Pillow {PIL.__version__}: opened as {mode}, no error")
print("expected: the picture, or an error")
print(f"seen: {wrong:.0%} of the pixels are wrong by more than 8 of 255; tifffile: {(by_tifffile != expected).mean():.0%}")
sys.exit(0 if wrong > 0.5 else 1)
PYTHON
