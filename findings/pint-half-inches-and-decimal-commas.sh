#!/bin/bash
# Pint reads measurements as arithmetic: a space multiplies, and commas are taken out. "5 1/2 in" is 2.5 inches, "12,5 cm" is 125 cm, as a
# comma is the decimal mark in most of Europe and South America, and "0,05 mg" is nothing. Characters that it does not know are passed
# over, and the numbers beside them multiplied: "10–12 mm" with a typesetter's dash is 120 mm, "6½ in" is 6 inches. "12 (10-15) mm", the
# way in which descriptions of species state a mean and its range, is -60 mm.
#
# Who is hurt: whoever collects lengths and weights from labels, descriptions or tables of traits: the unit is right, and the number is
# twice, ten times or a tenth of what was measured, or negative. "3 x 5 mm" is an error.
# What Linnaea does: reads no measurements; a cell that is to be a number and has a comma is no number (src/linnaea/tables).
#
# Expected: the measurement, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pint==0.25.3"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from pint import UnitRegistry

LABELS = {
    "5 1/2 in": ("5.5 inch", "2.5 inch"),
    "12,5 cm": ("12.5 centimeter", "125 centimeter"),
    "0,05 mg": ("0.05 milligram", "0 milligram"),
    "10–12 mm": ("an error", "120 millimeter"),
    "6½ in": ("6.5 inch", "6 inch"),
    "12 (10-15) mm": ("an error", "-60 millimeter"),
}
registry = UnitRegistry()
seen = {label: str(registry.Quantity(label)) for label in LABELS}
print("pint", version("pint"))
for label, (expected, _) in LABELS.items():
    print(f"{label:14} expected {expected + ',':16} seen {seen[label]}")
sys.exit(0 if seen == {label: wrong for label, (_, wrong) in LABELS.items()} else 1)
PYTHON
