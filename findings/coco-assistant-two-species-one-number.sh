#!/bin/bash
# COCO Assistant's merge() gives categories that only the second file has the numbers behind the count of the first file's categories, not
# behind its highest number. Where those have gaps, as in COCO itself (80 categories up to 90), a new species gets the number of one
# that is there: the merged file has two categories of one number, and tools that read it know the last of them only.
#
# Who is hurt: whoever joins the annotations of two projects in which a category was once deleted: badgers are learnt, drawn and counted as
# wolves, or wolves as badgers. Nothing is said.
# What Linnaea does: reads boxes with the name of their category, and merges no COCO files (src/linnaea/predict/detection_files.py).
#
# It is installed without its requirements, and with the usual pycocotools. Expected: the fox and the badger of the first file, and the
# wolf of the second. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pycocotools==2.0.11" "seaborn==0.13.2" "pandas==2.3.3" \
    "requests==2.34.2" "tqdm==4.70.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "coco-assistant==0.4.0"
cd "$folder"
"$folder/venv/bin/python" -W ignore - > log.txt 2>&1 <<'PYTHON' || { cat log.txt; exit 1; }
import json
import sys
from importlib.metadata import version
from pathlib import Path

from coco_assistant import COCO_Assistant
from pycocotools.coco import COCO


def write(name: str, categories: dict[int, str]) -> None:
    Path("images", name).mkdir(parents=True)
    Path("annotations").mkdir(exist_ok=True)
    coco = {
        "images": [{"id": n, "file_name": f"{name}_{n}.jpg", "width": 100, "height": 100} for n in categories],
        "annotations": [
            {"id": n, "image_id": n, "category_id": n, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0} for n in categories
        ],
        "categories": [{"id": n, "name": animal} for n, animal in categories.items()],
    }
    Path("annotations", name + ".json").write_text(json.dumps(coco))


write("first", {1: "fox", 3: "badger"})  # 2 was deleted
write("second", {1: "wolf"})
COCO_Assistant("images", "annotations").merge()
merged = COCO(next(Path("results").rglob("merged.json")))
seen = {merged.imgs[one["image_id"]]["file_name"]: merged.cats[one["category_id"]]["name"] for one in merged.anns.values()}
print("coco-assistant", version("coco-assistant"))
print("expected: first_1.jpg fox, first_3.jpg badger, second_1.jpg wolf")
print("seen:", ", ".join(f"{file} {animal}" for file, animal in sorted(seen.items())))
sys.exit(0 if seen["first_3.jpg"] == seen["second_1.jpg"] == "wolf" else 1)
PYTHON
tail -n 3 log.txt
