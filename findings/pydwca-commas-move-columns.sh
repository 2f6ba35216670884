#!/bin/bash
# pydwca reads fieldsEnclosedBy of meta.xml and then cuts each row at every comma, also at those between quotation marks: a locality
# "Tiergarten, Berlin" fills two columns, all values behind it move on by one, and the last one is gone. The latitude becomes the day, the
# longitude the latitude. Written anew, the row is one value short.
#
# Who is hurt: whoever reads or merges archives of comma-separated files, in which localities, authors ("(Linnaeus, 1758)") and remarks are
# in quotation marks for their commas: these records, often most of them, are moved to other places, and nothing is said.
# What Linnaea does: reads the quotation marks that meta.xml states (src/linnaea/taxonomy/checklists/archive.py).
#
# Expected: both records at 52.5, 13.4. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pydwca==0.5.1" "pandas==2.3.3" "numpy==2.2.6" "lxml==5.3.2"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version

from dwca import DarwinCoreArchive

TERMS = ["occurrenceID", "locality", "decimalLatitude", "decimalLongitude", "individualCount"]
FIELDS = "".join(f'<field index="{n}" term="http://rs.tdwg.org/dwc/terms/{term}"/>' for n, term in enumerate(TERMS))
META = f"""<archive xmlns="http://rs.tdwg.org/dwc/text/">
  <core encoding="UTF-8" fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy='"' ignoreHeaderLines="1"
        rowType="http://rs.tdwg.org/dwc/terms/Occurrence">
    <files><location>occurrence.csv</location></files><id index="0"/>{FIELDS}
  </core>
</archive>"""
ROWS = ['o1,"Tiergarten, Berlin",52.5,13.4,3', "o2,Berlin,52.5,13.4,3"]
with zipfile.ZipFile("archive.zip", "w") as archive:
    archive.writestr("meta.xml", META)
    archive.writestr("occurrence.csv", "\n".join([",".join(TERMS), *ROWS]) + "\n")
table = DarwinCoreArchive.from_file("archive.zip", _no_interaction=True).core.as_pandas(_no_interaction=True)
seen = table[["decimalLatitude", "decimalLongitude"]].astype(str).to_numpy().tolist()
print("pydwca", version("pydwca"), "pandas", version("pandas"))
print("expected:", [["52.5", "13.4"], ["52.5", "13.4"]])
print("seen:    ", seen)
sys.exit(0 if seen == [[' Berlin"', "52.5"], ["52.5", "13.4"]] else 1)
PYTHON
