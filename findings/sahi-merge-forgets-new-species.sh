#!/bin/bash
# sahi's merge_from_file(), and merge() without desired_name2id, keep the categories of the first file only. Annotations of a category that
# only the second one has are left out, and their photographs stay, as if nothing were on them. Nothing is said. merge_from_list()
# of the same two keeps all.
#
# Who is hurt: whoever joins the boxes of two cameras or two years: the species that are new in the second are lost, the rarest first,
# and a detector learns their photographs as empty.
# What Linnaea does: reads boxes with the name of their category, and merges no COCO files (src/linnaea/predict/detection_files.py).
#
# Expected: the badger of the second file among the annotations. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sahi==0.12.8" "numpy==2.4.6" "opencv-python==5.0.0.93" "shapely==2.2.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from sahi.utils.coco import merge_from_file

for camera, species in (("first", ["Vulpes vulpes", "Lepus europaeus"]), ("second", ["Meles meles", "Vulpes vulpes"])):
    numbered = list(enumerate(species, start=1))
    Path(f"{camera}.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{camera}/{n}.jpg", "width": 100, "height": 100} for n, _ in numbered],
        "categories": [{"id": n, "name": name} for n, name in numbered],
        "annotations": [{"id": n, "image_id": n, "category_id": n, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0} for n, _ in numbered],
    }))
merge_from_file("first.json", "second.json", "merged.json")
merged = json.loads(Path("merged.json").read_text())
names = {category["id"]: category["name"] for category in merged["categories"]}
seen = sorted(names[annotation["category_id"]] for annotation in merged["annotations"])
print("sahi", version("sahi"))
print("expected: Lepus europaeus, Meles meles, Vulpes vulpes, Vulpes vulpes on 4 photographs")
print("seen:", ", ".join(seen), "on", len(merged["images"]), "photographs")
sys.exit(0 if seen == ["Lepus europaeus", "Vulpes vulpes", "Vulpes vulpes"] and len(merged["images"]) == 4 else 1)
PYTHON
