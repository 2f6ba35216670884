#!/bin/bash
# albumentations keeps what belongs to boxes (label_fields) in the array of the boxes, in float32: identifiers above 16,777,216
# come back as other numbers: from a list as floats, from an array of integers as integers, which nothing tells from the right
# ones. Texts come back as they are.
#
# Who is hurt: whoever passes observations or annotations through a transform with their identifiers, to join the boxes with
# species, places or licences later. iNaturalist's observations have nine digits: nearly all come back as somebody else's.
# What Linnaea does: crops boxes itself (src/linnaea/predict/detections.py); identifiers are texts everywhere.
#
# Expected: the same identifiers. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "albumentations==2.0.8" "numpy==2.4.6"
NO_ALBUMENTATIONS_UPDATE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import albumentations
import numpy as np

observations = [16777217, 123456789, 204887123]
flip = albumentations.Compose(
    [albumentations.HorizontalFlip(p=1)],
    bbox_params=albumentations.BboxParams(format="coco", label_fields=["observations", "array"]),
)
done = flip(
    image=np.zeros((100, 100, 3), np.uint8),
    bboxes=[[10, 20, 30, 40]] * 3,
    observations=observations,
    array=np.array(observations),
)
print("albumentations", albumentations.__version__)
print(f"expected: {observations}")
print(f"seen from a list: {done['observations']}, from an array: {done['array'].tolist()} ({done['array'].dtype})")
wrong = [16777216, 123456792, 204887120]
sys.exit(0 if done["observations"] == wrong and done["array"].tolist() == wrong else 1)
PYTHON
