#!/bin/bash
# Hugging Face's `imagefolder` refuses a folder if a column of metadata.csv is empty in one split and filled in another:
# it guesses the columns' types file by file, an empty column becomes float64, and then the "features" differ.
#
# Who is hurt: everyone who publishes photographs with names or rights that not every record has (no genus in a split of
# fungi known to family only, no licence in one split): load_dataset fails for all splits, and the message does not say
# that the cells are empty.
# What Linnaea does: `data export --format parquet` states the types; `--format imagefolder` writes `none` into the empty
# cells of such a column (and `#` before numbers), so that both load.
#
# Expected: the data set, with a column of strings. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "datasets==5.2.0" "pillow==13.0.0"
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder/photos" <<'PYTHON'
import sys
from pathlib import Path

import datasets
from PIL import Image

root = Path(sys.argv[1])
for split, genus in (("train", ""), ("test", "Parus")):
    (root / split).mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (32, 32), (80 * number, 90, 60)).save(root / split / f"{number}.png")
    rows = [f"{number}.png,{genus}" for number in range(3)]
    (root / split / "metadata.csv").write_text("\n".join(["file_name,genus", *rows]) + "\n")
print("datasets", datasets.__version__)
print("expected: both splits, `genus` a column of strings")
try:
    found = datasets.load_dataset(str(root))
except ValueError as error:
    print("seen:", str(error).replace(str(root), "photos")[:160])
    sys.exit(0 if "different features" in str(error) else 1)
print("seen:", {name: split.features["genus"] for name, split in found.items()})
sys.exit(1)
PYTHON
