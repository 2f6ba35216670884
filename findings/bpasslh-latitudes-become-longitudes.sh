#!/bin/bash
# bpasslh coarsens the places of sensitive species by the lists of the Australian states. A species that is on no list is to keep its place,
# and gets latitude and longitude exchanged: a kangaroo in Canberra is at 149.1 degrees north. Species that are withheld or coarsened, and all
# places outside Australia, come back in the right order.
#
# Who is hurt: whoever prepares records for publication with it: nearly all species are on no list, so that nearly all places in Australia are
# exchanged, as long as nobody looks at the map.
# What Linnaea does: publishes positions as they are, and checks their ranges (`_check_position` in src/linnaea/predict/records/media.py).
#
# The name service of the Atlas of Living Australia is replaced by one that returns the name. Expected: latitude -35.28, longitude 149.13.
# Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "bpasslh==2.1.1" "shapely==1.8.5.post1" "fiona==1.10.1" "numpy==1.26.4"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

from bpasslh.handler import SensitiveDataGeneraliser

generaliser = SensitiveDataGeneraliser(logging.getLogger())
generaliser.ala_lookup._ala_lookup = lambda names: [{"name": name} for name in names]
PLACES = {
    "Macropus giganteus": (-35.28, 149.13),  # Canberra; on no list
    "Bossiaea grayi": (-35.2834, 149.1287),  # Canberra; on its list with "1km"
    "Larus novaehollandiae": (-43.5342, 172.6365),  # New Zealand
}
seen = {}
for species, place in PLACES.items():
    result = generaliser.apply(species, *place)
    seen[species] = (result.latitude, result.longitude)
print("bpasslh", version("bpasslh"))
print("expected: (-35.28, 149.13), and the others rounded")
print("seen:    ", seen)
rounded = [seen["Bossiaea grayi"], seen["Larus novaehollandiae"]]
sys.exit(0 if seen["Macropus giganteus"] == (149.13, -35.28) and rounded == [(-35.28, 149.13), (-43.53, 172.64)] else 1)
PYTHON
