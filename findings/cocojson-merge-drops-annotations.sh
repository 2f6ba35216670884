#!/bin/bash
# cocojson's merge() keeps "only given category IDs", says its documentation. It asks for the category of each annotation whether it is
# among them, but by the wrong variable: the category that happens to be last in the file. Where that one is left out, all annotations
# of the file are left out, too, and the photographs stay. Where it is kept, another category's annotations raise KeyError.
#
# Who is hurt: whoever joins the files of several cameras without, say, the people in them: every fox is a photograph without an
# animal, and a detector learns that foxes are background.
# What Linnaea does: reads boxes with the name of their category, and merges no COCO files (src/linnaea/predict/detection_files.py).
#
# Expected: the foxes and the hares of both cameras. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cocojson==0.1.1"
cd "$folder"
"$folder/venv/bin/python" - 2>messages.txt <<'PYTHON' || { cat messages.txt; exit 1; }
import json
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from cocojson.tools.merge import merge

species = {1: "Vulpes vulpes", 2: "Lepus europaeus", 3: "Homo sapiens"}
cameras = ["camera-1", "camera-2"]
for camera in cameras:
    Path(camera, "images").mkdir(parents=True)
    for number in species:
        Path(camera, "images", f"{number}.jpg").write_bytes(b"")
    Path(camera, f"{camera}.json").write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 100} for n in species],
        "categories": [{"id": n, "name": name} for n, name in species.items()],
        "annotations": [{"id": n, "image_id": n, "category_id": n, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0} for n in species],
    }))
with redirect_stdout(sys.stderr):
    merge([f"{c}/{c}.json" for c in cameras], [f"{c}/images" for c in cameras], "merged", cids=[[1, 2], [1, 2]])
merged = json.loads(Path("merged/merged.json").read_text())
names = {category["id"]: category["name"] for category in merged["categories"]}
seen = sorted(names[annotation["category_id"]] for annotation in merged["annotations"])
print("cocojson", version("cocojson"))
print("expected: 2 Lepus europaeus and 2 Vulpes vulpes, in 6 photographs")
print(f"seen: {seen or 'no annotation'}, in {len(merged['images'])} photographs")
sys.exit(0 if not seen and len(merged["images"]) == 6 else 1)
PYTHON
