#!/bin/bash
# gbif-dl names the creator of a photograph where there is no rights holder, but only in answers of GBIF's API, which leave out what is not
# known. GBIF's archives always have both columns: an empty rightsHolder counts as one, and the creator beside it is dropped. The same
# record has its photographer from the API, and nobody from the archive that a DOI stands for.
#
# Who is hurt: photographers, and whoever publishes a data set under CC BY, which asks for their names: license_info=True is the default,
# gives the licence, and the name that it demands is gone.
# What Linnaea does: keeps creator, owner and rights holder apart, and prints the first that says anything (src/linnaea/data/licences.py).
#
# Expected: A. Vogel both times. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "gbif-dl==0.1.1" "pygbif==0.7.0" "pescador==3.0.0" "numpy==2.4.6" \
    "python-dwca-reader==0.17.1"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version

import pygbif
from gbif_dl.generators import api, dwca

MEDIUM = {
    "type": "StillImage",
    "identifier": "https://example.org/1.jpg",
    "creator": "A. Vogel",
    "license": "http://creativecommons.org/licenses/by/4.0/legalcode",
    "rightsHolder": "",
}
FORM = 'encoding="utf-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'
fields = "".join(f'<field index="{n}" term="http://purl.org/dc/terms/{term}"/>' for n, term in enumerate(MEDIUM, 1))
with zipfile.ZipFile("download.zip", "w") as archive:
    archive.writestr("metadata.xml", "<eml/>")
    archive.writestr("occurrence.txt", "gbifID\tspeciesKey\n1\t2481174\n")
    archive.writestr("multimedia.txt", "\t".join(["gbifID", *MEDIUM]) + "\n" + "\t".join(["1", *MEDIUM.values()]) + "\n")
    archive.writestr(
        "meta.xml",
        f"""<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="metadata.xml">
        <core {FORM} rowType="http://rs.tdwg.org/dwc/terms/Occurrence"><files><location>occurrence.txt</location></files>
        <id index="0"/><field index="1" term="http://rs.gbif.org/terms/1.0/speciesKey"/></core>
        <extension {FORM} rowType="http://rs.gbif.org/terms/1.0/Multimedia"><files><location>multimedia.txt</location></files>
        <coreid index="0"/>{fields}</extension></archive>""",
    )
told = {key: value for key, value in MEDIUM.items() if value}
answer = {"offset": 0, "endOfRecords": True, "results": [{"key": 1, "speciesKey": 2481174, "media": [told]}]}
pygbif.occurrences.search = lambda **_: answer
[of_api] = api.generate_urls({"country": "DE"}, label="speciesKey")
[of_archive] = dwca.dwca_generator("download.zip")
print("gbif-dl", version("gbif-dl"))
print("expected: A. Vogel from the API, A. Vogel from the archive")
print(f"seen: {of_api['rightsHolder']!r} from the API, {of_archive['rightsHolder']!r} from the archive")
sys.exit(0 if of_api["rightsHolder"] == "A. Vogel" and of_archive["rightsHolder"] == "" else 1)
PYTHON
