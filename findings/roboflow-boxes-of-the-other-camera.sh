#!/bin/bash
# roboflow's reader of folders, which `roboflow import` and upload_dataset() use, looks for the annotations of a photograph by its file
# name alone, in all COCO files of the folder, and takes the first that has the name. With one folder and one COCO file a camera, the
# IMG_0001.JPG of the second camera gets the boxes of the first one's. And "test" or "valid" anywhere in a path decides the split: all
# photographs of the tortoises of the genus Testudo are in the test set, and none is in the training set.
#
# Who is hurt: whoever uploads the annotations of several cameras: they count from 1 in each folder. Boxes and species belong to other
# photographs, and nothing is said.
# What Linnaea does: finds the photographs of a file of detections by folder and name, below one folder
# (src/linnaea/predict/detection_files.py), and takes a split from a whole folder name (src/linnaea/data/sources/class_folders.py).
#
# Expected: a fox, then a badger; a split that does not depend on the genus. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "roboflow==1.7.3"
cd "$folder"
"$folder/venv/bin/python" -W ignore - 2> /dev/null <<'PYTHON'
import json
import pathlib
import sys
from importlib.metadata import version

from roboflow.util.folderparser import parsefolder

categories = [{"id": 1, "name": "fox"}, {"id": 2, "name": "badger"}]
for camera, category in (("brook", 1), ("meadow", 2)):
    place = pathlib.Path("season", camera)
    place.mkdir(parents=True)
    (place / "IMG_0001.JPG").touch()
    coco = {
        "info": {},
        "licenses": [],
        "categories": categories,
        "images": [{"id": 1, "file_name": "IMG_0001.JPG", "width": 100, "height": 100}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": category, "bbox": [10, 10, 20, 20]}],
    }
    (place / "annotations.json").write_text(json.dumps(coco))
for name in ("Chelonia mydas", "Testudo graeca"):
    pathlib.Path("species", name).mkdir(parents=True)
    pathlib.Path("species", name, "1.jpg").touch()

print("roboflow", version("roboflow"))
seen = {}
for image in parsefolder("season")["images"]:
    annotation = json.loads(image["annotationfile"]["rawText"])["annotations"][0]
    seen[image["file"]] = categories[annotation["category_id"] - 1]["name"]
splits = {image["file"]: image["split"] for image in parsefolder("species", is_classification=True)["images"]}
print("expected: /brook/IMG_0001.JPG a fox, /meadow/IMG_0001.JPG a badger; the same split for both species")
print("seen:", ", ".join(f"{file} a {name}" for file, name in seen.items()) + ";", splits)
wrong = set(seen.values()) == {"fox"} and sorted(splits.values()) == ["test", "train"]
sys.exit(0 if wrong and len(seen) == 2 else 1)
PYTHON
