#!/bin/bash
# movement's to_via_tracks_file() turns seconds into frames by times * fps, cut off instead of rounded. At 25 frames a second, frame 29 is at
# 1.16 s, which times 25 is 28.999...: its box is written into frame 28, which has two of the same animal then, and frame 29 has none. At 25 and
# 50 frames a second 69 of the first 1,000 are one too early, at 30 and 60 it is 18. Exact frames are kept if the data set was made without fps.
# Nothing is said on writing; movement itself cannot read the file again ("multiple bounding boxes in this file have the same track ID").
#
# Who is hurt: whoever hands tracks of animals on to VIA or to training: boxes on the picture before, pictures of an animal without one.
# What Linnaea does: the number of a frame is that of the video's nearest time (number_of_frame in src/linnaea/data/frames.py).
#
# Expected: each frame once. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "numpy==2.4.6" "pandas==3.1.1" "xarray==2026.9.0" "scipy==1.17.1" "shapely==2.2.0" "h5py==3.16.0" "attrs==26.1.0" "loguru==0.7.3" \
    "pynwb==4.2.0" "sleap-io==0.9.5" "pooch" "tqdm" "pyyaml"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "movement==0.15.0"  # the rest of it draws
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import csv
import sys
from importlib.metadata import version

import numpy as np
from movement.io import load_bboxes, save_bboxes

FRAMES = 1000
seen = {}
for rate in (25, 30, 50):
    tracks = load_bboxes.from_numpy(
        position_array=np.zeros((FRAMES, 2, 1)), shape_array=np.ones((FRAMES, 2, 1)), individual_names=["fox_1"], fps=rate
    )
    save_bboxes.to_via_tracks_file(tracks, f"{rate}.csv")
    with open(f"{rate}.csv") as file:
        written = [int(row["filename"].removesuffix(".png")) for row in csv.DictReader(file)]
    seen[rate] = [(frame, number) for frame, number in enumerate(written) if frame != number]
print("movement", version("movement"))
print("expected: frame 29 in frame 29")
counts = ", ".join(f"{len(wrong)} of {FRAMES} at {rate} fps" for rate, wrong in seen.items())
print("seen: frame {} in frame {};".format(*seen[25][0]), counts)
sys.exit(0 if seen[25][0] == (29, 28) and [len(wrong) for wrong in seen.values()] == [69, 18, 69] else 1)
PYTHON
