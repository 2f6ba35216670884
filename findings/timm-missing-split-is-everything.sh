#!/bin/bash
# timm's create_dataset() looks for a folder of the split that is asked for, and where there is none takes the whole folder, the training
# photographs as well. It looks for val, valid, validation, eval and evaluation if one of them is asked for, but not for "test": with
# train/ and test/, the split "validation", which train.py and validate.py ask for by default, is all of both. Classes are named by the
# last folder, so that nothing in them tells. A split that is mistyped is everything as well. Nothing is said.
#
# Who is hurt: whoever keeps photographs in train/ and test/, and scores or chooses the best epoch on "validation": most of what is
# scored was trained on, and the score rises with it.
# What Linnaea does: a split is a column of its tables, not a folder that may be missing (src/linnaea/data/splits.py).
#
# Expected: an error, or the photographs of test/. Exits with 1 if the behaviour changes.
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
from timm.data import create_dataset

root = Path(sys.argv[1])
for split, n in (("train", 8), ("test", 2)):
    for species in ("deer", "fox"):
        (root / split / species).mkdir(parents=True)
        for number in range(n):
            Image.new("RGB", (16, 16)).save(root / split / species / f"{number}.jpg")
n, trained = {}, {}
for split in ("train", "test", "validation", "tset"):
    photographs = create_dataset("", root=str(root), split=split)
    n[split] = len(photographs)
    trained[split] = sum("/train/" in name for name in photographs.filenames(absolute=True))
print("timm", timm.__version__)
print("expected: train 16, test 4, validation and tset an error")
print("seen:", ", ".join(f"{split} {n[split]} ({trained[split]} of train)" for split in n))
sys.exit(0 if n == {"train": 16, "test": 4, "validation": 20, "tset": 20} and trained["validation"] == trained["tset"] == 16 else 1)
PYTHON
