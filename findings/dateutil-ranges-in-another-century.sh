#!/bin/bash
# dateutil's parse() takes two days of a month for a day and a year, and the year for a time of day: "May 5-7, 1910" is 5 May 2007, 19:10,
# and "12/13 June 1910" 13 June 2012. The text has one year, in four digits. pandas asks dateutil, so that to_datetime() says the same.
# Years whose last digits are above 59 are refused.
#
# Who is hurt: whoever reads dates of museum labels and field books, where traps stood for some nights: specimens of 1910 become records
# of this century, with a time at which nobody was there, and are in trends and maps of recent years.
# What Linnaea does: makes no date from words; a month is what a table or a photograph states in numbers (src/linnaea/predict/priors.py,
# src/linnaea/data/exif.py).
#
# Expected: a day of the year that is stated, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "python-dateutil==4.0.0" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import pandas
from dateutil import parser

texts = {
    "May 5-7, 1910": "2007-05-05 19:10",
    "12/13 June 1910": "2012-06-13 19:10",
    "June 14/15, 1953": "2015-06-14 19:53",
    "10-12 June 2004": "2010-06-12 20:04",
}
print("python-dateutil", version("python-dateutil"), "pandas", version("pandas"))
same = True
for text, before in texts.items():
    seen = [f"{reader(text):%Y-%m-%d %H:%M}" for reader in (parser.parse, pandas.to_datetime)]
    same &= seen == [before, before]
    print(f"{text}: expected {text[-4:]} or an error, seen {seen[0]} (dateutil), {seen[1]} (pandas)")
sys.exit(0 if same else 1)
PYTHON
