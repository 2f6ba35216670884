#!/bin/bash
# timm numbers the classes of a folder of photographs by natural order without regard to case, torchvision by code points:
# the same folders get other numbers as soon as names have numerals of different length or begin in different cases.
# timm also passes over .webp and .tif photographs, which torchvision reads.
#
# Who is hurt: whoever trains a head with one (timm's train script) and reads its answers with the other: every answer
# is a name, most of them another species' name, and nothing fails.
# What Linnaea does: a head's rows carry the taxa themselves; no class has only a number.
#
# Expected: the same numbers. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "timm==1.0.31" "torch==2.15.0" "torchvision==0.29.2" "pillow==13.0.0"
"$folder/venv/bin/python" - "$folder/photographs" <<'PYTHON'
import sys
from pathlib import Path

import timm
from PIL import Image
from timm.data import ImageDataset
from torchvision.datasets import ImageFolder

for name in ("Morpho sp. 2", "Morpho sp. 10", "Zygaena", "unknown"):
    (Path(sys.argv[1]) / name).mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(Path(sys.argv[1]) / name / "1.jpg")
Image.new("RGB", (16, 16)).save(Path(sys.argv[1]) / "Zygaena" / "2.webp")
of_timm, of_torchvision = ImageDataset(sys.argv[1]), ImageFolder(sys.argv[1])
print(f"timm {timm.__version__}")
print("expected: the same classes in the same order, 5 photographs in each")
print(f"seen: timm {list(of_timm.reader.class_to_idx)}, {len(of_timm)} photographs")
print(f"      torchvision {of_torchvision.classes}, {len(of_torchvision)} photographs")
differ = list(of_timm.reader.class_to_idx) != of_torchvision.classes
sys.exit(0 if differ and (len(of_timm), len(of_torchvision)) == (4, 5) else 1)
PYTHON
