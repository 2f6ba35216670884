#!/bin/bash
# MAPIE's TopLabelCalibrator puts a calibrated probability into the column of its class's place among the classes that were
# predicted in this call, not among all classes. One photograph alone always gets the first column; with many, all columns are
# right as soon as every class was predicted at least once, as in a test.
#
# Who is hurt: whoever reads the name from the column (classes_[nanargmax(row)]): species by species answers become the first one of
# the alphabet, with a probability of 0.9. predict() gives the right name.
# What Linnaea does: its calibration changes one number of each answer, whose taxon stays with it
# (src/linnaea/predict/calibrate.py).
#
# Expected: the same row for a photograph, alone or among others. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "mapie==1.6.0" "scikit-learn==1.9.1" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from mapie.calibration import TopLabelCalibrator
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(0)
species = np.array(["Apus apus", "Parus major", "Pica pica", "Sitta europaea"])
centres = 4 * rng.normal(size=(4, 2))
drawn = rng.integers(0, 4, 1000)
vectors, names = centres[drawn] + rng.normal(size=(1000, 2)), species[drawn]
model = LogisticRegression().fit(vectors[:500], names[:500])
calibrated = TopLabelCalibrator(model, cv="prefit").fit(vectors[500:], names[500:])
together = calibrated.predict_proba(centres)
alone = [calibrated.predict_proba(one[None])[0] for one in centres]
print("mapie", version("mapie"))
print("expected:", ", ".join(species[np.nanargmax(together, axis=1)]))
print("seen one by one:", ", ".join(species[np.nanargmax(row)] for row in alone))
right_together = (np.nanargmax(together, axis=1) == np.arange(4)).all()
sys.exit(0 if right_together and [int(np.nanargmax(row)) for row in alone] == [0, 0, 0, 0] else 1)
PYTHON
