#!/bin/bash
# niamoto's export to Darwin Core makes establishmentMeans of the mark "endemic": true is "native", false is "introduced". Most native plants
# of an island are not endemic to it, and are published as introduced. The infraspecific epithet is what follows "f." in the
# name, also where it is that of Hooker's son: "Planchonella crassinervia Hook.f. ex Dubard" has the epithet "ex".
#
# Who is hurt: whoever publishes a flora with it, and who works with the records: lists of alien species are drawn from that term, and a mangrove
# of New Caledonia is on them, beside plants that people brought.
# What Linnaea does: says nothing about establishment, and reads names with a parser (src/linnaea/taxonomy/name_parser.py).
#
# Version 0.7.5 is the newest for Python 3.11; 0.20.5 has the same line. Expected: not "introduced"; no epithet. Exits with 1 if the behaviour
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pydantic==2.12.5" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "niamoto==0.7.5"  # the rest of it wants forty packages more
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from niamoto.core.plugins.transformers.formats.niamoto_to_dwc_occurrence import NiamotoDwCTransformer

MAPPING = {
    "establishmentMeans": {"generator": "map_establishment_means", "params": {}},
    "infraspecificEpithet": {"generator": "extract_infraspecific_epithet", "params": {}},
}
TAXA = {
    "Amborella trichopoda Baill.": True,
    "Rhizophora stylosa Griff.": False,  # a mangrove, native from Asia to the Pacific
    "Planchonella crassinervia Hook.f. ex Dubard": True,
    "Santalum austrocaledonicum Vieill. var. pilosulum N.Hallé": True,
}
transformer = NiamotoDwCTransformer(None)
seen = {}
for name, endemic in TAXA.items():
    transformer._current_taxon = {"full_name": name, "metadata": {"endemic": endemic}}
    record = transformer._map_occurrence({"id": 1}, MAPPING)
    seen[name.split()[0]] = (record["establishmentMeans"], record.get("infraspecificEpithet"))
print("niamoto", version("niamoto"))
print("expected: Rhizophora not introduced; Planchonella without an epithet")
print("seen:    ", seen)
EXPECTED = {"Amborella": ("native", None), "Rhizophora": ("introduced", None),
            "Planchonella": ("native", "ex"), "Santalum": ("native", "pilosulum")}  # fmt: skip
sys.exit(0 if seen == EXPECTED else 1)
PYTHON
