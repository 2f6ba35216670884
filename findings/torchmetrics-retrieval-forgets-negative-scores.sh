#!/bin/bash
# torchmetrics' RetrievalMAP takes whatever has a score of 0 or less for not relevant, whatever the target says. The order of the scores
# decides a mean average precision, but the same order moved down by 0.65 gives 1.0 for 0.633: two of the three photographs of the
# individual, ranked last, are forgotten. With all scores below 0 it is 0. RetrievalMRR and RetrievalPrecision do likewise;
# RetrievalNormalizedDCG and RetrievalRPrecision are right. The classes' documentation asks for "a float tensor", their checks for "scores/logits".
#
# Who is hurt: whoever measures how well individuals or species are found among photographs: cosines below 0 are those of the photographs
# that were missed, so that the worst misses raise the score; distances with a minus sign give 0, logits anything between.
# What Linnaea does: measures by the order alone (src/linnaea/evaluate/retrieval.py).
#
# Expected: the same figures for the same order. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torchmetrics==1.9.0" "torch==2.15.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR, RetrievalPrecision

scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
same_individual = torch.tensor([True, False, False, False, True, True])
query = torch.zeros(6, dtype=torch.long)
print("torchmetrics", torchmetrics.__version__)
print("expected, each time: precision 0.633 (mean average), rank 1.0 (reciprocal), 0.5 of the first two")
seen = []
for moved in (0.0, 0.65, 2.0):
    metrics = RetrievalMAP(), RetrievalMRR(), RetrievalPrecision(top_k=2)
    seen.append([round(metric(scores - moved, same_individual, indexes=query).item(), 3) for metric in metrics])
    print(f"seen, scores from {scores[-1] - moved:.2f} to {scores[0] - moved:.2f}:", *seen[-1])
sys.exit(0 if seen == [[0.633, 1.0, 0.5], [1.0, 1.0, 0.5], [0.0, 0.0, 0.0]] else 1)
PYTHON
