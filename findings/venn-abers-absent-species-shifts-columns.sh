#!/bin/bash
# venn-abers' VennAbersCalibrator leaves the column of a class out if no photograph of that class is in the calibration set, and moves the
# columns behind it: of four species, the probability of the third stands in the second column. The docstring promises the shape
# (n_samples, n_classes), and the probabilities that are given have all four columns. Nothing is said.
#
# Who is hurt: whoever calibrates a classifier of many species, of which most calibration sets lack a few: all species behind the first
# one that lacks are named as another, with calibrated confidence. A test with classes that all occur shows nothing.
# What Linnaea does: its calibration changes one number of each answer, whose taxon stays with it (src/linnaea/predict/calibrate.py).
#
# Expected: four columns, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "venn-abers==1.5.4" "pandas==2.3.3" "numpy==2.4.6" "scikit-learn==1.9.1"
"$folder/venv/bin/python" - 2>messages.txt <<'PYTHON' || { cat messages.txt; exit 1; }
import sys
from importlib.metadata import version

import numpy as np
from venn_abers import VennAbersCalibrator

species = np.array(["Apus apus", "Parus major", "Pica pica", "Turdus merula"])
random = np.random.default_rng(0)


def photographs(classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    labels = random.choice(classes, 400)
    scores = np.exp(random.normal(size=(400, 4)) + 2.5 * np.eye(4)[labels])
    return scores / scores.sum(axis=1, keepdims=True), labels


def answers_right(calibration_classes: list[int]) -> tuple[int, float]:
    given, labels = photographs(calibration_classes)
    calibrated = VennAbersCalibrator().predict_proba(p_cal=given, y_cal=labels, p_test=tested)
    return calibrated.shape[1], float((species[calibrated.argmax(axis=1)] == species[truth]).mean())


tested, truth = photographs([0, 2, 3])
before = float((tested.argmax(axis=1) == truth).mean())
whole, without_tits = answers_right([0, 1, 2, 3]), answers_right([0, 2, 3])
print("venn-abers", version("venn-abers"))
print(f"photographs of swifts, magpies and blackbirds, before calibration: {before:.2f} right")
print(f"calibrated with all four species: {whole[0]} columns, {whole[1]:.2f} right")
print(f"calibrated without tits: expected 4 columns and about as many right, seen {without_tits[0]} and {without_tits[1]:.2f}")
sys.exit(0 if whole[0] == 4 and whole[1] > 0.8 and without_tits[0] == 3 and without_tits[1] < 0.5 else 1)
PYTHON
