#!/bin/bash
# datumaro's transform "split" for classification keeps "the initial class distribution", and splits photographs without a label, or
# with several, "randomly". It numbers the photographs that have one label by their place among those, and then takes the numbers for
# places among all: with 20 empty photographs at the front, the first 20 are split as if they were foxes, foxes as deer, deer as wolves,
# and the wolves at the end get no subset at all ("default"). Nothing is said. The split for re-identification counts likewise.
#
# Who is hurt: whoever splits photographs of camera traps, of which many are empty: a species may be in no subset, or mostly in one, and
# with task "reid" an individual of the test set is in training, which is what that split is there to prevent.
# What Linnaea does: draws the split from each photograph's own identifier, not from its place (src/linnaea/data/splits.py).
#
# Expected: 10 foxes, 10 deer and 10 wolves in train, and no photograph in "default". Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "datumaro==1.13.12"
"$folder/venv/bin/python" -W ignore - 2> "$folder/log.txt" <<'PYTHON' || { cat "$folder/log.txt"; exit 1; }
import sys
from collections import Counter
from importlib.metadata import version

from datumaro import Dataset, DatasetItem, Label

species = ["fox", "deer", "wolf"]
photographs = [DatasetItem(id=f"empty_{number}", annotations=[]) for number in range(20)]
photographs += [DatasetItem(id=f"{name}_{n}", annotations=[Label(species.index(name))]) for name in species for n in range(20)]
dataset = Dataset.from_iterable(photographs, categories=species)
dataset.transform("split", task="classification", splits=[("train", 0.5), ("val", 0.2), ("test", 0.3)], seed=1)
seen = Counter((item.id.split("_")[0], item.subset) for item in dataset)
print("datumaro", version("datumaro"))
print("expected: each species 10 train, 4 val, 6 test")
for name in (*species, "empty"):
    print(f"seen: {name}", ", ".join(f"{seen[name, subset]} {subset}" for subset in ("train", "val", "test", "default")))
sys.exit(0 if seen["wolf", "default"] == 20 else 1)
PYTHON
