#!/bin/bash
# mlcroissant, the reader of Croissant descriptions, multiplies the pixels of a TIFF by 255 and keeps the last 8 bits, as if they were
# between 0 and 1. Of 8 bits, each pixel becomes 256 minus itself: the picture comes as its own negative, with black as it was. Of
# 16 bits, it is the negative of the last 8. The PNG of the same picture comes as it is.
#
# Who is hurt: whoever trains on, or names, the TIFFs of a data set that has a Croissant description: slides, scans and herbarium sheets.
# What Linnaea does: reads TIFFs by their tags, 16 bits scaled to 8 (src/linnaea/data/tiffs.py).
#
# Expected: the pixels of the file. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "mlcroissant==1.1.1" "numpy==2.4.6" "pandas==3.1.1" "pillow==13.0.0" "tifffile==2026.3.3"
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/messages" <<'PYTHON' || { cat "$folder/messages" >&2; exit 1; }
import json
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import mlcroissant
import numpy as np
from PIL import Image

files = {"scan.tif": "image/tiff", "scan.png": "image/png"}
for file in files:
    Image.new("RGB", (8, 8), (10, 100, 250)).save(file)
description = {
    "@context": mlcroissant.Metadata(name="scans").to_json()["@context"],
    "@type": "sc:Dataset",
    "name": "scans",
    "conformsTo": "http://mlcommons.org/croissant/1.0",
    "distribution": [
        {"@type": "cr:FileObject", "@id": file, "name": file, "contentUrl": file, "encodingFormat": kind,
         "sha256": sha256(Path(file).read_bytes()).hexdigest()}
        for file, kind in files.items()
    ],
    "recordSet": [
        {"@type": "cr:RecordSet", "@id": f"of-{file}", "name": f"of-{file}", "field": [
            {"@type": "cr:Field", "@id": f"of-{file}/picture", "name": "picture", "dataType": "sc:ImageObject",
             "source": {"fileObject": {"@id": file}, "extract": {"fileProperty": "content"}}}
        ]}
        for file in files
    ],
}  # fmt: skip
Path("croissant.json").write_text(json.dumps(description))
dataset = mlcroissant.Dataset("croissant.json")
seen = {file: np.asarray(next(iter(dataset.records(f"of-{file}")))[f"of-{file}/picture"])[0, 0].tolist() for file in files}
print("mlcroissant", version("mlcroissant"), "numpy", np.__version__)
print("expected: [10, 100, 250] from both files")
print("seen:", seen)
sys.exit(0 if seen == {"scan.tif": [246, 156, 6], "scan.png": [10, 100, 250]} else 1)
PYTHON
