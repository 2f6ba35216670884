#!/bin/bash
# dateparser reads "5.II.1888", with the month in Roman numerals as collectors write it on labels, as 5 February, and nine months of
# twelve rightly. January, May and June go wrong: 12.V.1987 is in December 1987, on the day of the month that today is, 12.VI.1987 in
# November, and 1.V.1987 on today's day of January. Which day it is thus depends on the day of the run.
# STRICT_PARSING gives some of them a year, 2026, which the text does not have.
#
# Who is hurt: whoever turns verbatim dates into numbers, and looks at a few. May and June, when most insects are collected, become
# January, November and December.
# What Linnaea does: makes no date from words; a month is what a table or a photograph states in numbers (src/linnaea/predict/priors.py,
# src/linnaea/data/exif.py).
#
# "Today" is set to 28 November 2026. Expected: the dates, or None. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "dateparser==1.5.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime
from importlib.metadata import version

import dateparser

roman = "I II III IV V VI VII VIII IX X XI XII".split()
today = {"RELATIVE_BASE": datetime(2026, 11, 28)}
print("dateparser", version("dateparser"))
wrong = {}
for form, day in (("12.{}.1987", 12), ("12.{}.87", 12), ("1.{}.1987", 1)):
    for month, numeral in enumerate(roman, start=1):
        text = form.format(numeral)
        seen = dateparser.parse(text, settings=today)
        if seen is not None and seen.date() != datetime(1987, month, day).date():
            wrong[text] = seen.date().isoformat()
            print(f"{text}: expected 1987-{month:02}-{day:02} or None, seen {wrong[text]}")
strict = dateparser.parse("12.V.1987", settings=today | {"STRICT_PARSING": True})
print("12.V.1987 with STRICT_PARSING:", strict)
print(36 - len(wrong), "of 36 are right or None")
sys.exit(0 if wrong.get("12.V.1987") == "1987-12-28" and wrong.get("12.VI.1987") == "1987-11-12" else 1)
PYTHON
