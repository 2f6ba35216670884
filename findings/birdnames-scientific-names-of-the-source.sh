#!/bin/bash
# birdnames' scientific(), and a Converter whose to_type is "scientific_name", never look into the list that is asked for: they give
# the scientific name that the list of the input has. The code COHA and "Cooper's Hawk" come back as Accipiter cooperii, asked for AviList
# (the default) as for eBird, and in both of them the bird is Astur cooperii; the name that is given is in neither.
# scientific_name_authority is checked, "Scientific names authority" says the docstring, and then has no effect.
#
# Who is hurt: whoever brings the labels of several sources into one list of names: a bird that has moved to another genus is two
# classes, its records are not found, and the answers of a model trained with the new names are counted wrong.
# What Linnaea does: a name is looked up in the list that the user gives, and one that it does not have is said to be unknown
# (src/linnaea/taxonomy/resolve.py).
#
# Expected: names of the list that is asked for. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "birdnames==0.1.3" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import birdnames
from birdnames.utils import load_taxonomy

print("birdnames", version("birdnames"))
expected, seen = [], []
for authority, year in (("avilist", 2025), ("ebird", 2024)):
    table = load_taxonomy(authority, year)
    rows = table[table[f"{authority}_common_name"] == "Cooper's Hawk"]
    expected += [f"{name} ({authority})" for name in rows["scientific_name"]]
    given = birdnames.scientific(["COHA"], scientific_name_authority=authority, year=year)[0]
    seen.append(f"{given} ({authority}, where that name is {'' if given in set(table['scientific_name']) else 'un'}known)")
print("expected:", ", ".join(expected))
print("seen:", ", ".join(seen))
wrong = [s == f"Accipiter cooperii ({a}, where that name is unknown)" for s, a in zip(seen, ("avilist", "ebird"))]
sys.exit(0 if expected == ["Astur cooperii (avilist)", "Astur cooperii (ebird)"] and all(wrong) else 1)
PYTHON
