#!/bin/bash
# aru-metadata-parser reads the time of a recording from its file's name, and what no rule fits is guessed by dateutil from the last part.
# "A12_2022-07-19_05-45-10.wav" is five o'clock, ten hours west of Greenwich: the minutes are gone, the seconds are an offset. "0530" without
# seconds is 05:03, years of two digits give 2207, and a name of eight digits, "20220719.wav", is a count of seconds: January 1987.
# "plot_3_4.wav", which has no date, is of 4 March of the year in which it is read.
#
# Who is hurt: whoever lists recordings with it or with tools built on it: the hour is right, so that a look does not tell; with offsets the
# recordings move by hours when they are put in UTC. "17-15-30" is an error.
# What Linnaea does: takes times from EXIF and tables, not from names of files (src/linnaea/data/exif.py).
#
# Expected: the time in the name, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "aru-metadata-parser==1.0.0" "python-dateutil==2.9.0.post0" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from aru_metadata_parser.parse import parse_aru_file_start_time

NAMES = {
    "20220719_054510.wav": ("2022-07-19T05:45:10", "2022-07-19T05:45:10"),
    "A12_2022-07-19_05-30-00.wav": ("2022-07-19T05:30:00", "2022-07-19T05:00:00+00:00"),
    "A12_2022-07-19_05-45-10.wav": ("2022-07-19T05:45:10", "2022-07-19T05:00:00-10:00"),
    "A12_20220719_0530.wav": ("2022-07-19T05:30:00", "2022-07-19T05:03:00"),
    "A12_220719_053000.wav": ("2022-07-19T05:30:00", "2207-01-09T05:30:00"),
    "20220719.wav": ("2022-07-19T00:00:00", "1987-01-31T14:15:53+00:00"),
    "plot_3_4.wav": ("an error", f"{datetime.now(UTC).year}-03-04T00:00:00"),
}
seen = {name: parse_aru_file_start_time(name).isoformat() for name in NAMES}
print("aru-metadata-parser", version("aru-metadata-parser"))
for name, (expected, _) in NAMES.items():
    print(f"{name:28} expected {expected + ',':20} seen {seen[name]}")
sys.exit(0 if seen == {name: wrong for name, (_, wrong) in NAMES.items()} else 1)
PYTHON
