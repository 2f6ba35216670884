#!/bin/bash
# SpeciesNet asks reverse_geocoder for the state of a position, "if the coordinates fall within a USA state". That package knows
# towns, no borders: the answer is the state of the nearest town, and none if that lies in Canada or Mexico.
#
# Who is hurt: whoever gives latitude and longitude for SpeciesNet's geofence. Far from towns, where camera traps are, the neighbour
# state's rules apply: its species are allowed, and the state's own can be rolled up to a family or a class. Nothing tells.
# What Linnaea does: takes country and region from the file as they are, and counts records near the place itself, without borders
# (src/linnaea/predict/priors.py).
#
# The package is made known without running its __init__, so that PyTorch is not needed. Expected: the states of five wild
# places, each 9 km or more inside of it. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "reverse_geocoder==1.5.1" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "speciesnet==5.0.6"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from types import ModuleType

package = ModuleType("speciesnet")
package.__path__ = importlib.util.find_spec("speciesnet").submodule_search_locations
sys.modules["speciesnet"] = package
from speciesnet.geolocation import find_admin1_region  # noqa: E402

PLACES = {
    "Death Valley": ("CA", 36.50, -117.10),
    "Trout Creek Mountains": ("OR", 42.10, -118.00),
    "Guadalupe Mountains": ("TX", 31.90, -104.87),
    "Isle Royale": ("MI", 48.00, -88.90),
    "Organ Pipe Cactus": ("AZ", 31.95, -112.80),
}
seen = {
    name: find_admin1_region(country="USA", latitude=latitude, longitude=longitude)
    for name, (_, latitude, longitude) in PLACES.items()
}
print("speciesnet", version("speciesnet"), "reverse_geocoder", version("reverse_geocoder"))
print("expected:", {name: state for name, (state, *_) in PLACES.items()})
print("seen:    ", seen)
sys.exit(0 if [*seen.values()] == ["NV", "NV", "NM", None, None] else 1)
PYTHON
