#!/bin/bash
# suncalc takes a column of pandas for times in nanoseconds ("always?", asks its source). Columns that pandas 3 reads from text are in
# microseconds, so that all times are in January 1970, those of one day within seconds: the sun in Nairobi is 47 degrees below the horizon at noon
# and 48 at midnight. get_times() says that it rose in 1970. One time by itself is right. A datetime without a zone is taken on the clock of
# the computer, a Timestamp without one in UTC.
#
# Who is hurt: whoever adds the height of the sun to a table of records or of shots of a camera trap, as activity by day and by night: all rows
# of a day have nearly the same value, which is a possible one.
# What Linnaea does: computes no sun, and reads tables with polars, where times have their unit (src/linnaea/tables).
#
# Expected: the same heights for a column as for its times. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "suncalc==0.1.3" "pandas==3.1.1" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from suncalc import get_position, get_times

EAST, NORTH = 36.82, -1.29  # Nairobi, in UTC
table = pd.DataFrame({"time": pd.to_datetime(["2024-03-20 09:30", "2024-03-20 21:00"])})
column = np.degrees(get_position(table["time"], EAST, NORTH)["altitude"]).round().tolist()
alone = [round(float(np.degrees(get_position(time, EAST, NORTH)["altitude"]))) for time in table["time"]]
rise = get_times(table["time"], np.array([EAST] * 2), np.array([NORTH] * 2))["sunrise"].dt.year.tolist()
print("suncalc", version("suncalc"), "pandas", version("pandas"))
print(f"expected: {alone} degrees at noon and at midnight; sunrises in 2024")
print(f"seen:     {column}; sunrises in {rise}")
sys.exit(0 if alone == [87, -80] and column == [-47, -48] and rise == [1970, 1970] else 1)
PYTHON
