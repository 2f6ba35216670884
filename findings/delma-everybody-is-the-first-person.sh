#!/bin/bash
# delma, of the Atlas of Living Australia, writes a data set's EML from a page of headings, and looks up the text of each heading by its
# words: of several that are called "Given Name" or "Surname" it writes the first one's text each time. With two creators and a contact, all
# three are the first creator. display_as_dataframe() shows all three persons of the same page.
#
# Who is hurt: everyone but the first author of a data set: they are not cited, and questions reach the wrong person. The template
# has one person, and shows nothing.
# What Linnaea does: writes "not stated" for both, to be filled in by hand (src/linnaea/predict/records/darwin_core.py).
#
# Expected: three persons. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "delma-python==0.1.5" "metapype==0.3.0" "pandas==3.1.1"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import re
import sys
from importlib.metadata import version
from pathlib import Path

import delma


def person(role: str, given: str, surname: str) -> str:
    return f"## {role}\n\n### Individual Name\n\n#### Given Name\n{given}\n\n#### Surname\n{surname}\n\n"


page = "# Dataset\n\n## Title\nMoths of a garden\n\n"
page += person("Creator", "Ada", "Vogel") + person("Creator", "Bea", "Specht") + person("Contact", "Cem", "Kuckuck")
Path("metadata.md").write_text(f"{page}## Language\nEN\n\n")
delma.write_eml(working_dir=".", publishing_dir="published/")
eml = Path("published/eml.xml").read_text()
seen = re.findall(r"<(creator|contact)>.*?<givenName>(\w+)<.*?<surName>(\w+)<", eml, re.DOTALL)
print("delma-python", version("delma-python"))
print("expected: [('creator', 'Ada', 'Vogel'), ('creator', 'Bea', 'Specht'), ('contact', 'Cem', 'Kuckuck')]")
print(f"seen:     {seen}")
sys.exit(0 if seen == [(role, "Ada", "Vogel") for role in ("creator", "creator", "contact")] else 1)
PYTHON
