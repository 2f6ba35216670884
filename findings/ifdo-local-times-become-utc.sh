#!/bin/bash
# ifdo reads an iFDO file whose image-datetime-format has an offset ("%z"), and then sets UTC in its place without converting: noon in
# Hobart is noon in Greenwich, ten hours later, and save() writes "12:00:00+0000" into the new file. A datetime with an offset that is
# given in Python, and a time in ISO 8601, are converted rightly.
#
# Who is hurt: whoever describes or publishes photographs of the sea with it (it is the iFDO layer of Marimba): the photographs are hours
# off the ship's track, tides and day or night, and nothing tells, because the new file states UTC.
# What Linnaea does: keeps the offset of a time that has one (src/linnaea/data/exif.py).
#
# Expected: 02:00 in UTC. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ifdo==1.6.0" "pydantic==2.14.4"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from ifdo import iFDO

HEADER = {"image-set-name": "dive", "image-set-uuid": "u", "image-set-handle": "h"}


def taken(text: str, form: str | None) -> str:
    """Return when a photograph was taken, as ifdo reads it, and what it writes."""
    header = HEADER | ({"image-datetime-format": form} if form else {})
    Path("in.json").write_text(
        json.dumps({"image-set-header": header, "image-set-items": {"a.jpg": {"image-datetime": text}}})
    )
    dive = iFDO.load("in.json")
    dive.save("out.json")
    written = json.loads(Path("out.json").read_text())["image-set-items"]["a.jpg"]["image-datetime"]
    return f"{dive.image_set_items['a.jpg'].image_datetime}, written as {written}"


print("ifdo", version("ifdo"))
print("in ISO 8601:", taken("2024-05-01T12:00:00+10:00", None))
seen = taken("2024-05-01 12:00:00+1000", "%Y-%m-%d %H:%M:%S%z")
print("expected:   ", "2024-05-01 02:00:00+00:00, written as 2024-05-01 02:00:00+0000")
print("seen:       ", seen)
sys.exit(0 if seen == "2024-05-01 12:00:00+00:00, written as 2024-05-01 12:00:00+0000" else 1)
PYTHON
