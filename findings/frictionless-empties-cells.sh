#!/bin/bash
# frictionless guesses the type of a column from the first 100 rows, and every later cell of another type becomes empty:
# read_rows(), extract(), to_pandas() and write() raise nothing and print nothing. Only validate() tells.
#
# Who is hurt: whoever passes tables of records through frictionless (Camtrap DP and other data packages are read with it). The
# first hundred counts are numbers; "5-10" in row 151 is gone, and the file that write() makes has an empty cell. Numbers with
# leading zeros lose them, so that catalogue number 0012 is 12.
# What Linnaea does: reads all cells of a table as text, and turns a cell into a number where it needs one
# (src/linnaea/tables.py).
#
# Expected: the cells that were read, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "frictionless==5.21.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from frictionless import Resource, extract, validate

lines = ["catalogNumber,individualCount", *(f"{number:04},{number % 7 + 1}" for number in range(1, 151)), "0151,5-10"]
Path("records.csv").write_text("\n".join(lines) + "\n")
last = Resource(path="records.csv").read_rows()[-1].to_dict()
extracted = extract("records.csv")["records"][-1]
Resource(path="records.csv").write("copy.csv")
copied = Path("copy.csv").read_text().splitlines()[-1]
print(f"frictionless {version('frictionless')}")
print(f"expected: {lines[-1]}, or an error")
print(f"seen: read_rows {last}, extract {extracted}, the copy {copied!r}; valid: {validate('records.csv').valid}")
sys.exit(0 if last == extracted == {"catalogNumber": 151, "individualCount": None} and copied == "151," else 1)
PYTHON
