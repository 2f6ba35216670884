#!/bin/bash
# FrictionlessDarwinCore makes data packages of Darwin Core archives, and takes the fields of meta.xml for the columns in the order in which
# they are written there; their index, which says which column a field is, is not read. As soon as one field has a default, the files are
# written anew: a column with an index and a default is filled with the default, and all columns behind it move on by one: the scientific
# name is a country, the locality a species, and what the last column had is gone.
#
# Who is hurt: whoever reads archives as data packages: meta.xml lists fields in any order, and defaults beside an index are the standard's
# way to fill empty cells. It prints that it saves the file, and no more.
# What Linnaea does: takes columns by their index, and the default where the cell is empty (src/linnaea/taxonomy/checklists/archive.py).
#
# Expected: each value under its own term. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "FrictionlessDarwinCore==1.0.0"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import csv
import io
import json
import sys
import zipfile
from importlib.metadata import version

from FrictionlessDarwinCore import DwCArchive

ROWS = "occurrenceID,countryCode,scientificName,locality\no1,FR,Larus canus,Brest\no2,,Parus major,Berlin\n"
ORDERED = [(1, "countryCode"), (2, "scientificName"), (3, "locality")]


def convert(fields: list[tuple[int, str]], default: str) -> tuple[dict[str, str], list[str]]:
    """Return the first record of the package, and its names of columns in datapackage.json."""
    term = "http://rs.tdwg.org/dwc/terms/"
    lines = [f'<field index="{index}" term="{term}{name}"{default if index == 1 else ""}/>' for index, name in fields]
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr("eml.xml", "<eml><dataset><title>t</title></dataset></eml>")
        archive.writestr("occurrence.csv", ROWS)
        archive.writestr(
            "meta.xml",
            f"""<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml"><core encoding="UTF-8" fieldsTerminatedBy=","
            linesTerminatedBy="\\n" fieldsEnclosedBy='"' ignoreHeaderLines="1" rowType="{term}Occurrence">
            <files><location>occurrence.csv</location></files><id index="0"/><field index="0" term="{term}occurrenceID"/>
            {"".join(lines)}</core></archive>""",
        )
    package = DwCArchive("archive.zip")
    package.infer()
    package.save("package.zip")
    with zipfile.ZipFile("package.zip") as saved:
        table = io.StringIO(saved.read("occurrence.csv").decode())
        [resource] = json.loads(saved.read("datapackage.json"))["resources"]
    return next(csv.DictReader(table)), [field["name"] for field in resource["schema"]["fields"]]


record, _ = convert(ORDERED, ' default="DE"')
_, names = convert([*ORDERED[1:], ORDERED[0]], "")
print("FrictionlessDarwinCore", version("FrictionlessDarwinCore"))
print("expected with a default: FR, Larus canus, Brest")
print("seen:", ", ".join(list(record.values())[1:]))
print("expected with fields in another order: columns", [name for _, name in ORDERED])
print("seen: columns", names[1:])
wrong = record["scientificName"] == "FR" and record["locality"] == "Larus canus" and "Brest" not in record.values()
sys.exit(0 if wrong and names[1:] == ["scientificName", "locality", "countryCode"] else 1)
PYTHON
