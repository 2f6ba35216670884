#!/bin/bash
# naturtag's tag_images() and its command `tag` replace the keywords of a photograph (dc:subject of its XMP) by
# iNaturalist's: whatever the photographer had noted there is gone, from the file itself. Its own word is "tag"; merge(), which does it, is
# described as "Update metadata from another instance", and other fields are kept.
#
# Who is hurt: whoever keeps the numbers of vouchers, places, people or rights as keywords, with Lightroom or digiKam, and tags the
# photographs with their observation later. No copy of the file is kept.
# What Linnaea does: writes nothing into photographs; what it found out stands in tables beside them (src/linnaea/predict/outputs).
#
# naturtag asks for Python 3.13 and a window system; what is used here needs neither, so that its database and its thumbnails are left out.
# Expected: both keywords are still there. Exits with 1 if the behaviour changes.
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
from naturtag.metadata import tagger  # noqa: E402

OWN = ["voucher B 10 0123456", "Botanical Garden"]
Image.new("RGB", (64, 48)).save("photo.jpg")
with pyexiv2.Image("photo.jpg") as file:
    file.modify_xmp({"Xmp.dc.subject": OWN, "Xmp.dc.creator": ["A. Vogel"]})


class Client:
    """Answers for iNaturalist."""

    def from_id(self, *_: object) -> Observation:
        return Observation(id=1, location=(52.5, 13.4), taxon=Taxon(id=2, name="Parus major", rank="species"))


class Settings:
    common_names = hierarchical = sidecar = False
    exif = iptc = xmp = True


list(tagger.tag_images(["photo.jpg"], observation_id=1, client=Client(), settings=Settings()))
with pyexiv2.Image("photo.jpg") as file:
    after = file.read_xmp()
print("naturtag", version("naturtag"))
print(f"expected among the keywords: {OWN}")
print(f"seen: {after['Xmp.dc.subject']}; the creator is still {after.get('Xmp.dc.creator')}")
sys.exit(0 if not set(OWN) & set(after["Xmp.dc.subject"]) and len(after["Xmp.dc.subject"]) > 2 else 1)
PYTHON
