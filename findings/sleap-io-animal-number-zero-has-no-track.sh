#!/bin/bash
# sleap-io's load_coco() takes an animal's track from attributes.object_id, track_id or instance_id, whichever is "true" first. The number 0 is not:
# the animal that is numbered 0 has no track, all others have theirs. Written again by save_coco(), its number is gone. Numbers from 1 are right.
#
# Who is hurt: whoever brings tracked animals, which most trackers count from 0, to SLEAP: the first animal's path is lost, and the table of
# tracks has one animal less than there are.
# What Linnaea does: reads no tracks; boxes are read with their photograph and category (src/linnaea/predict/detection_files.py).
#
# Expected: two tracks. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sleap-io==0.9.5" "numpy==2.4.6" "pillow==12.3.0"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import json
import sys
from importlib.metadata import version
from pathlib import Path

import sleap_io
from PIL import Image

Image.new("RGB", (100, 100)).save("field.png")
fox = {"id": 1, "name": "Vulpes vulpes", "keypoints": ["nose", "tail"], "skeleton": []}
seen = {}
for first in (0, 1):
    animals = [
        {"id": n + 1, "image_id": 1, "category_id": 1, "track_id": n + first, "keypoints": [n, 1, 2, n, 9, 2], "num_keypoints": 2}
        for n in range(2)
    ]
    images = [{"id": 1, "file_name": "field.png", "width": 100, "height": 100}]
    Path("animals.json").write_text(json.dumps({"images": images, "categories": [fox], "annotations": animals}))
    instances = sleap_io.load_coco("animals.json").labeled_frames[0].instances
    seen[first] = [instance.track.name if instance.track else None for instance in instances]
print("sleap-io", version("sleap-io"))
print("expected: ['track_0', 'track_1'] and ['track_1', 'track_2']")
print("seen:", seen[0], "and", seen[1])
sys.exit(0 if seen == {0: [None, "track_1"], 1: ["track_1", "track_2"]} else 1)
PYTHON
