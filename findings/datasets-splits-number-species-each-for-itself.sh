#!/bin/bash
# DatasetDict.class_encode_column() of Hugging Face's datasets, which "casts the given column as ClassLabel", numbers the words of
# each split for itself: a species that a split lacks moves the numbers of those behind it. Of four species of which the test set has two,
# the fox is 2 in training and 0 in the test. Each split has its own list of names, and nothing is said.
#
# Who is hurt: whoever trains on the numbers of one split and scores on those of another, as trainers do: most rare species
# have no photograph in the test set, so a good model is right nearly never. The fewer species lack, the harder it is to notice.
# What Linnaea does: names a data set's classes once, for all its splits (src/linnaea/data/export_parts.py).
#
# Expected: one list of names and one number for each species. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "datasets==5.2.0"
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - <<'PYTHON'
import sys

import datasets

datasets.disable_progress_bars()
photographs = datasets.DatasetDict(
    train=datasets.Dataset.from_dict({"species": ["badger", "deer", "fox", "wolf"]}),
    test=datasets.Dataset.from_dict({"species": ["fox", "wolf"]}),
)
numbers = {
    split: dict(zip(photographs[split]["species"], encoded["species"]))
    for split, encoded in photographs.class_encode_column("species").items()
}
print("datasets", datasets.__version__)
print("expected: fox 2 and wolf 3 in both splits")
print("seen: train", numbers["train"])
print("      test ", numbers["test"])
right = {"badger": 0, "deer": 1, "fox": 2, "wolf": 3}
sys.exit(0 if numbers["train"] == right and numbers["test"] == {"fox": 0, "wolf": 1} else 1)
PYTHON
