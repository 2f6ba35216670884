#!/bin/bash
# ensemble-boxes' soft_nms() lowers the score of each box that overlaps a better one, as Soft-NMS does, and returns the scores as they
# were: the lowered ones only choose which boxes stay. With the default threshold of 0.001 nearly all stay, so that nothing
# happens at all. nms() with weights, on the other hand, writes the weighted scores into the lists that it was given: the
# same call again returns smaller ones, each time.
#
# Who is hurt: whoever joins the boxes of several detectors: an animal that three of them found is three animals, each with its full
# score. Whoever tries several values of iou_thr on the same boxes compares scores that shrink from one to the next.
# What Linnaea does: takes boxes from one detector's file, with the scores that stand there (src/linnaea/predict/detection_files.py).
#
# Expected: 0.9 and, for the same animal, 0.8 exp(-IoU^2 / 0.5) = 0.14. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ensemble-boxes==1.0.9" "numba==0.66.0" "numpy==2.4.6" "pandas==3.1.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from ensemble_boxes import nms, soft_nms

fox, the_same_fox = [0.10, 0.10, 0.50, 0.50], [0.11, 0.10, 0.51, 0.50]
print("ensemble-boxes", version("ensemble-boxes"))
_, scores, _ = soft_nms([[fox], [the_same_fox]], [[0.9], [0.8]], [[1], [1]], sigma=0.5)
print("expected of soft_nms: 0.9, 0.14")
print("seen:", ", ".join(f"{score:.2f}" for score in scores))
first_model, second_model = [0.9], [0.8]
lists = [first_model, second_model]
weighted = [nms([[fox], [the_same_fox]], lists, [[1], [1]], iou_thr=limit, weights=[2, 1])[1][0] for limit in (0.4, 0.5, 0.6)]
print("expected of nms with weights 2 and 1, for three limits: 0.60, 0.60, 0.60")
print("seen:", ", ".join(f"{score:.2f}" for score in weighted))
sys.exit(0 if sorted(scores) == [0.8, 0.9] and weighted[2] < weighted[1] < weighted[0] else 1)
PYTHON
