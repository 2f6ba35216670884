#!/bin/bash
# pygbif's occurrences.download() takes the first word behind the operator for the value: 'scientificName = Pica pica' asks GBIF for the
# genus, 'stateProvince = New York' for "New". Operators are looked for everywhere: an epithet that begins with "not" turns the query into
# its opposite, everything but that genus. Quotation marks do not help; a query as a dictionary is sent as it is. The documentation lists
# scientificName and stateProvince as arguments, and says nothing of values with spaces.
#
# Who is hurt: whoever downloads records of a species by its name. GBIF prepares another download, and the code that joins it to the name
# asked for makes every magpie a Pica pica; the citation (DOI) is of the wrong download.
# What Linnaea does: asks GBIF nothing; records come from files, with their own names (src/linnaea/data/sources/occurrences.py).
#
# Nothing is sent: requests.post is replaced and notes what would be. Expected: the values as they are written. Exits with 1 if the
# behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pygbif==0.7.0" "pandas==3.1.1"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from types import SimpleNamespace

import requests
from pygbif import occurrences

sent = []


def post(url: str, *, data: str, **_: object) -> SimpleNamespace:
    sent.extend(json.loads(data)["predicate"]["predicates"])
    return SimpleNamespace(status_code=201, text="0000001")


requests.post = post
for query in ("scientificName = Pica pica", "stateProvince = New York", "scientificName = Lutjanus notatus"):
    occurrences.download(query, user="user", pwd="password", email="user@example.org")
print("pygbif", version("pygbif"))
print("expected: equals Pica pica, equals New York, equals Lutjanus notatus")
print("seen:", "; ".join(f"{one['type']} {one.get('value', one.get('predicate'))}" for one in sent))
magpie, state, snapper = sent
wrong = (magpie["value"], state["value"], snapper["type"], snapper.get("predicate", {}).get("value"))
sys.exit(0 if wrong == ("Pica", "New", "not", "Lutjanus") else 1)
PYTHON
