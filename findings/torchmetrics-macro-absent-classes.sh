#!/bin/bash
# torchmetrics' MulticlassAccuracy, whose default is the mean over classes, counts a class without a single example as 0 as
# soon as it is answered once, with top_k=1, and leaves it out with top_k=5. The smaller the part of the
# label list that the test set covers (a region, a season), the lower the score. Classes never answered are left out both times.
#
# Who is hurt: whoever scores a classifier of many species on photographs of few: here top 1 is a fifth of the mean over the
# species that there are, top 5 is right, and the two seem to tell of a model that ranks badly.
# What Linnaea does: the mean over the classes that have photographs (mean_of_classes in
# src/linnaea/evaluate/intervals.py), for every k.
#
# Expected: the mean over the 10 species of the share of their photographs. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torchmetrics==1.9.0" "torch==2.15.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.classification import MulticlassAccuracy

torch.manual_seed(0)
n_labels, n_species, n = 50, 10, 500
species = torch.arange(n) % n_species
scores = torch.randn(n, n_labels)
scores[torch.arange(n), species] += 2.5
print(f"torchmetrics {torchmetrics.__version__}: {n} photographs of {n_species} species, {n_labels} labels")
wrong = {}
for k in (1, 5):
    right = (scores.topk(k).indices == species[:, None]).any(dim=1).float()
    expected = torch.stack([right[species == one].mean() for one in range(n_species)]).mean().item()
    seen = MulticlassAccuracy(num_classes=n_labels, top_k=k)(scores, species).item()
    wrong[k] = abs(seen - expected) > 0.01
    print(f"top {k}: expected {expected:.3f}, seen {seen:.3f}")
sys.exit(0 if wrong == {1: True, 5: False} else 1)
PYTHON
