#!/bin/bash
# ecosound's calc_time_aggregate_1D() counts detections in steps of time. The steps begin at midnight, the rows that it returns at the hour or the
# minute of the first detection, and what does not fall together is 0. If the first call is at 3:20, counts by 2 hours, 30 or 15 minutes are zero
# throughout, and so are the presence table and the heat map; by 1 hour and by day all are there. "2h" and "15min" are the docstring's examples.
#
# Who is hurt: whoever draws when fish or whales call: nothing calls, or everything, as the first detection of the set decides.
# What Linnaea does: counts rows, not rows of another index (src/linnaea/predict/records/camtrap_package.py).
#
# The parts that draw and read sound are left out. Expected: five detections for each step. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==2.3.3" "numpy==2.4.6" "scipy==1.17.0" "tqdm" "pyyaml"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "ecosound==0.0.32"  # the rest of it wants eighty packages
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from unittest.mock import MagicMock

for left_out in ("visualization.grapher_builder", "core.spectrogram", "core.audiotools"):
    sys.modules[f"ecosound.{left_out}"] = MagicMock()
for left_out in ("numba", "xarray", "pkg_resources"):
    sys.modules[left_out] = MagicMock()

import pandas as pd
from ecosound.core.annotation import Annotation

calls = Annotation()
times = ["2023-06-15 03:20", "2023-06-15 03:40", "2023-06-15 04:10", "2023-06-15 09:05", "2023-06-16 05:00"]
calls.data = pd.DataFrame({"uuid": list("abcde"), "time_min_date": pd.to_datetime(times)})
seen = {step: int(calls.calc_time_aggregate_1D(step)["value"].sum()) for step in ("1D", "1h", "2h", "30min", "15min")}
print("ecosound", version("ecosound"))
print("expected:", dict.fromkeys(seen, 5))
print("seen:    ", seen)
sys.exit(0 if seen == {"1D": 5, "1h": 5, "2h": 0, "30min": 0, "15min": 0} else 1)
PYTHON
