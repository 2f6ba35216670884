#!/bin/bash
# OpenCV shows a clip whose display matrix mirrors it (front cameras of phones, cameras behind a mirror) turned by 180
# degrees: it asks FFmpeg for the matrix's rotation, which is -180 for a mirrored picture, and knows no mirroring.
#
# Who is hurt: everyone who names animals on frames read with cv2.VideoCapture: they stand on their heads,
# and a third of the right answers is lost.
# What Linnaea does: reads videos with PyAV and applies the matrix itself (src/linnaea/data/videos.py).
#
# Expected: the frame mirrored (left and right exchanged). Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==5.0.0.93" "av==18.1.0" "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder/mirrored.mp4" <<'PYTHON'
import sys

import av
import cv2
import numpy as np

picture = np.zeros((120, 160, 3), np.uint8)
picture[:60, :80] = (255, 40, 40)  # red, above on the left
with av.open(sys.argv[1], "w") as container:
    stream = container.add_stream("libx264", rate=10)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    stream.set_display_matrix([-1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30])  # x' = -x, y' = y
    for _ in range(5):
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode(None))
video = cv2.VideoCapture(sys.argv[1])
good, frame = video.read()
assert good
corners = {"above left": frame[20, 20], "above right": frame[20, 140], "below left": frame[100, 20],
           "below right": frame[100, 140]}
(where,) = [name for name, pixel in corners.items() if int(pixel[2]) > 150]
print(f"OpenCV {cv2.__version__}")
print("expected: red above right (mirrored)")
print(f"seen: red {where}" + (" (turned by 180 degrees)" if where == "below right" else ""))
sys.exit(0 if where == "below right" else 1)
PYTHON
