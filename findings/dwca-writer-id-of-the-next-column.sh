#!/bin/bash
# dwca-writer's Table has id_index, the column of the identifiers, and only_mapped_columns, which leaves out columns that are no terms of
# Darwin Core. If such a column stands before the identifiers, meta.xml still has the old number: the identifier of the record is its
# scientific name, and that of a measurement's record is the kind of measurement. Readers join by these numbers.
#
# Who is hurt: whoever publishes a table with a column of their own at its front, a row number say: no measurement belongs to a record any
# more, and all badgers have one identifier.
# What Linnaea does: writes id and coreid with the columns that it writes (src/linnaea/predict/records/darwin_core.py).
#
# Expected: identifiers A, B and C, with a weight each. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "dwca-writer==0.2.0" "pandas==2.3.3" "xmltodict==1.0.4" "setuptools==75.8.0" "python-dwca-reader==0.17.1"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import pandas as pd
from dwca.read import DwCAReader
from dwcawriter import Archive, Table

CORE = "https://rs.gbif.org/core/dwc_occurrence_2022-02-02.xml"
MEASUREMENTS = "https://rs.gbif.org/extension/obis/extended_measurement_or_fact.xml"
records = pd.DataFrame({
    "our row": [1, 2, 3],
    "occurrenceID": ["A", "B", "C"],
    "scientificName": ["Meles meles", "Meles meles", "Vulpes vulpes"],
    "year": [2024, 2025, 2026],
})
weights = pd.DataFrame({
    "our row": [1, 2, 3],
    "occurrenceID": ["A", "B", "C"],
    "measurementType": ["weight"] * 3,
    "measurementValue": [11, 12, 6],
})
archive = Archive(eml_text="<eml/>")
archive.core = Table(spec=CORE, data=records, id_index=1, only_mapped_columns=True)
archive.extensions.append(Table(spec=MEASUREMENTS, data=weights, id_index=1, only_mapped_columns=True))
archive.export("archive.zip")
with DwCAReader("archive.zip") as reader:
    seen = [(row.id, len(row.extensions)) for row in reader]
print("dwca-writer", version("dwca-writer"), "python-dwca-reader", version("python-dwca-reader"))
print("expected: identifiers and measurements:", [(identifier, 1) for identifier in records["occurrenceID"]])
print("seen:", seen)
sys.exit(0 if seen == [(name, 0) for name in records["scientificName"]] else 1)
PYTHON
