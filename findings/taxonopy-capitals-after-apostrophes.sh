#!/bin/bash
# TaxonoPy's `common-names` writes every common name anew, small first and then with capitals as Polars sets them, which takes what stands
# behind an apostrophe for a word: "Cooper'S Hawk", "Queen Anne'S Lace", "Père David'S Deer". Names that GBIF has with the right
# capitals are changed as well ("McKay's Bunting" becomes "Mckay'S Bunting").
#
# Who is hurt: whoever takes these names for captions or labels (its development "has been driven by" TreeOfLife-200M): nobody writes so, and
# a comparison with the names of another list finds none of them.
# What Linnaea does: leaves common names as the list has them, and compares names without regard to capitals (src/linnaea/taxonomy/keys.py).
#
# Expected: the names as they are, or with capitals at the beginning of words. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "taxonopy==0.2.0" "polars==2.1.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import polars as pl
from taxonopy.resolve_common_names import prioritize_vernacular

NAMES = ["Cooper's Hawk", "Queen Anne's Lace", "Père David's Deer", "McKay's Bunting"]
table = pl.DataFrame({"taxonID": ["1", "2", "3", "4"], "vernacularName": NAMES, "language": ["en"] * 4})
seen = prioritize_vernacular(table).sort("taxonID")["vernacularName"].to_list()
print("taxonopy", version("taxonopy"), "polars", version("polars"))
print(f"expected: {NAMES}")
print(f"seen:     {seen}")
sys.exit(0 if seen == ["Cooper'S Hawk", "Queen Anne'S Lace", "Père David'S Deer", "Mckay'S Bunting"] else 1)
PYTHON
