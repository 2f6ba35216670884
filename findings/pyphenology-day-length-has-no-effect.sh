#!/bin/bash
# pyPhenology's M1 is "the Thermal Time Model with a daylength correction": it asks for a column of day lengths, and has a parameter k for
# them. Its code works the correction out and does not use it: it gives the days of ThermalTime, whatever k and the day lengths are.
# fit() reports a k all the same, which is where the search happened to stop.
#
# Who is hurt: whoever compares models with and without day length, or predicts for another latitude: it cannot matter.
# What Linnaea does: has no model of seasons.
#
# Expected: other days for other k and for other latitudes. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "numpy==2.4.6" "pandas==2.3.3" "scipy==1.17.1" "joblib==1.6.0"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "pyPhenology==0.7.1"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from pyPhenology import models
from pyPhenology.models.utils.transforms import daylength

DAYS = np.arange(1, 366)
year = 9 - 10 * np.cos(2 * np.pi * (DAYS - 20) / 365)
record = pd.DataFrame({"site_id": [1], "year": [2025], "species": ["Fagus sylvatica"], "doy": [1]})
print("pyPhenology", version("pyPhenology"))
print("promised:", next(line.strip() for line in models.M1.__doc__.splitlines() if "L_{i}" in line))
expected, seen = [], []
for latitude in (40.0, 60.0):
    light = daylength(DAYS.astype(float), np.full(len(DAYS), latitude))
    weather = pd.DataFrame({"site_id": 1, "year": 2025, "doy": DAYS, "temperature": year, "daylength": light})
    for k in (0, 1, 3):
        needed = (light / 24) ** k * 600
        expected.append(int(DAYS[np.argmax(np.cumsum(np.maximum(year, 0) * (DAYS >= 60)) >= needed)]))
        seen.append(int(models.M1(parameters={"t1": 60, "T": 0, "F": 600, "k": k}).predict(record, weather)[0]))
        print(f"{latitude:.0f} degrees north, k = {k}: expected day {expected[-1]}, seen {seen[-1]}")
sys.exit(0 if len(set(seen)) == 1 and len(set(expected)) >= 4 else 1)
PYTHON
