#!/bin/bash
# pydwca writes a date of events as short as it can: what falls on the first of a month is written without the day, and 1 January without
# the month. 2020-05-01 becomes "2020-05", 2020-01-01 "2020", and the nights from 1 May to 1 June "2020-05/2020-06". Midnight becomes no
# time at all, and 21:00 "T21". An archive that is read and written without any change differs so from the one that was read; so do the
# dates in dcterms:modified.
#
# Who is hurt: whoever reads, filters or merges archives of sampling events with it ("to read, parse and write"): a thirtieth of the dates
# are no longer days but months or years, which those who filter by precision leave out, and which others take for any day of it. Counts
# of New Year, and traps that are set on the first of each month, fare worst.
# What Linnaea does: keeps eventDate as it is written (src/linnaea/data/sources/occurrences.py).
#
# Expected: the same dates. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pydwca==0.5.1" "lxml==5.3.2"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version

from dwca import DarwinCoreArchive

META = """<archive xmlns="http://rs.tdwg.org/dwc/text/">
  <core encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"
        rowType="http://rs.tdwg.org/dwc/terms/Event">
    <files><location>event.txt</location></files><id index="0"/>
    <field index="0" term="http://rs.tdwg.org/dwc/terms/eventID"/>
    <field index="1" term="http://rs.tdwg.org/dwc/terms/eventDate"/>
  </core>
</archive>"""
DATES = ["2020-05-03", "2020-05-01", "2020-01-01", "2020-05-01/2020-06-01", "2020-05-02T00:00:00+02:00"]
with zipfile.ZipFile("in.zip", "w") as archive:
    archive.writestr("meta.xml", META)
    archive.writestr("event.txt", "eventID\teventDate\n" + "".join(f"e{n}\t{date}\n" for n, date in enumerate(DATES)))
DarwinCoreArchive.from_file("in.zip", _no_interaction=True).to_file("out.zip", _no_interaction=True)
with zipfile.ZipFile("out.zip") as archive:
    seen = [row.split("\t")[1] for row in archive.read("event.txt").decode().splitlines()[1:]]
print("pydwca", version("pydwca"))
print("expected:", DATES)
print("seen:    ", seen)
sys.exit(0 if seen == ["2020-05-03", "2020-05", "2020", "2020-05/2020-06", "2020-05-02"] else 1)
PYTHON
