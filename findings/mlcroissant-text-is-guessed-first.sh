#!/bin/bash
# mlcroissant, the reader of Croissant descriptions, lets pandas guess the types of a CSV file before it looks at the types that the
# description states. A column stated to be text has lost its leading zeros then: the catalogue number 0012 is 12, and 12.0 where another
# row has none. Country codes and names that pandas takes for missing, NA of Namibia and None, are None.
#
# Who is hurt: whoever joins the records with a catalogue or with files by these numbers: they are found no more, or are another specimen's.
# What Linnaea does: reads identifiers and codes as text (src/linnaea/tables/formats.py).
#
# Expected: the text of the file. Exits with 1 if the behaviour changes.
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

COLUMNS = ("catalogNumber", "species", "countryCode")
file = Path("specimens.csv")
file.write_text("catalogNumber,species,countryCode\n0012,Welwitschia mirabilis,NA\n,Quercus robur,DE\n")
description = {
    "@context": mlcroissant.Metadata(name="specimens").to_json()["@context"],
    "@type": "sc:Dataset",
    "name": "specimens",
    "conformsTo": "http://mlcommons.org/croissant/1.0",
    "distribution": [
        {"@type": "cr:FileObject", "@id": "specimens", "name": "specimens", "contentUrl": file.name, "encodingFormat": "text/csv",
         "sha256": sha256(file.read_bytes()).hexdigest()}
    ],
    "recordSet": [
        {"@type": "cr:RecordSet", "@id": "records", "name": "records", "field": [
            {"@type": "cr:Field", "@id": f"records/{column}", "name": column, "dataType": "sc:Text",
             "source": {"fileObject": {"@id": "specimens"}, "extract": {"column": column}}}
            for column in COLUMNS
        ]}
    ],
}  # fmt: skip
Path("croissant.json").write_text(json.dumps(description))
record = next(iter(mlcroissant.Dataset("croissant.json").records("records")))
seen = [record[f"records/{column}"] for column in COLUMNS]
print("mlcroissant", version("mlcroissant"), "pandas", version("pandas"))
print("expected:", [b"0012", b"Welwitschia mirabilis", b"NA"])
print("seen:", seen)
sys.exit(0 if seen == [b"12.0", b"Welwitschia mirabilis", None] else 1)
PYTHON
