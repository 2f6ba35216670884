#!/bin/bash
# DeepForest's evaluate_boxes() goes through the photographs that have boxes in the truth. What was found in a photograph without
# any is not looked at, although its documentation calls box_precision the "proportion of predictions that are true positive", and although
# empty photographs have a form of their own in its tables (a box of four zeros), which is taken out before.
#
# Who is hurt: whoever counts birds or seals from the air, where most pictures are empty: a detector that finds birds in every
# picture of waves has a precision of 1.
# What Linnaea does: counts the pictures without an organism that it takes for one, as a figure of their own
# (src/linnaea/evaluate/examine.py).
#
# The package is made known without running its __init__, so that torch and Lightning are not needed.
# Expected: 2 of 12 predictions right, precision 0.17. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "geopandas==1.2.0" "pandas==3.1.1" "numpy==2.4.6" "shapely==2.2.0" \
    "rasterio==1.4.4" "xmltodict==1.0.4" "omegaconf==2.4.0" "tqdm==4.70.1" "pillow==13.0.0" "scipy==1.17.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "deepforest==2.1.0"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from types import ModuleType

import pandas as pd

package = ModuleType("deepforest")
package.__path__ = importlib.util.find_spec("deepforest").submodule_search_locations
package._ROOT = package.__path__[0]
sys.modules["deepforest"] = package
from deepforest.evaluate import evaluate_boxes  # noqa: E402

columns = ["image_path", "xmin", "ymin", "xmax", "ymax", "label"]
birds = [("cliff.jpg", 10, 10, 30, 30, "Bird"), ("beach.jpg", 10, 10, 30, 30, "Bird")]
empty = [("waves-1.jpg", 0, 0, 0, 0, "Bird"), ("waves-2.jpg", 0, 0, 0, 0, "Bird")]
waves = [(name, left, 10, left + 9, 30, "Bird") for name, *_ in empty for left in range(0, 50, 10)]
predictions = pd.DataFrame(birds + waves, columns=columns).assign(score=0.9)
precision = evaluate_boxes(predictions, pd.DataFrame(birds + empty, columns=columns))["box_precision"]
print("deepforest", version("deepforest"))
print(f"expected: precision {len(birds) / len(predictions):.2f}")
print(f"seen: precision {precision:.2f}")
sys.exit(0 if round(float(precision), 2) == 1 else 1)
PYTHON
