#!/bin/bash
# PyLabel's ExportToYoloV5() writes the numbers of COCO's categories as they are, and beside them a list of names, which YOLO counts from
# 0: with categories from 1, as in COCO's own and most annotation tools' files, each box has the name of the next species, and the
# last species a number that the list does not have. Numbers with gaps go wrong likewise. Nothing is said; cat_id_index=0 mends it,
# "useful if the cat_ids are not continuous", but here they are.
#
# Who is hurt: whoever trains a detector of species from annotated photographs: swifts are learnt as tits, and tits as magpies.
# What Linnaea does: reads boxes with the name of their category, not its number (src/linnaea/predict/detection_files.py).
#
# Expected: a number whose name in dataset.yaml is the category's. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pylabel==0.1.55" "pandas==3.1.1" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" - 2>messages.txt <<'PYTHON' || { cat messages.txt; exit 1; }
import json
import sys
from importlib.metadata import version
from pathlib import Path

import yaml
from pylabel import importer

species = ["Apus apus", "Parus major", "Pica pica"]
numbered = list(enumerate(species, start=1))
Path("birds.json").write_text(json.dumps({
    "images": [{"id": n, "file_name": f"{name}.jpg", "width": 100, "height": 100} for n, name in numbered],
    "categories": [{"id": n, "name": name} for n, name in numbered],
    "annotations": [
        {"id": n, "image_id": n, "category_id": n, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0} for n, _ in numbered
    ],
}))
importer.ImportCoco("birds.json", path_to_images=".").export.ExportToYoloV5(output_path="yolo/labels")
names = yaml.safe_load(Path("yolo/dataset.yaml").read_text())["names"]
seen = []
for name in species:
    number = int(Path(f"yolo/labels/{name}.txt").read_text().split()[0])
    seen.append(names[number] if number < len(names) else f"{number} of {len(names)} names")
print("pylabel", version("pylabel"))
print("expected:", ", ".join(species))
print("seen:", ", ".join(seen))
sys.exit(0 if seen == ["Parus major", "Pica pica", "3 of 3 names"] else 1)
PYTHON
