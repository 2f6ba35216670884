#!/bin/bash
# HiClass trains and predicts paths, so that "vulgaris" of Sturnus and "vulgaris" of Octopus are two classes: Darwin Core's columns
# family, genus and specificEpithet serve as they are. Its measures compare sets of words without the path: of a starling that is
# called an octopus, the species is right. In the same way a genus that is a subgenus, too (Bombus), counts once, and predict_proba()
# has one column for both species called "vulgaris".
#
# Who is hurt: whoever reports hierarchical precision, recall or F1 of names in columns: epithets are shared by many genera
# (vulgaris, alba, officinalis), and a mistake between two such species counts as partly right, whatever their families.
# What Linnaea does: compares a rank with all ranks above it (src/linnaea/evaluate/hierarchy.py).
#
# Expected: precision 0.5 in both cases. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "hiclass==5.0.8" "scikit-learn==1.7.2" "numpy==2.3.5"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from hiclass import LocalClassifierPerNode
from hiclass.metrics import precision

starling, octopus = ["Sturnidae", "Sturnus", "vulgaris"], ["Octopodidae", "Octopus", "vulgaris"]
blackbird, cuttlefish = ["Turdidae", "Turdus", "merula"], ["Sepiidae", "Sepia", "officinalis"]
species = [starling, octopus, blackbird, cuttlefish]
vectors = np.repeat(np.eye(4), 5, axis=0)
model = LocalClassifierPerNode().fit(vectors, np.repeat(np.array(species, dtype=object), 5, axis=0))
named = [list(path) for path in model.predict(np.eye(4))]
columns = model.predict_proba(np.eye(4)).shape[1]
same, other = precision([starling, blackbird], [octopus, blackbird]), precision([starling, blackbird], [cuttlefish, blackbird])
print("hiclass", version("hiclass"))
print(f"{len(set(map(tuple, named)))} species are told apart by predict(), {columns} by predict_proba()")
print("expected: precision 0.50 with the starling called Octopus vulgaris, 0.50 with Sepia officinalis")
print(f"seen: {same:.2f} and {other:.2f}")
sys.exit(0 if named == species and round(same, 2) == 0.67 and round(other, 2) == 0.5 else 1)
PYTHON
