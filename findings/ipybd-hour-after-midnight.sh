#!/bin/bash
# ipybd's DateTime takes a text with a time for a date alone if its hour is 0: 00:30:15 becomes 00:00:00, in the styles "datetime"
# and "utc", which its models use for eventDate. All other hours keep their minutes. In ipybd's own writing 00:00:00 says that only
# the day is known.
#
# Who is hurt: whoever cleans the records of light traps and cameras: all that was seen in the hour after midnight has
# the same time, and counts as seen at a time that nobody noted.
# What Linnaea does: times are read and kept to the second (src/linnaea/data/exif.py).
#
# Expected: the times as they are. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ipybd==1.4.4" "arrow==1.4.0" "pandas==3.1.1" "numpy==2.4.6"
"$folder/venv/bin/python" - 2>"$folder/messages.txt" <<'PYTHON' || { cat "$folder/messages.txt"; exit 1; }
import sys
from importlib.metadata import version

from ipybd import DateTime

given = ["2024-06-01 23:30:15", "2024-06-02 00:30:15", "2024-06-02 01:30:15"]
seen = list(DateTime(given, "utc")()["dateTime"])
print("ipybd", version("ipybd"))
print("expected:", ", ".join(given))
print("seen:", ", ".join(seen))
sys.exit(0 if [s[11:19] for s in seen] == ["23:30:15", "00:00:00", "01:30:15"] else 1)
PYTHON
