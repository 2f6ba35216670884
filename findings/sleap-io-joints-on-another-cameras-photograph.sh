#!/bin/bash
# sleap-io's save_coco() writes photographs by the last part of their paths, and load_coco() looks for a photograph that is not where its path says by
# that part, anywhere below, and takes the first that the disk lists: of two cameras' IMG_0001.png, the joints of both lie on one picture after
# writing and reading. A photograph that is missing takes another camera's likewise, instead of the warning that the reader has for missing ones.
#
# Who is hurt: whoever trains joints or boxes from several cameras, which all count from 1: animals are learnt where none is.
# What Linnaea does: a photograph is its whole path, in detections that it reads and writes (src/linnaea/predict/detection_files.py).
#
# Expected: each camera's own picture, or a warning. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sleap-io==0.9.5" "numpy==2.4.6" "pillow==12.3.0"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import sleap_io
from PIL import Image

warnings.simplefilter("error")
names = ["camera_1/IMG_0001.png", "camera_2/IMG_0001.png"]
for name in names:
    Path(name).parent.mkdir()
    Image.new("RGB", (100, 100)).save(name)


def read(file):
    frames = sleap_io.load_coco(file).labeled_frames
    return [str(Path(frame.video.filename[frame.frame_idx]).relative_to(Path.cwd())) for frame in frames]


root = Path.cwd()
images = [{"id": n, "file_name": name, "width": 100, "height": 100} for n, name in enumerate(names)]
fox = {"id": 1, "name": "Vulpes vulpes", "keypoints": ["nose", "tail"], "skeleton": []}
animals = [{"id": n, "image_id": n, "category_id": 1, "keypoints": [5, 5, 2, 9, 9, 2], "num_keypoints": 2} for n in range(2)]
(root / "animals.json").write_text(json.dumps({"images": images, "categories": [fox], "annotations": animals}))
seen = {"as made": read(str(root / "animals.json"))}
sleap_io.save_coco(sleap_io.load_coco(str(root / "animals.json")), str(root / "again.json"))
seen["written and read"] = read(str(root / "again.json"))
Path(names[1]).unlink()
seen["camera 2's is missing"] = read(str(root / "animals.json"))
print("sleap-io", version("sleap-io"))
print("expected:", names, "or a warning")
print("seen:", seen)
one_for_both = len(set(seen["written and read"])) == 1
sys.exit(0 if seen["as made"] == names and one_for_both and seen["camera 2's is missing"] == names[:1] * 2 else 1)
PYTHON
