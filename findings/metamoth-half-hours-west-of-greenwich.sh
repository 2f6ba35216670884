#!/bin/bash
# metamoth reads the offset of an AudioMoth's clock as hours and minutes, and adds the minutes: "UTC-3:30", as the recorder writes it in
# Newfoundland, becomes -2:30, and "UTC-9:30", of the Marquesas Islands, becomes -8:30. Offsets of whole hours and those east of
# Greenwich (India's "UTC+5:30") are right.
#
# Who is hurt: whoever puts recordings of Newfoundland in UTC, beside the sun or other recorders: all calls are an hour early.
# What Linnaea does: the sign of an offset is that of its minutes, too (`_OFFSET` in src/linnaea/data/exif.py).
#
# Expected: -3:30. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "metamoth==1.2.2"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import UTC
from importlib.metadata import version

from metamoth.parsing import parse_comment

COMMENT = (
    "Recorded at 05:30:00 15/06/2023 (UTC{}) by AudioMoth 248D9B065F4FB1C2 at medium gain while battery was 4.2V "
    "and temperature was 12.3C."
)
EXPECTED = {"": "05:30", "-3": "08:30", "+5:30": "00:00", "-3:30": "09:00", "-9:30": "15:00"}
seen = {}
for offset in EXPECTED:
    metadata = parse_comment(COMMENT.format(offset))
    seen[offset] = metadata["datetime"].replace(tzinfo=metadata["timezone"]).astimezone(UTC).strftime("%H:%M")
print("metamoth", version("metamoth"))
print("expected in UTC:", EXPECTED)
print("seen:           ", seen)
sys.exit(0 if seen == {**EXPECTED, "-3:30": "08:00", "-9:30": "14:00"} else 1)
PYTHON
