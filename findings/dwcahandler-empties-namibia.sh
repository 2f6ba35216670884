#!/bin/bash
# dwcahandler reads every cell of a Darwin Core archive as text, but takes "NA", "None", "null" and "n/a" for empty cells, and writes them
# back empty: after any change or merge, records from Namibia (countryCode NA) have no country. Darwin Core has no word for an empty cell.
#
# Who is hurt: whoever keeps archives with it (it is made for data publishers): one record is deleted, and thousands of others lose their
# country, and remarks of one such word are gone. Nothing is said, and the archive stays valid.
# What Linnaea does: cells are text, and no word is an empty one (src/linnaea/tables.py).
#
# Expected: the other record as it was. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "dwcahandler==1.1.5" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import logging
import sys
import zipfile
from importlib.metadata import version

import pandas as pd
from dwcahandler import ContentData, DwcaHandler, MetaElementTypes

logging.disable()
TERMS = ["occurrenceID", "scientificName", "countryCode", "sampleSizeValue"]
FIELDS = "".join(f'<field index="{n}" term="http://rs.tdwg.org/dwc/terms/{term}"/>' for n, term in enumerate(TERMS))
META = f"""<archive xmlns="http://rs.tdwg.org/dwc/text/">
  <core encoding="UTF-8" fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy='"' ignoreHeaderLines="1"
        rowType="http://rs.tdwg.org/dwc/terms/Occurrence">
    <files><location>occurrence.csv</location></files><id index="0"/>{FIELDS}
  </core>
</archive>"""
before, after = io.BytesIO(), io.BytesIO()
with zipfile.ZipFile(before, "w") as archive:
    archive.writestr("meta.xml", META)
    archive.writestr("eml.xml", "<eml/>")
    archive.writestr("occurrence.csv", f"{','.join(TERMS)}\no1,Oryx gazella,NA,0012\no2,Pica pica,BE,7\n")
DwcaHandler.delete_records(
    before,
    ContentData(data=pd.DataFrame({"occurrenceID": ["o2"]}), type=MetaElementTypes.OCCURRENCE, keys=["occurrenceID"]),
    after,
)
with zipfile.ZipFile(after) as archive:
    seen = archive.read("occurrence.csv").decode().split("\n")[1]
print("dwcahandler", version("dwcahandler"))
print("expected: o1,Oryx gazella,NA,0012")
print("seen:", seen)
sys.exit(0 if seen == "o1,Oryx gazella,,0012" else 1)
PYTHON
