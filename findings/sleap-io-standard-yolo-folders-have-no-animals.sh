#!/bin/bash
# sleap-io's load_ultralytics() follows the paths of data.yaml to the photographs, and finds the labels by putting "/labels" for "/images". In
# the folders of Ultralytics' own data sets, images/train and labels/train, there is no slash before "images": it looks for labels among
# the photographs, finds none, and every photograph is one without an animal. Nothing is said. In the other layout, train/images, they are found.
#
# Who is hurt: whoever brings joints of animals from YOLO to SLEAP: an empty data set, or one whose new photographs are all empty.
# (In the other layout, an animal's track is its line's number in the file, and its class is gone: the fox is the hare if the lines change.)
# What Linnaea does: reads boxes and names from the detection files themselves (src/linnaea/predict/detection_files.py).
#
# Expected: a fox and a hare on each photograph, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "sleap-io==0.9.5" "numpy==2.4.6" "pillow==12.3.0"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import sys
from importlib.metadata import version
from pathlib import Path

import sleap_io
from PIL import Image

fox, hare = "0 .5 .5 .2 .2 .4 .4 2 .6 .6 2\n", "1 .2 .2 .2 .2 .1 .1 2 .3 .3 2\n"
seen = {}
for images, labels in (("images/train", "labels/train"), ("train/images", "train/labels")):
    root = Path(images.replace("/", "_"))
    for part in (images, labels):
        (root / part).mkdir(parents=True)
    for name, lines in (("a", fox + hare), ("b", hare + fox)):
        Image.new("RGB", (100, 100)).save(root / images / f"{name}.png")
        (root / labels / f"{name}.txt").write_text(lines)
    names = "names: {0: Vulpes vulpes, 1: Lepus europaeus}"
    (root / "data.yaml").write_text(f"path: {root}\ntrain: {images}\nval: {images}\nkpt_shape: [2, 3]\n{names}\n")
    photographs = sleap_io.load_ultralytics(str(root), split="train").labeled_frames
    seen[images] = [len(photograph.instances) for photograph in photographs]
first_of_each = [float(photograph.instances[0].numpy()[0, 0]) for photograph in photographs]
same_track = len({photograph.instances[0].track.name for photograph in photographs}) == 1
print("sleap-io", version("sleap-io"))
print("expected: [2, 2] animals on the photographs")
print("seen:", seen)
print("track_0 is at x =", first_of_each, "(fox, hare)")
sys.exit(0 if seen == {"images/train": [0, 0], "train/images": [2, 2]} and same_track and first_of_each == [40.0, 10.0] else 1)
PYTHON
