#!/bin/bash
# skl2onnx converts a CalibratedClassifierCV with method="isotonic", but not its curve: scikit-learn goes along straight lines between
# the points that were fitted, the converted model takes the value of the nearest point. The fewer the photographs, the farther apart
# the points: with 200 of five species, single probabilities are off by nearly a half. Sigmoid calibration is converted rightly.
#
# Who is hurt: whoever calibrates a head, checks it, and runs it with ONNX Runtime: the probabilities, and what is kept above a threshold,
# are no longer those that were checked.
# What Linnaea does: calibrates outside of the model, with one rule for every runtime (src/linnaea/predict/calibration.py).
#
# Expected: the same probabilities, within 0.001. Exits with 1 if the behaviour changes.
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
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(0)
centres = rng.normal(size=(5, 16))
species = rng.integers(0, 5, 1200)
vectors = (centres[species] + 0.8 * rng.normal(size=(1200, 16))).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
off = {}
for method in ("sigmoid", "isotonic"):
    model = CalibratedClassifierCV(LogisticRegression(), method=method).fit(vectors[:200], species[:200])
    converted = to_onnx(model, vectors[:1], options={id(model): {"zipmap": False}})
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    off[method] = np.abs(session.run(None, {"X": vectors[200:]})[1] - model.predict_proba(vectors[200:])).max(axis=1)
print("skl2onnx", version("skl2onnx"), "scikit-learn", version("scikit-learn"))
print("expected: differences below 0.001")
for method, each in off.items():
    print(f"seen, {method}: at most {each.max():.4f}, above 0.1 for {(each > 0.1).mean():.0%} of photographs")
sys.exit(0 if off["sigmoid"].max() < 0.001 and off["isotonic"].max() > 0.1 else 1)
PYTHON
