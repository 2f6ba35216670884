#!/bin/bash
# Label Studio's export to YOLO names each file of boxes by the last part of the photograph's address and opens it anew for each: of
# two cameras' IMG_0001.JPG, the boxes of the later one are kept. The species of the first are gone. The export to COCO of the same
# annotations keeps both. Nothing is said. Files that were uploaded have a prefix of their own; those that are imported from a bucket or
# a server by their address, as whole camera traps are, have none.
#
# Who is hurt: whoever trains a detector from camera traps: cameras count from 1 in each folder. Most annotations are lost, and
# where the photographs are joined by that name, an empty photograph has another one's animal.
# What Linnaea does: a photograph is its whole path, in detections that it reads and writes (src/linnaea/predict/detection_files.py).
#
# Nothing is downloaded (download_resources=False). Expected: a file of boxes for each photograph, or an error. Exits with 1 if the
# behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "label-studio-sdk==1.0.18"
cd "$folder"
"$folder/venv/bin/python" - 2>messages.txt <<'PYTHON' || { cat messages.txt; exit 1; }
import json
import sys
from importlib.metadata import version
from pathlib import Path

from label_studio_sdk.converter import Converter

form = """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
<Label value="Apus apus"/><Label value="Pica pica"/></RectangleLabels></View>"""


def task(number: int, address: str, species: str) -> dict:
    box = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": [species]}
    result = {"from_name": "label", "to_name": "image", "type": "rectanglelabels", "value": box}
    result |= {"original_width": 100, "original_height": 100}
    annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "result": [result]}
    annotation |= {"created_at": "2026-05-01T10:00:00Z", "updated_at": "2026-05-01T10:00:00Z"}
    return {"id": number, "data": {"image": address}, "annotations": [annotation], "predictions": []}


Path("export.json").write_text(json.dumps([
    task(1, "s3://traps/meadow/IMG_0001.JPG", "Pica pica"),
    task(2, "s3://traps/forest/IMG_0001.JPG", "Apus apus"),
]))
converter = Converter(config=form, project_dir=None, download_resources=False)
converter.convert_to_coco("export.json", "coco", is_dir=False)
converter.convert_to_yolo("export.json", "yolo", is_dir=False)
coco = len(json.loads(Path("coco/result.json").read_text())["annotations"])
names = Path("yolo/classes.txt").read_text().split("\n")
boxes = {}
for path in sorted(Path("yolo/labels").rglob("*.txt")):
    boxes[path.name] = [names[int(line.split()[0])] for line in path.read_text().splitlines()]
print("label-studio-sdk", version("label-studio-sdk"))
print("expected: two photographs with a box each, Pica pica and Apus apus")
print(f"seen: COCO has {coco} boxes, YOLO {boxes}")
sys.exit(0 if coco == 2 and boxes == {"IMG_0001.txt": ["Apus apus"]} else 1)
PYTHON
