#!/bin/bash
# mecoda-inat's get_dfs() cuts the time of an observation in two: observed_on is the date where it was made, observed_on_time the time
# in UTC. The documentation calls them "observation date" and "observation time", and no column keeps the offset. A raccoon seen on
# 1 June at half past ten in the evening in California is one of 1 June, half past five, which is the morning before.
#
# Who is hurt: whoever exports observations of iNaturalist for labels with times, or asks when animals are active: nocturnal ones
# become diurnal, and date and time together lie a day off.
# What Linnaea does: a time keeps its offset, or is the camera's clock without one (src/linnaea/data/exif.py).
#
# The observation is built here, as get_obs() builds it from the answer of the API.
# Expected: 1 June, 22:30 (or 2 June, 05:30). Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mecoda-inat==1.0.2" "pandas==3.1.1" "numpy==2.4.6" "pydantic==2.14.4"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from mecoda_inat import Observation, Photo, get_dfs

raccoon = Observation(
    id=1, taxon_id=41663, taxon_name="Procyon lotor", observed_on="2024-06-01", time_observed_at="2024-06-01T22:30:00-07:00",
    created_at="2024-06-02T09:00:00-07:00", updated_at="2024-06-02T09:00:00-07:00", photos=[Photo(id=1, attribution="nobody")],
)
table, _ = get_dfs([raccoon])
row = table.iloc[0]
print("mecoda-inat", version("mecoda-inat"))
print("expected: 2024-06-01 22:30:00")
print("seen:", row["observed_on"], row["observed_on_time"])
sys.exit(0 if (str(row["observed_on"]), str(row["observed_on_time"])) == ("2024-06-01", "05:30:00") else 1)
PYTHON
