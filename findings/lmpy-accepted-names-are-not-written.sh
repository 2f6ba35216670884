#!/bin/bash
# specify-lmpy's AcceptedNameOccurrenceWrangler gives each record its accepted name, but only in the point's species_name. What the
# writers write, and what files are split by, is the attribute of the same name, which keeps the old one: wrangle_occurrences writes the
# table as it was, with all records counted as wrangled. CoordinateConverterWrangler has the same fault in its source, for x and y.
# (GDAL's Python package, which lmpy imports and this step does not use, is replaced by empty modules here.)
#
# Who is hurt: whoever merges synonyms before a model or a map: lions are two species still, each with its share of the records.
# What Linnaea does: gives answers under accepted names, and the synonym beside them (src/linnaea/taxonomy/checklists/usages.py).
#
# Expected: Panthera leo twice, Panthera pardus once. Exits with 1 if the behaviour changes.
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

from lmpy.data_wrangling.occurrence.accepted_name_wrangler import AcceptedNameOccurrenceWrangler
from lmpy.point import PointCsvReader
from lmpy.tools.wrangle_occurrences import clean_data

ACCEPTED = {"Felis leo": "Panthera leo", "Panthera leo": "Panthera leo", "Felis pardus": "Panthera pardus"}
Path("records.csv").write_text("species_name,x,y\nFelis leo,36.82,-1.29\nPanthera leo,36.91,-1.31\nFelis pardus,36.05,-1.52\n")
wrangler = AcceptedNameOccurrenceWrangler(name_map=ACCEPTED)
clean_data(PointCsvReader("records.csv", "species_name", "x", "y"), "written.csv", [wrangler])
with open("written.csv", encoding="utf-8") as file:
    seen = [row["species_name"] for row in csv.DictReader(file)]
print("specify-lmpy", version("specify-lmpy"))
print("expected:", ", ".join(ACCEPTED.values()))
print("seen:", ", ".join(seen), f"({wrangler.get_report()['modified']} records modified, by its report)")
sys.exit(0 if seen == list(ACCEPTED) else 1)
PYTHON
