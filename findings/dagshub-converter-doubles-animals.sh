#!/bin/bash
# dagshub-annotation-converter reads an annotation of COCO that has a box and an outline as two annotations, and writes both: loading a
# file and saving it makes two animals of each, one with a box and one, of a new number, with an outline. Photographs without
# annotations are left out.
#
# Who is hurt: whoever passes outlined animals through it, to merge, rename or clean: counts are twice as high, half of the
# animals have no box, and recall is measured against animals that are not there; empty photographs are gone.
# What Linnaea does: a detection has one box (src/linnaea/predict/detections.py), and a photograph without any stays a row.
#
# Expected: one fox, and two photographs. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "dagshub-annotation-converter==0.3.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from dagshub_annotation_converter.converters.coco import export_to_coco_file, load_coco_from_file

outline = [10, 10, 50, 10, 50, 40, 10, 40]
fox = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10, 10, 40, 30], "segmentation": [outline], "area": 1200, "iscrowd": 0}
coco = {
    "images": [{"id": n, "file_name": f"IMG_000{n}.JPG", "width": 100, "height": 80} for n in (1, 2)],
    "categories": [{"id": 3, "name": "fox"}],
    "annotations": [fox],
}
Path("before.json").write_text(json.dumps(coco))
annotations, context = load_coco_from_file("before.json")
export_to_coco_file(list(chain(*annotations.values())), "after.json", context)
after = json.loads(Path("after.json").read_text())
print("dagshub-annotation-converter", version("dagshub-annotation-converter"))
print("expected: 1 annotation on 2 photographs")
with_box = sum("bbox" in one for one in after["annotations"])
print(f"seen: {len(after['annotations'])} annotations on {len(after['images'])} photograph, {with_box} with a box")
sys.exit(0 if len(after["annotations"]) == 2 and len(after["images"]) == 1 else 1)
PYTHON
