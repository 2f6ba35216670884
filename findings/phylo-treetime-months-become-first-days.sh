#!/bin/bash
# TreeTime dates trees by the dates of their samples, and knows that "2020-03-XX" is some day in March. "2020-03", which is how ISO 8601 and
# Darwin Core write that, is the first of March, exactly; "2020" is midnight of New Year, as numbers are tried first. So "20200315", the
# short form of ISO 8601, is the year twenty million. In February of a leap year "XX" ends on the 28th.
#
# Who is hurt: whoever dates an outbreak or a divergence with dates of specimens and of records, of which many have a month or a year only:
# samples count as exact that are up to a year wrong, always too early, and narrow the interval of the answer.
# What Linnaea does: a date without a day stays one, as text (src/linnaea/data/sources/occurrences.py).
#
# Expected: as with XX, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "phylo-treetime==0.12.1" "pandas==2.3.3" "numpy==2.4.6" "biopython==1.88"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from treetime.utils import parse_dates

DATES = ["2020-03-15", "2020-03-XX", "2020-03", "2020-XX-XX", "2020", "20200315", "2020-02-XX"]
Path("dates.csv").write_text("name,date\n" + "".join(f"sample{n},{date}\n" for n, date in enumerate(DATES)))
parsed = parse_dates("dates.csv")
seen = {}
for number, date in enumerate(DATES):
    value = parsed[f"sample{number}"]
    seen[date] = [round(bound, 3) for bound in value] if isinstance(value, list) else round(value, 3)
print("phylo-treetime", version("phylo-treetime"))
print("expected: 2020-03 as 2020-03-XX, 2020 as 2020-XX-XX, 20200315 as 2020-03-15; 29 February, 2020.163, as an end")
print("seen:    ", seen)
EXPECTED = {"2020-03-15": 2020.204, "2020-03-XX": [2020.165, 2020.247], "2020-03": 2020.165, "2020-XX-XX": [2020.001, 2020.999],
            "2020": 2020.0, "20200315": 20200315.0, "2020-02-XX": [2020.086, 2020.16]}  # fmt: skip
sys.exit(0 if seen == EXPECTED else 1)
PYTHON
