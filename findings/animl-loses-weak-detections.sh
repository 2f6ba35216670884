#!/bin/bash
# animl's parse_detections(threshold=...) gives a photograph on which nothing was detected a row ("empty"), but none to a photograph whose
# detections are all at or below the threshold: it is neither with an animal nor empty, it is gone, and nothing counts it.
#
# Who is hurt: whoever counts photographs, empty ones or days with a camera at work from the table. The higher the threshold, the fewer
# photographs there were: detectors give many empty photographs a weak detection, a leaf or a stone.
# What Linnaea does: a photograph without a detection above the threshold is a row "no animal detected", and `blank` in Camtrap DP
# (src/linnaea/predict/detections.py).
#
# The function is taken out of its module, so that PyTorch is not needed. Expected: a row for each of the 3 photographs. Exits with 1
# if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==2.3.3" "numpy==2.4.6" "tqdm==4.70.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --ignore-requires-python "animl==3.3.1"
"$folder/venv/bin/python" - 2>"$folder/messages.txt" <<'PYTHON' || { cat "$folder/messages.txt"; exit 1; }
import ast
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Optional, Union

import numpy as np
import pandas as pd
from tqdm import tqdm

module = Path(importlib.util.find_spec("animl").submodule_search_locations[0], "detection.py")
tree = ast.parse(module.read_text())
tree.body = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "parse_detections"]
files = SimpleNamespace(check_file=lambda *_, **__: False)
names = {"np": np, "pd": pd, "tqdm": tqdm, "Path": Path, "Optional": Optional, "Union": Union, "file_management": files}
exec(compile(tree, str(module), "exec"), names)  # noqa: S102


def photograph(name: str, *confidences: float) -> dict:
    box = {"category": 1, "category_label": "animal", "bbox_x": 0.1, "bbox_y": 0.1, "bbox_w": 0.5, "bbox_h": 0.5}
    found = [box | {"conf": confidence} for confidence in confidences]
    return {"filepath": name, "frame": 0, "max_detection_conf": max(confidences, default=0), "detections": found}


detected = [photograph("fox.jpg", 0.9), photograph("grass.jpg", 0.05), photograph("snow.jpg")]
rows = names["parse_detections"](detected, threshold=0.2)
seen = dict(zip(rows["filepath"], rows["category_label"], strict=True))
print("animl", version("animl"))
print("expected: fox.jpg animal; grass.jpg and snow.jpg empty")
print("seen:", "; ".join(f"{name} {label}" for name, label in seen.items()))
sys.exit(0 if seen == {"fox.jpg": "animal", "snow.jpg": "empty"} else 1)
PYTHON
