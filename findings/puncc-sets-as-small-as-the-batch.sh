#!/bin/bash
# puncc's APS and RAPS bound the size of a prediction set by the number of photographs that are asked for together; the number of
# classes is meant. With 100 species, sets that hold the right one in nine of ten cases need 23 of them. In batches of
# 8 photographs no set has more than 8, in batches of 2 none more than 2, and the promise is broken. LAC is right, and one
# photograph alone is an error.
#
# Who is hurt: whoever calibrates and tests with large batches and then answers a few photographs at a time, as a server or a camera
# does: asked for 90%, the sets hold the right species in less than half of the cases.
# What Linnaea does: answers a photograph alone as among others (tests/predict/test_one_way.py).
#
# Expected: about 90% covered, whatever the batch. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "puncc==0.9.3" "numpy==1.26.4" "scikit-learn==1.9.1"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from deel.puncc.api.prediction import BasePredictor
from deel.puncc.classification import APS

generator = np.random.default_rng(0)


def draw(photographs: int) -> tuple[np.ndarray, np.ndarray]:
    species = generator.integers(0, 100, photographs)
    logits = generator.normal(size=(photographs, 100)) + 2 * np.eye(100)[species]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), species


class Probabilities:
    """A model whose input is its answer."""

    def predict(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities


wrapped = APS(BasePredictor(Probabilities(), is_trained=True), train=False)
calibration, right = draw(2000)
wrapped.fit(X_calib=calibration, y_calib=right)
probabilities, right = draw(400)
covered = {}
print("puncc", version("puncc"))
print("expected: about 90% covered in batches of 400, 8 and 2")
for size in (400, 8, 2):
    batches = [wrapped.predict(probabilities[n : n + size], alpha=0.1)[1] for n in range(0, 400, size)]
    sets = [list(answer) for batch in batches for answer in batch]
    covered[size] = np.mean([species in answer for species, answer in zip(right, sets)])
    print(f"seen: {covered[size]:.0%} covered in batches of {size}, by at most {max(map(len, sets))} species")
sys.exit(0 if covered[400] > 0.85 and covered[8] < 0.8 and covered[2] < 0.6 else 1)
PYTHON
