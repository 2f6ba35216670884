#!/bin/bash
# MegaDetector's smoothing of classifications takes names of a genus or family down to a species of it that is seen on the same photograph
# (or in the same sequence). Whether a species belongs to a genus is asked by whether the genus's lineage stands in the
# species's, letter by letter: "...;bovidae;bos" stands in "...;bovidae;boselaphus;tragocamelus". Cattle that are known as Bos become nilgai if
# there is one nilgai, and buzzards known as Buteo become a black hawk, Buteogallus anthracinus. It is on by default; "taxonomic
# smoothing: changed 5 detections" is printed, as when all is well.
#
# Who is hurt: whoever counts livestock and wildlife of one photograph, in India above all, or hawks in America: the surer the
# classifier was of the genus alone, the more of it is given to another genus.
# What Linnaea does: asks the taxonomy for a taxon's parents (src/linnaea/taxonomy/).
#
# Expected: each keeps its name, since none is a parent of another. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps megadetector-utils==10.0.28 numpy==2.2.6 pillow==12.0.0 tqdm==4.67.1 \
  requests==2.32.5 urllib3==2.5.0 idna==3.11 certifi==2025.10.5 charset-normalizer==3.4.4 matplotlib==3.10.7 \
  contourpy==1.3.3 cycler==0.12.1 fonttools==4.60.1 kiwisolver==1.4.9 packaging==25.0 pyparsing==3.2.5 \
  python-dateutil==2.9.0.post0 six==1.17.0 jsonpickle==4.1.1 humanfriendly==10.0 opencv-python-headless==4.12.0.88 \
  pandas==2.3.3 pytz==2025.2 tzdata==2025.2 pytest==8.4.2 pluggy==1.6.0 iniconfig==2.1.0 pygments==2.19.2
"$folder/venv/bin/python" -W ignore - 2> "$folder/log.txt" <<'PYTHON' || { cat "$folder/log.txt"; exit 1; }
import contextlib
import io
import sys
from importlib.metadata import version

from megadetector.postprocessing.classification_postprocessing import smooth_classification_results_image_level

descriptions = {  # SpeciesNet's: an identifier, class, order, family, genus, epithet, English name
    "0": "a;mammalia;cetartiodactyla;bovidae;bos;;bos species",
    "1": "b;mammalia;cetartiodactyla;bovidae;boselaphus;tragocamelus;nilgai",
    "2": "c;aves;accipitriformes;accipitridae;buteo;;buteo species",
    "3": "d;aves;accipitriformes;accipitridae;buteogallus;anthracinus;common black hawk",
}
names = {number: text.split(";")[-1] for number, text in descriptions.items()}
photographs = {"pasture.jpg": "0001", "creek.jpg": "223"}
results = {
    "info": {"format_version": "1.4"},
    "detection_categories": {"1": "animal"},
    "classification_categories": names,
    "classification_category_descriptions": descriptions,
    "images": [
        {
            "file": file,
            "detections": [
                {"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.2, 0.2], "classifications": [[number, 0.95]]} for number in animals
            ],
        }
        for file, animals in photographs.items()
    ],
}
with contextlib.redirect_stdout(io.StringIO()):
    smoothed = smooth_classification_results_image_level(results)
seen = {
    image["file"]: "".join(detection["classifications"][0][0] for detection in image["detections"]) for image in smoothed["images"]
}
print("megadetector-utils", version("megadetector-utils"))
for file, animals in photographs.items():
    print(f"{file}: expected {', '.join(names[number] for number in animals)}")
    print(f"{' ' * len(file)}  seen {', '.join(names[number] for number in seen[file])}")
sys.exit(0 if seen == {"pasture.jpg": "1111", "creek.jpg": "333"} else 1)
PYTHON
