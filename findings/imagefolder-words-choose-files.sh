#!/bin/bash
# Hugging Face's `imagefolder` looks for words of splits (train, val, dev, test, eval ...) in names. If one folder is called
# `test` or `train`, or else one photograph has such a word in its name, whatever has none is left out, without a message: one
# `creek_test_2.jpg` among class folders is the whole data set, and `unseen/` beside `train/` and `test/` is not there.
#
# Who is hurt: whoever loads folders of camera traps (`IMG_0012 test.jpg` is enough), or publishes held-out species as a split of
# their own.
# What Linnaea does: `data build` takes no split from the name of a photograph, and all folders; the cards of `data export`
# name the files of every split, which `datasets` follows.
#
# Expected: all photographs. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "datasets==5.2.0" "pillow==13.0.0"
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
classes = ("Parus major", "Pica pica")
numbered = [f"{name}/{number}.jpg" for name in classes for number in range(10)]
cases = {
    "classes": [*numbered, "Pica pica/creek_2.jpg"],
    "one-word": [*numbered, "Pica pica/creek_test_2.jpg"],
    "splits": [f"{split}/{path}" for split in ("train", "test", "unseen") for path in numbered],
}
print("datasets", datasets.__version__)
seen = {}
for case, paths in cases.items():
    root = Path(sys.argv[1]) / "photos" / case
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (80, 90, 60)).save(root / path)
    found = datasets.load_dataset("imagefolder", data_dir=str(root))
    seen[case] = {str(split): len(rows) for split, rows in found.items()}
    print(f"{case}: expected {len(paths)} photographs, seen {seen[case]}")
sys.exit(0 if seen == {"classes": {"train": 21}, "one-word": {"test": 1}, "splits": {"train": 20, "test": 20}} else 1)
PYTHON
