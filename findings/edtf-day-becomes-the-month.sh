#!/bin/bash
# edtf's text_to_edtf() passes over a month that it does not know, and takes the day for the month: "7 Dez 1910" (December in German) is
# July 1910, "12 août 1888" December 1888, and "3 VIII 1902" March 1902. Nothing is said; with a day above 12 the answer is None.
#
# Who is hurt: whoever turns dates of collections into the Extended Date/Time Format, which is made for dates that are not quite known:
# labels in other languages and with Roman months get a month that no label states, and the day is gone. A few tests with English dates,
# or with late days, show nothing.
# What Linnaea does: makes no date from words; a month is what a table or a photograph states in numbers (src/linnaea/predict/priors.py,
# src/linnaea/data/exif.py).
#
# Expected: the date, the year alone, or None. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "edtf==5.0.2" "python-dateutil==4.0.0"
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version

from edtf import text_to_edtf

texts = {
    "7 Dez 1910": ("1910-12-07", "1910-07"),
    "12 août 1888": ("1888-08-12", "1888-12"),
    "3 VIII 1902": ("1902-08-03", "1902-03"),
    "5 Ago 1910": ("1910-08-05", "1910-05"),
}
print("edtf", version("edtf"))
same = True
for text, (right, before) in texts.items():
    seen = text_to_edtf(text)
    same &= seen == before
    print(f"{text}: expected {right}, {right[:4]} or None, seen {seen}")
print("25 Dez 1910:", text_to_edtf("25 Dez 1910"), "and 7 Dec 1910:", text_to_edtf("7 Dec 1910"))
sys.exit(0 if same else 1)
PYTHON
