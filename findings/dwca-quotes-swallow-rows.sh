#!/bin/bash
# python-dwca-reader's pd_read() takes a quotation mark at the start of a field for a quoted field although meta.xml says
# that fields are not enclosed (fieldsEnclosedBy="", as in GBIF's downloads). Up to the next quotation mark all rows end in
# one cell, and the row goes on with the columns of the last one. Iterating over the same archive gives all rows.
#
# Who is hurt: whoever reads occurrences as a data frame: localities and remarks often begin with a quotation mark. Here
# four records become one, and the magpie of the first a swift; nothing is said.
# What Linnaea does: reads each file with the marks that its meta.xml states (src/linnaea/taxonomy/checklists).
#
# Expected: 4 rows. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "python-dwca-reader==0.17.1" "pandas==3.1.1"
"$folder/venv/bin/python" - "$folder/archive.zip" <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version

from dwca.read import DwCAReader

META = r"""<archive xmlns="http://rs.tdwg.org/dwc/text/">
  <core encoding="UTF-8" fieldsTerminatedBy="\t" linesTerminatedBy="\n" fieldsEnclosedBy="" ignoreHeaderLines="1"
        rowType="http://rs.tdwg.org/dwc/terms/Occurrence">
    <files><location>occurrence.txt</location></files>
    <id index="0"/>
    <field index="1" term="http://rs.tdwg.org/dwc/terms/locality"/>
    <field index="2" term="http://rs.tdwg.org/dwc/terms/scientificName"/>
  </core>
</archive>"""
ROWS = [("1", '"Old mill, north bank', "Pica pica"), ("2", "pond", "Rana arvalis"), ("3", "wood", "Sitta europaea"),
        ("4", '"The Rocks" path', "Apus apus")]
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    archive.writestr("meta.xml", META)
    lines = ["\t".join(row) for row in (("id", "locality", "scientificName"), *ROWS)]
    archive.writestr("occurrence.txt", "\n".join(lines) + "\n")
with DwCAReader(sys.argv[1]) as reader:
    by_row = [(row.id, row.data["http://rs.tdwg.org/dwc/terms/scientificName"]) for row in reader]
    frame = reader.pd_read("occurrence.txt")
as_frame = list(zip(map(str, frame["id"]), frame["scientificName"], strict=True))
print(f"python-dwca-reader {version('python-dwca-reader')}")
print("expected: 4 rows, the first Pica pica")
print(f"seen row by row: {len(by_row)} rows; as a data frame: {len(as_frame)}, the first {as_frame[0][1]}")
sys.exit(0 if len(by_row) == 4 and as_frame == [("1", "Apus apus")] else 1)
PYTHON
