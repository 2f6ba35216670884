#!/bin/bash
# skl2onnx converts KNeighborsClassifier and KNeighborsRegressor with weights="distance" so that all neighbours weigh alike. If the
# classes lie apart, all answers agree, as in a test; where neighbours disagree, the answer is the majority's and not the nearest one's.
# Of the training photographs, whose nearest neighbour is themselves, nearly half get another species.
#
# Who is hurt: whoever names photographs by their nearest neighbours, and runs it with ONNX Runtime.
# What Linnaea does: exports the tower only; heads are arrays, the same for each runtime (src/linnaea/model/onnx_export.py).
#
# Expected: the same answers, and the same probabilities within 0.001. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "skl2onnx==1.20.0" "onnx==1.23.2" "onnxruntime==1.32.0" "scikit-learn==1.9.1" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.neighbors import KNeighborsClassifier

rng = np.random.default_rng(0)
centres = rng.normal(size=(20, 32))
species = rng.integers(0, 20, 1000)
vectors = (centres[species] + 2.5 * rng.normal(size=(1000, 32))).astype(np.float32)
agree, off, trained = {}, {}, {}
for weights in ("uniform", "distance"):
    model = KNeighborsClassifier(5, weights=weights).fit(vectors[:800], species[:800])
    converted = to_onnx(model, vectors[:1], options={id(model): {"zipmap": False}})
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    names, probabilities = session.run(None, {"X": vectors[800:]})
    agree[weights] = (names == model.predict(vectors[800:])).mean()
    off[weights] = np.abs(probabilities - model.predict_proba(vectors[800:])).max()
    trained[weights] = (session.run(None, {"X": vectors[:200]})[0] == model.predict(vectors[:200])).mean()
print("skl2onnx", version("skl2onnx"), "scikit-learn", version("scikit-learn"))
print("expected: all answers agree")
for weights in agree:
    print(f"seen, {weights}: {agree[weights]:.0%} agree, {trained[weights]:.0%} of the training photographs; probabilities differ by {off[weights]:.3f}")
sys.exit(0 if agree["uniform"] == 1 and off["uniform"] < 0.001 and agree["distance"] < 0.95 and trained["distance"] < 0.9 else 1)
PYTHON
