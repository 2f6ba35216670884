#!/bin/bash
# mlcroissant, the reader of Croissant descriptions, reads the lines of a text file ("fileProperty": "lines") as a table with commas. If
# the first line has a comma, of every line only what is behind the comma is left, and of a line without one, None. If only a later line
# has more commas, it is an error. Empty lines are left out, so that the numbers of lines are no longer the file's.
#
# Who is hurt: whoever keeps the names of classes as "Meles meles, European badger" by line, as ImageNet's lists do: the scientific names
# are gone.
# What Linnaea does: reads lists of names line by line (src/linnaea/predict/label_lists.py).
#
# Expected: the lines of the file. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlcroissant==1.1.1" "numpy==2.4.6" "pandas==3.1.1"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import json
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import mlcroissant

file = Path("species.txt")
file.write_text("Meles meles, European badger\nVulpes vulpes\n\nLarus canus, common gull\n")
description = {
    "@context": mlcroissant.Metadata(name="species").to_json()["@context"],
    "@type": "sc:Dataset",
    "name": "species",
    "conformsTo": "http://mlcommons.org/croissant/1.0",
    "distribution": [
        {"@type": "cr:FileObject", "@id": "species", "name": "species", "contentUrl": file.name, "encodingFormat": "text/plain",
         "sha256": sha256(file.read_bytes()).hexdigest()}
    ],
    "recordSet": [
        {"@type": "cr:RecordSet", "@id": "names", "name": "names", "field": [
            {"@type": "cr:Field", "@id": "names/line", "name": "line", "dataType": "sc:Text",
             "source": {"fileObject": {"@id": "species"}, "extract": {"fileProperty": "lines"}}},
            {"@type": "cr:Field", "@id": "names/number", "name": "number", "dataType": "sc:Integer",
             "source": {"fileObject": {"@id": "species"}, "extract": {"fileProperty": "lineNumbers"}}},
        ]}
    ],
}  # fmt: skip
Path("croissant.json").write_text(json.dumps(description))
seen = {record["names/number"]: record["names/line"] for record in mlcroissant.Dataset("croissant.json").records("names")}
print("mlcroissant", version("mlcroissant"), "pandas", version("pandas"))
print("expected:", dict(enumerate(file.read_text().splitlines())))
print("seen:", seen)
sys.exit(0 if seen == {0: b" European badger", 1: None, 2: b" common gull"} else 1)
PYTHON
