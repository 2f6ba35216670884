#!/bin/bash
# python-dwca-reader's pd_read() fills a whole column with the default of meta.xml, also where the file has values: a
# field with an index and a default, which Darwin Core's text guide allows for empty cells, loses all that was written.
# Iterating over the same archive gives the values.
#
# Who is hurt: whoever reads a checklist as a data frame; here every genus becomes a species, without a message.
# What Linnaea does: takes the default only where the cell is empty (src/linnaea/taxonomy/checklists).
#
# Expected: genus, species. Exits with 1 if the behaviour changes.
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
        rowType="http://rs.tdwg.org/dwc/terms/Taxon">
    <files><location>taxon.txt</location></files>
    <id index="0"/>
    <field index="1" term="http://rs.tdwg.org/dwc/terms/scientificName"/>
    <field index="2" term="http://rs.tdwg.org/dwc/terms/taxonRank" default="species"/>
  </core>
</archive>"""
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    archive.writestr("meta.xml", META)
    archive.writestr("taxon.txt", "id\tscientificName\ttaxonRank\n1\tPica\tgenus\n2\tPica pica\t\n")
with DwCAReader(sys.argv[1]) as reader:
    by_row = [row.data["http://rs.tdwg.org/dwc/terms/taxonRank"] for row in reader]
    as_frame = reader.pd_read("taxon.txt")["taxonRank"].tolist()
print(f"python-dwca-reader {version('python-dwca-reader')}")
print("expected: genus, species")
print(f"seen row by row: {', '.join(by_row)}; as a data frame: {', '.join(as_frame)}")
sys.exit(0 if by_row == ["genus", "species"] and as_frame == ["species", "species"] else 1)
PYTHON
