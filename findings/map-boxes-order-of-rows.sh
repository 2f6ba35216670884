#!/bin/bash
# map-boxes' mean_average_precision_for_boxes() gives an animal to the box that comes first in the table, not to the one with the
# highest score: a better box further down is then a false one. The figure depends on the order of the rows. Average
# precision, here as in PASCAL VOC, takes the boxes by score; the function does so only after the boxes were matched.
#
# Who is hurt: whoever scores boxes that are not sorted within a photograph: those of tiles or of several models that were joined,
# of a table that was sorted by position. The same detector has another precision.
# What Linnaea does: scores no boxes, only answers for whole photographs (src/linnaea/evaluate).
#
# Expected: 1, whatever the order: both foxes are found by the two best boxes. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "map-boxes==1.0.6" "numpy==2.4.6" "pandas==3.1.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from map_boxes import mean_average_precision_for_boxes

# photograph, species, x1, x2, y1, y2
foxes = np.array([["a.jpg", "fox", 0.1, 0.5, 0.1, 0.5], ["a.jpg", "fox", 0.6, 0.9, 0.6, 0.9]], dtype=object)
# photograph, species, score, x1, x2, y1, y2
boxes = np.array(
    [
        ["a.jpg", "fox", 0.9, 0.1, 0.5, 0.1, 0.5],
        ["a.jpg", "fox", 0.3, 0.1, 0.5, 0.1, 0.45],
        ["a.jpg", "fox", 0.8, 0.6, 0.9, 0.6, 0.9],
    ],
    dtype=object,
)
print("map-boxes", version("map-boxes"))
by_score = mean_average_precision_for_boxes(foxes, boxes, verbose=False)[0]
backwards = mean_average_precision_for_boxes(foxes, boxes[::-1], verbose=False)[0]
print("expected: 1.00 for both orders")
print(f"seen: {by_score:.2f}, and {backwards:.2f} with the rows backwards")
sys.exit(0 if by_score == 1 and backwards < 0.7 else 1)
PYTHON
