#!/bin/bash
# PytorchWildlife's save_detection_classification_timelapse_json() writes the classes of all boxes of a photograph into each of its boxes.
# With a deer and a fox on one photograph, both boxes have both species, the first box's first, and readers take the first. Beside a
# person, whom the classifier does not see, the animal's species is the person's, too.
#
# Who is hurt: everyone who looks at mixed photographs in Timelapse (what the file is for), or reads it as MegaDetector's format: the
# fox is a deer, and people are animals.
# What Linnaea does: writes each box's own answer, and replaces what such a file said before (src/linnaea/predict/outputs).
#
# The one module that writes the file is loaded, so that the package's other requirements (PyTorch among them) are not needed.
# Expected: no class for the person, then deer, then fox. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "supervision==0.23.0" "opencv-python-headless==5.0.0.93" \
  "pillow==13.0.0"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "pytorchwildlife==1.3.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import supervision

package = Path(importlib.util.find_spec("PytorchWildlife").submodule_search_locations[0])
module = importlib.util.spec_from_file_location("post_process", package / "utils" / "post_process.py")
post_process = importlib.util.module_from_spec(module)
module.loader.exec_module(post_process)

name = "site/IMG_0001.JPG"
boxes = np.array([[0.0, 0.0, 0.3, 1.0], [0.35, 0.0, 0.65, 1.0], [0.7, 0.0, 1.0, 1.0]])
detected = supervision.Detections(xyxy=100 * boxes, confidence=np.array([0.9, 0.9, 0.8]), class_id=np.array([1, 0, 0]))
post_process.save_detection_classification_timelapse_json(
    [{"img_id": name, "detections": detected, "normalized_coords": boxes.tolist()}],
    [{"img_id": name, "class_id": 0, "confidence": 0.95}, {"img_id": name, "class_id": 1, "confidence": 0.9}],
    "timelapse.json",
    det_categories={0: "animal", 1: "person", 2: "vehicle"},
    clf_categories={0: "deer", 1: "fox"},
)
written = json.loads(Path("timelapse.json").read_text())
words = written["classification_categories"]
seen = [[words[number] for number, _ in box["classifications"]] for box in written["images"][0]["detections"]]
print("pytorchwildlife", version("pytorchwildlife"))
print("expected of a person, a deer and a fox: [], ['deer'], ['fox']")
print("seen:", ", ".join(map(str, seen)))
sys.exit(0 if seen == [["deer", "fox"]] * 3 else 1)
PYTHON
