#!/bin/bash
# lat-lon-parser looks for the side of the equator and of Greenwich at the ends of the text alone, and takes whatever it does not know
# for north and east: "33°51'S." with the full stop of a label, "70°39' W. Gr." (of Greenwich), "70°39'O" (Oeste, Ouest, Ovest), and
# numbers with the minus of typesetters (U+2212) as papers and web pages have it. The text is not refused, though parse() "raises a
# ValueError" if it fails.
#
# Who is hurt: whoever turns coordinates of labels and papers into numbers, above all from South America and from tables of PDFs: records
# of Chile lie on the other side of both lines. The number is right and in range, only its sign is lost.
# What Linnaea does: in photographs it reads the words for west and south of six languages, and O alone, which is east in German, as
# unknown (src/linnaea/data/exif.py); in tables a latitude that is not a number is none (src/linnaea/predict/priors.py).
#
# Expected: negative numbers, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "lat-lon-parser==1.3.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from lat_lon_parser import parse

print("lat-lon-parser", version("lat-lon-parser"))
print("as documented:", {text: round(parse(text), 2) for text in ("33°51'S", "W 70°39'", "-33.85")})
same = True
for text in ("33°51'S.", "70°39' W. Gr.", "70°39'O", "70.65 Ouest", "\N{MINUS SIGN}33.85"):
    seen = round(parse(text), 2)
    same &= seen > 0
    print(f"{text}: expected below zero or an error, seen {seen}")
sys.exit(0 if same else 1)
PYTHON
