#!/bin/bash
# ipybd's DateTime(..., "utc"), which the model of its Occurrence table uses, takes the time of the text as it stands and writes its own
# offset behind it, +08:00 unless another is given. An offset in the text is thrown away: noon in UTC becomes noon in China, eight
# hours earlier, and so does noon of every other offset.
#
# Who is hurt: whoever puts records of several collections or of GBIF, whose times have offsets, into one table: they are hours off, often
# on another day, and look exact.
# What Linnaea does: a time keeps its offset (src/linnaea/data/exif.py).
#
# Expected: the same moments. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ipybd==1.4.4" "arrow==1.4.0" "pandas==3.1.1" "numpy==2.4.6"
"$folder/venv/bin/python" - 2>"$folder/messages.txt" <<'PYTHON' || { cat "$folder/messages.txt"; exit 1; }
import sys
from datetime import datetime
from importlib.metadata import version

from ipybd import DateTime

given = ["2024-06-01T12:00:00+08:00", "2024-06-01T12:00:00+00:00", "2024-06-01T12:00:00-07:00"]
seen = list(DateTime(given, "utc")()["dateTime"])
off = [(datetime.fromisoformat(s) - datetime.fromisoformat(g)).total_seconds() / 3600 for s, g in zip(seen, given)]
print("ipybd", version("ipybd"))
print("expected: the moments", ", ".join(given))
print("seen:", ", ".join(f"{s} ({hours:+.0f} hours)" for s, hours in zip(seen, off)))
sys.exit(0 if off == [0, -8, -15] else 1)
PYTHON
