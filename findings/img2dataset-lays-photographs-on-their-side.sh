#!/bin/bash
# img2dataset does not turn photographs upright, and takes away what says how they lie: it decodes without regard to the orientation
# in EXIF (OpenCV's IMREAD_UNCHANGED), and the file that it writes has no EXIF. Its "exif" column still has the orientation of the
# original. Pictures of 16 bits are decoded likewise and written in 8 by cutting off at 255, so that they are white.
#
# Who is hurt: whoever builds a data set from addresses, which it is for: cameras and phones that are held upright write EXIF, and these
# photographs lie on their side for training, whatever reads them. Plates and microscopes' pictures of 16 bits are empty.
# What Linnaea does: photographs are upright, and 16 bits are scaled, whatever the source (src/linnaea/data/images.py).
#
# The package is made known without running its __init__, so that no wandb is needed. Expected: 400 x 300 pixels, and a mean of 127.
# Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "albumentations==1.4.24" \
    "opencv-python-headless==4.12.0.88" "pillow==13.0.0"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "img2dataset==1.47.0"
NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io
import sys
import types
from importlib.metadata import distribution

import cv2
import numpy as np
from PIL import Image, ImageOps

package = types.ModuleType("img2dataset")
package.__path__ = [str(distribution("img2dataset").locate_file("img2dataset"))]
sys.modules["img2dataset"] = package
from img2dataset.resizer import Resizer  # noqa: E402

resizer = Resizer(300, "keep_ratio", resize_only_if_bigger=True)
as_a_camera_stores_it = io.BytesIO()
exif = Image.Exif()
exif[0x0112] = 6  # turn by 90 degrees
Image.new("RGB", (300, 400)).save(as_a_camera_stores_it, "JPEG", exif=exif)
upright = ImageOps.exif_transpose(Image.open(as_a_camera_stores_it)).size
stored = Image.open(io.BytesIO(resizer(as_a_camera_stores_it)[0]))
gradient = np.linspace(0, 65535, 300 * 300).reshape(300, 300).astype(np.uint16)
plate = resizer(io.BytesIO(cv2.imencode(".png", gradient)[1].tobytes()))[0]
mean = np.asarray(Image.open(io.BytesIO(plate))).mean()
print("img2dataset", distribution("img2dataset").version)
print(f"expected: {upright[0]} x {upright[1]} pixels; a mean of 127")
print(f"seen: {stored.size[0]} x {stored.size[1]} pixels, EXIF {dict(stored.getexif())}; a mean of {mean:.0f}")
sys.exit(0 if stored.size == (300, 400) and not dict(stored.getexif()) and mean > 250 else 1)
PYTHON
