#!/bin/bash
# wiutils' compute_detection() and compute_detection_history() give each species a row, or a row a day, for each camera, with 0 where it
# was not seen. They take the cameras from the photographs after the empty ones were removed: a camera that photographed no animal has
# no rows, though it is in the table of deployments that is given. Nothing is said.
#
# Who is hurt: whoever estimates occupancy from it: sites without animals are what it is about. Two cameras of four saw an animal, and
# the table says two of two.
# What Linnaea does: writes an empty sequence as an observation of type blank (src/linnaea/predict/records/camtrap_package.py).
#
# Expected: four cameras, two of them with 0. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "wiutils==1.1.0" "pandas==2.3.3" "numpy==2.4.6" "opencv-python==5.0.0.93"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import pandas as pd
import wiutils

jaguar = {"class": "Mammalia", "order": "Carnivora", "family": "Felidae", "genus": "Panthera", "species": "onca"}
empty = dict.fromkeys(jaguar)
images = pd.DataFrame(
    [{"project_id": 1, "deployment_id": camera, "number_of_objects": 1, "timestamp": "2024-03-05 22:10:00", **taxon}
     for camera, taxon in (("A", jaguar), ("B", jaguar), ("C", empty), ("D", empty))]
)  # fmt: skip
deployments = pd.DataFrame(
    [{"deployment_id": camera, "placename": camera, "start_date": "2024-03-01", "end_date": "2024-03-10"} for camera in "ABCD"]
)
detections = wiutils.compute_detection(images, deployments, compute_abundance=False)
history = wiutils.compute_detection_history(images, deployments)
print("wiutils", version("wiutils"), "pandas", pd.__version__)
print("expected: A, B, C and D in both tables")
print("seen:", ", ".join(detections["deployment_id"]), "and", ", ".join(history["deployment_id"].unique()))
print("share of cameras with jaguars:", detections["value"].mean())
sys.exit(0 if list(detections["deployment_id"]) == ["A", "B"] == list(history["deployment_id"].unique()) else 1)
PYTHON
