#!/bin/bash
# dwcahandler's delete_records() of an extension, such as one photograph of the multimedia table, writes the rest of that extension over
# the core: the archive's occurrence.csv is then a list of photographs, while meta.xml still calls its columns occurrenceID,
# scientificName and so on. The record stays in the extension. Deleting records of the core does what it says.
#
# Who is hurt: whoever takes down a photograph (a person on it, a licence withdrawn) from a published archive: all occurrences are gone,
# the photograph is still there, and nothing is raised. Its docstring: "Delete records from either a core or extension".
# What Linnaea does: reads archives and writes new ones, and changes none (src/linnaea/predict/outputs).
#
# Expected: both occurrences, and the photograph of the first. Exits with 1 if the behaviour changes.
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
FORM = """encoding="UTF-8" fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy='"' ignoreHeaderLines="1" """
META = f"""<archive xmlns="http://rs.tdwg.org/dwc/text/">
  <core {FORM} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">
    <files><location>occurrence.csv</location></files>
    <id index="0"/>
    <field index="0" term="http://rs.tdwg.org/dwc/terms/occurrenceID"/>
    <field index="1" term="http://rs.tdwg.org/dwc/terms/scientificName"/>
  </core>
  <extension {FORM} rowType="http://rs.gbif.org/terms/1.0/Multimedia">
    <files><location>multimedia.csv</location></files>
    <coreid index="0"/>
    <field index="1" term="http://purl.org/dc/terms/identifier"/>
  </extension>
</archive>"""
before, after = io.BytesIO(), io.BytesIO()
with zipfile.ZipFile(before, "w") as archive:
    archive.writestr("meta.xml", META)
    archive.writestr("occurrence.csv", "occurrenceID,scientificName\no1,Pica pica\no2,Apus apus\n")
    archive.writestr("multimedia.csv", "coreid,identifier\no1,1.jpg\no2,2.jpg\n")
photograph = pd.DataFrame({"identifier": ["2.jpg"]})
DwcaHandler.delete_records(
    before, ContentData(data=photograph, type=MetaElementTypes.MULTIMEDIA, keys=["identifier"]), after
)
with zipfile.ZipFile(after) as archive:
    seen = {name: archive.read(name).decode().split() for name in ("occurrence.csv", "multimedia.csv")}
print("dwcahandler", version("dwcahandler"))
print("expected: occurrence.csv with Pica pica and Apus apus, multimedia.csv with o1,1.jpg")
print("seen:", seen)
wrong = {"occurrence.csv": ["coreid,identifier", "o1,1.jpg"], "multimedia.csv": ["coreid,identifier", "o1,1.jpg", "o2,2.jpg"]}
sys.exit(0 if seen == wrong else 1)
PYTHON
