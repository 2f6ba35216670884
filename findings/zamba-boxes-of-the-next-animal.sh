#!/bin/bash
# zamba reads labels with boxes from a COCO file, leaves out the annotations without a box, and then puts the boxes back one after another,
# from the first row: behind an annotation without a box, every annotation has the box of the next one, and the last has none. The column
# "bbox" beside it is right. Nothing is said.
#
# Who is hurt: whoever trains zamba's image classifier on camera traps: in COCO Camera Traps, the form of LILA's data sets, an empty
# photograph is an annotation without a box. Animals are cut out of their photographs where the next photograph has its own: a fox
# is a piece of grass. If all annotations have boxes, nothing shows.
# What Linnaea does: a box stays with the row that states it (src/linnaea/predict/detection_files.py).
#
# The package is made known without running its __init__, so that PyTorch is not needed. Expected: each its own box. Exits with 1 if the
# behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==3.1.1" "numpy==2.4.6" "loguru==0.7.3" "pillow==13.0.0"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "zamba==2.7.2"
"$folder/venv/bin/python" - 2> "$folder/log" <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

root = Path(importlib.util.find_spec("zamba").submodule_search_locations[0])
for name, path in (("zamba", root), ("zamba.images", root / "images")):
    package = ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package
from zamba.images.bbox import bbox_json_to_df  # noqa: E402

BOXES = {"fox.jpg": [10, 10, 5, 5], "hare.jpg": [200, 200, 50, 50], "badger.jpg": [300, 300, 7, 7]}
names = ["empty.jpg", *BOXES]
coco = {
    "images": [{"id": name, "file_name": name} for name in names],
    "categories": [{"id": number, "name": name.removesuffix(".jpg")} for number, name in enumerate(names)],
    "annotations": [
        {"id": name, "image_id": name, "category_id": number, **({"bbox": BOXES[name]} if name in BOXES else {})}
        for number, name in enumerate(names)
    ],
}
table = bbox_json_to_df(coco).fillna(-1).set_index("filepath")
seen = {name: [int(table.loc[name, column]) for column in ("x1", "y1", "x2", "y2")] for name in BOXES}
expected = {name: [x, y, x + width, y + height] for name, (x, y, width, height) in BOXES.items()}
print("zamba", version("zamba"))
print(f"expected: {expected}")
print(f"seen:     {seen} (-1: none)")
wrong = {"fox.jpg": expected["hare.jpg"], "hare.jpg": expected["badger.jpg"], "badger.jpg": [-1] * 4}
sys.exit(0 if seen == wrong else 1)
PYTHON
