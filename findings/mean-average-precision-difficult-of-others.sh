#!/bin/bash
# mean-average-precision takes boxes of the truth with two marks, "difficult" and "crowd". The marks of a photograph are repeated wrongly
# (np.repeat for np.tile): the first prediction takes those of the first box of the truth for all of them, and so on. Where that one is
# difficult, finding another one is not counted. And difficult boxes count as missed, though PASCAL VOC, whose mark it is, leaves
# them out.
#
# Who is hurt: whoever marks animals that are half hidden as difficult, and herds as crowds: the same detector has another precision if
# the truth is listed in another order, down to none at all.
# What Linnaea does: scores no boxes, only answers for whole photographs (src/linnaea/evaluate).
#
# Expected: 1 for a detector whose best box is the fox, in every order. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mean-average-precision==2024.1.5.0" "numpy==2.4.6" "pandas==3.1.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from mean_average_precision import MetricBuilder

# x1, y1, x2, y2, class, difficult, crowd
fox, hidden_fox = [10, 10, 60, 60, 0, 0, 0], [200, 200, 300, 300, 0, 1, 0]
# x1, y1, x2, y2, class, score
predictions = [[10, 10, 60, 60, 0, 0.9], [400, 10, 500, 60, 0, 0.8]]  # the fox, and a stone


def average_precision(truth: list) -> float:
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=1)
    metric.add(np.array(predictions, float), np.array(truth))
    return float(metric.value(iou_thresholds=0.5)["mAP"])


print("mean-average-precision", version("mean-average-precision"))
alone, first, second = average_precision([fox]), average_precision([fox, hidden_fox]), average_precision([hidden_fox, fox])
print("expected: 1.00 for the fox alone, before a difficult one, and after it")
print(f"seen: {alone:.2f}, {first:.2f}, {second:.2f}")
sys.exit(0 if (alone, first, second) == (1, 0.5, 0) else 1)
PYTHON
