#!/bin/bash
# specify-lmpy's DecimalPrecisionFilter, to "only keep points with at least this many decimal places of precision", counts the digits of
# the number, not of the text in the file: 36.8200 has two. Of positions that are all given to four places, those whose latitude or
# longitude ends in 0 are left out: 19 of 100, wherever they are. On a grid of tenths of minutes or quarters of degrees it can be all.
# (GDAL's Python package, which lmpy imports and this step does not use, is replaced by empty modules here.)
#
# Who is hurt: whoever cleans records of their rough positions: a fifth of the precise ones goes with them, and the report calls them
# filtered.
# What Linnaea does: leaves out no record by the digits of its position.
#
# Expected: all 100. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "numpy==2.4.6" "dendropy==5.1.3" "rtree==1.4.1" "requests==2.34.2" "defusedxml==0.7.1" "matplotlib==3.11.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "specify-lmpy==3.1.21"
mkdir "$folder/osgeo"
touch "$folder/osgeo/__init__.py" "$folder/osgeo/gdal.py" "$folder/osgeo/gdalconst.py" "$folder/osgeo/ogr.py" "$folder/osgeo/osr.py"
cd "$folder"
PYTHONPATH="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import csv
import sys
from importlib.metadata import version
from pathlib import Path

from lmpy.data_wrangling.occurrence.decimal_precision_wrangler import DecimalPrecisionFilter
from lmpy.point import PointCsvReader
from lmpy.tools.wrangle_occurrences import clean_data

positions = [(f"36.827{east}", f"-1.293{north}") for east in range(10) for north in range(10)]
rows = "".join(f"Panthera leo,{east},{north}\n" for east, north in positions)
Path("records.csv").write_text("species_name,x,y\n" + rows)
clean_data(PointCsvReader("records.csv", "species_name", "x", "y"), "written.csv", [DecimalPrecisionFilter(decimal_places=4)])
with open("written.csv", encoding="utf-8") as file:
    seen = {(row["x"], row["y"]) for row in csv.DictReader(file)}
lost = [position for position in positions if position not in seen]
print("specify-lmpy", version("specify-lmpy"))
print(f"expected: all of {len(positions)} positions to four places, the first of them {', '.join(positions[0])}")
print(f"seen: {len(seen)}; lost are", "; ".join(", ".join(position) for position in lost[:2]), "...")
ends_in_zero = [position for position in positions if "0" in (position[0][-1], position[1][-1])]
sys.exit(0 if lost == ends_in_zero and len(lost) == 19 else 1)
PYTHON
