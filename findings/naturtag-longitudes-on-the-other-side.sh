#!/bin/bash
# naturtag writes E for west and W for east into a photograph's EXIF: an observation of Berlin (13.4 degrees east) becomes 13.4 west, and one
# of California 122 east. It reads them the same way, so that its own round trip shows nothing, and the position of a camera with GPS
# comes out on the other side. The XMP that it writes into the same photograph is right, and is read as wrongly.
#
# Who is hurt: whoever tags photographs with their observations on iNaturalist, which is what naturtag is for: the position that the camera
# wrote is replaced as well. Whatever reads EXIF later (maps, iNaturalist's upload, data sets) puts Berlin into the Atlantic.
# What Linnaea does: reads the words for east and west (src/linnaea/data/exif.py), and writes nothing into photographs.
#
# naturtag asks for Python 3.13 and a window system; what is used here needs neither, so that its database and its thumbnails are left out.
# Expected: E, and 13.4. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pyinaturalist==0.21.1" "pyinaturalist-convert==0.9.1" \
    "pyexiv2==2.16.0" "pillow==13.0.0" "click" "packaging"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --ignore-requires-python "naturtag==0.9.2"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from types import ModuleType

import pyexiv2
from PIL import Image
from pyinaturalist import Observation, Taxon

for left_out, names in {"storage": ("Settings", "iNatDbClient"), "utils.thumbnails": ("generate_thumbnail",)}.items():
    module = ModuleType(f"naturtag.{left_out}")
    vars(module).update(dict.fromkeys(names, object))
    sys.modules[module.__name__] = module
from naturtag.metadata import DerivedMetadata  # noqa: E402

BERLIN = {"LatitudeRef": "N", "Latitude": "52/1 30/1 0/1", "LongitudeRef": "E", "Longitude": "13/1 24/1 0/1"}
Image.new("RGB", (64, 48)).save("photo.jpg")
with pyexiv2.Image("photo.jpg") as file:
    file.modify_exif({f"Exif.GPSInfo.GPS{key}": value for key, value in BERLIN.items()})
photo = DerivedMetadata("photo.jpg")
read = photo.coordinates
tit = Observation(id=1, location=(52.5, 13.4), positional_accuracy=5, taxon=Taxon(id=2, name="Parus major", rank="species"))
photo.merge(DerivedMetadata().from_observation(tit)).write(write_sidecar=False)
with pyexiv2.Image("photo.jpg") as file:
    written = file.read_exif()["Exif.GPSInfo.GPSLongitudeRef"]
print("naturtag", version("naturtag"))
print("expected: a camera's position is read as (52.5, 13.4), and 13.4 degrees east are written as E")
print(f"seen: it is read as {read}, and 13.4 degrees east are written as {written}")
sys.exit(0 if read == (52.5, -13.4) and written == "W" else 1)
PYTHON
