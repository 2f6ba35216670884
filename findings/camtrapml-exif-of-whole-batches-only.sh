#!/bin/bash
# camtrapml's extract_multiple_exif_fast() cuts the list of photographs into batches of 100 and leaves out the last one if it is not
# full: of 250 photographs it answers for 200, of 199 for 100. Up to 100 photographs all are answered for, so that a trial on a few shows
# nothing. extract_multiple_exif() gives all of them.
#
# Who is hurt: whoever reads the times of a camera's card with it, "when processing large datasets" as its documentation says: the
# last photographs of the list have no time and no row, and counts, effort and activity lack them.
# What Linnaea does: reads the EXIF of each photograph with the photograph itself (src/linnaea/data/exif.py); every photograph is a row.
#
# ExifTool is replaced by a stand-in that answers for each file that it is asked for. Expected: as many answers as photographs.
# Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "PyExifTool==0.4.13" "tqdm==4.70.1" "pillow==13.0.0" "requests==2.34.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --ignore-requires-python "camtrapml==0.4.1"
"$folder/venv/bin/python" - 2> "$folder/progress" <<'PYTHON'
import sys
from importlib.metadata import version

from camtrapml.image import exif


class StandIn:
    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *_: object) -> None: ...

    def get_metadata_batch(self, files: list[str]) -> list[dict[str, str]]:
        return [{"SourceFile": file} for file in files]


exif.ExifTool = StandIn
counts = (50, 100, 199, 250)
seen = [len(exif.extract_multiple_exif_fast([f"IMG_{n:04}.JPG" for n in range(count)])) for count in counts]
print("camtrapml", version("camtrapml"))
print(f"expected: {[*counts]} answers")
print(f"seen:     {seen}")
sys.exit(0 if seen == [50, 100, 100, 200] else 1)
PYTHON
