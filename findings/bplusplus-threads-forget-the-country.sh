#!/bin/bash
# bplusplus' collect() takes "GBIF search parameters including species list" and hands them on if num_threads is 1. With more threads, as in
# its documentation's example (5), only the names of the species arrive at GBIF: country, licence, year or polygon are left out. The line
# "Quality filters enabled" lists its own filters, and nothing is said of the others. The licence of a photograph is written nowhere.
#
# Who is hurt: whoever collects photographs of the insects of a country, which then come from all over the world, and whoever asks for
# photographs that may be used: those of all licences come, and which is which cannot be told afterwards.
# What Linnaea does: asks GBIF nothing; it reads its downloads, with the licence of each photograph
# (src/linnaea/data/sources/occurrences.py).
#
# Expected: the same search with one thread and with two. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pygbif==0.6.5" "requests==2.34.2" "validators==0.33.0" "tqdm==4.66.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "bplusplus==2.4.0"  # the rest of it wants torch
"$folder/venv/bin/python" - "$folder/images" <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import distribution, version

import pygbif

path = next(file for file in distribution("bplusplus").files if str(file) == "bplusplus/collect.py").locate()
spec = importlib.util.spec_from_file_location("collect", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
asked = []


def search(**options: object) -> dict:
    """Note what GBIF is asked for, and find nothing."""
    asked.append({name: options.get(name) for name in ("scientificName", "country", "license")})
    return {"results": [], "endOfRecords": True, "offset": 0, "limit": 0}


pygbif.occurrences.search = search
SEARCH = {"scientificName": ["Aglais io", "Vanessa atalanta"], "country": ["NL"], "license": ["CC0_1_0"]}
for threads in (1, 2):
    module.collect(
        group_by_key=module.Group.scientificName,
        search_parameters=SEARCH,
        images_per_group=1,
        output_directory=sys.argv[1],
        num_threads=threads,
    )
print("bplusplus", version("bplusplus"), "pygbif", version("pygbif"))
print("with one thread: ", asked[:2])
print("with two threads:", asked[2:])
filters = {(str(one["country"]), str(one["license"])) for one in asked[:2]}, {
    (str(one["country"]), str(one["license"])) for one in asked[2:]
}
sys.exit(0 if filters == ({("['NL']", "['CC0_1_0']")}, {("None", "None")}) else 1)
PYTHON
