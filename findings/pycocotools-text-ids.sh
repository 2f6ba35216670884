#!/bin/bash
# pycocotools takes an identifier that is text for a list of its letters: getAnnIds(imgIds="12") looks for the annotations of
# the images "1" and "2". An empty list, on the other hand, is no condition at all: the annotations of the images of a species
# that is on none are all annotations. Both answer without an error.
#
# Who is hurt: everyone with camera traps in COCO Camera Traps, whose identifiers are text ("id": string in its description):
# a photograph with an animal has no annotations, or another one's, and a species that was never seen is everywhere.
# What Linnaea does: joins images and annotations by their whole identifiers and does not use pycocotools
# (src/linnaea/data/sources/inat21.py).
#
# Expected: ["a12"] and []. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pycocotools==2.0.11" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from pycocotools.coco import COCO

coco = COCO()
coco.dataset = {
    "images": [{"id": name, "file_name": f"{name}.jpg"} for name in ("1", "2", "12")],
    "categories": [{"id": 0, "name": "empty"}, {"id": 1, "name": "fox"}, {"id": 2, "name": "marten"}],
    "annotations": [{"id": "a1", "image_id": "1", "category_id": 0}, {"id": "a2", "image_id": "2", "category_id": 0},
                    {"id": "a12", "image_id": "12", "category_id": 1}],
}
coco.createIndex()
of_image = coco.getAnnIds(imgIds="12")
images_of_marten = coco.getImgIds(catIds=coco.getCatIds(catNms=["marten"]))
of_martens = coco.getAnnIds(imgIds=images_of_marten)
print(f"pycocotools {version('pycocotools')}")
print("expected: annotations of image 12 ['a12']; annotations of the images of martens, which are none: []")
print(f"seen: {of_image}; images of martens {images_of_marten}, their annotations {of_martens}")
sys.exit(0 if of_image == ["a1", "a2"] and not images_of_marten and of_martens == ["a1", "a2", "a12"] else 1)
PYTHON
