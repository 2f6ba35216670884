#!/bin/bash
# BoxLab's merge(), and +, join the categories of two data sets by name. A species that only the second one has keeps its number, and if
# the first has given this number to another species, that one takes its name: the hares of the first data set are badgers in what is
# written. Numbers from 1 without gaps, as most files have, are enough. Nothing is said.
#
# Who is hurt: whoever joins the boxes of two projects with different species: a detector learns hares as badgers.
# What Linnaea does: reads boxes with the name of their category, and merges no COCO files (src/linnaea/predict/detection_files.py).
#
# Expected: two foxes, a hare and a badger. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "numpy==1.26.4" "pillow==12.3.0" "pyyaml==6.0.4" "pydantic==2.14.4" "matplotlib==3.11.2" "pandas==2.3.3"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "boxlab==0.1.4"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import json
import sys
from importlib.metadata import version
from pathlib import Path

import boxlab.dataset.plugins.coco
from boxlab.dataset.io import export_dataset, load_dataset

for project, species in (("first", ["Vulpes vulpes", "Lepus europaeus"]), ("second", ["Vulpes vulpes", "Meles meles"])):
    numbered = list(enumerate(species, start=1))
    Path(f"{project}.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{project}_{n}.jpg", "width": 100, "height": 100} for n, _ in numbered],
        "categories": [{"id": n, "name": name} for n, name in numbered],
        "annotations": [{"id": n, "image_id": n, "category_id": n, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0} for n, _ in numbered],
    }))
merged = load_dataset("first.json", format="coco").merge(load_dataset("second.json", format="coco"))
export_dataset(merged, "merged", format="coco", copy_images=False)
written = json.loads(Path("merged/annotations_train.json").read_text())
names = {category["id"]: category["name"] for category in written["categories"]}
files = {image["id"]: image["file_name"] for image in written["images"]}
seen = {files[box["image_id"]]: names[box["category_id"]] for box in written["annotations"]}
print("boxlab", version("boxlab"))
print("expected: first_2.jpg is Lepus europaeus, second_2.jpg is Meles meles")
print(f"seen: first_2.jpg is {seen['first_2.jpg']}, second_2.jpg is {seen['second_2.jpg']}")
sys.exit(0 if seen["first_2.jpg"] == seen["second_2.jpg"] == "Meles meles" and "Lepus europaeus" not in names.values() else 1)
PYTHON
