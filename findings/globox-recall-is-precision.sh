#!/bin/bash
# globox's COCOEvaluator writes the average precision of each label into the columns "AR 1", "AR 10" and "AR 100", which are average
# recall, in save_csv() and in the table of show_summary(). The totals of that table, and ar_1(), ar_10(), ar_100(), are recall.
#
# Who is hurt: whoever takes a species' recall from the file, for instance to say how many of the animals were missed: a detector that
# finds all of them beside false boxes seems to miss a third. "AR 100" is always equal to "AP 50:95", which looks like a coincidence.
# What Linnaea does: scores no boxes, only answers for whole photographs (src/linnaea/evaluate).
#
# Expected: a recall of 1. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "globox==2.9.0" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import csv
import sys
from importlib.metadata import version

from globox import Annotation, AnnotationSet, BoundingBox, COCOEvaluator


def one_photograph(*boxes: BoundingBox) -> AnnotationSet:
    return AnnotationSet([Annotation("a.jpg", image_size=(100, 100), boxes=list(boxes))])


def fox(left: int, top: int, score: float | None = None) -> BoundingBox:
    return BoundingBox(label="fox", xmin=left, ymin=top, xmax=left + 30, ymax=top + 30, confidence=score)


truth = one_photograph(fox(10, 10), fox(60, 60))
found = one_photograph(fox(0, 60, 0.9), fox(10, 10, 0.5), fox(60, 60, 0.4))  # a stone, and both foxes
evaluator = COCOEvaluator(ground_truths=truth, predictions=found)
evaluator.save_csv("scores.csv")
with open("scores.csv") as file:
    row = next(csv.DictReader(file))
print("globox", version("globox"))
print(f"expected: AR 100 of the fox {evaluator.ar_100():.2f}, as ar_100() says of all")
print(f"seen in the file: {float(row['AR 100']):.2f}, and AP 50:95 {float(row['AP 50:95']):.2f}")
wrong = row["AR 100"] == row["AP 50:95"] and float(row["AR 100"]) < 0.7
sys.exit(0 if wrong and evaluator.ar_100() == 1 else 1)
PYTHON
