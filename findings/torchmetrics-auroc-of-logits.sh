#!/bin/bash
# torchmetrics' BinaryAUROC (and average precision, ROC) passes scores outside 0 to 1 through a sigmoid first. In float32 it is
# 1 for everything above 17, so the largest logits of CLIP-like models (cosines of 0.2 to 0.35 times 100) become one
# value. The area under the ROC curve, which depends on the order alone, becomes 0.5; the same scores divided by 100 are right.
#
# Who is hurt: whoever measures by the largest logit whether a photograph shows a known species or something else. The
# score looks useless.
# What Linnaea does: asks scikit-learn, which takes scores as they are.
#
# Expected: the same area for scores in the same order. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torchmetrics==1.9.0" "torch==2.15.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.functional.classification import binary_auroc

torch.manual_seed(0)
known = torch.arange(2000) % 2
cosines = 0.26 + 0.03 * torch.randn(2000) + 0.05 * known  # of each photograph with the nearest label
pairs = cosines[known == 1][:, None] > cosines[known == 0][None]
expected = pairs.float().mean().item()
seen = {scale: binary_auroc(scale * cosines, known).item() for scale in (1, 100)}
print(f"torchmetrics {torchmetrics.__version__}")
print(f"expected: {expected:.3f} for cosines and for logits")
print(f"seen: {seen[1]:.3f} for cosines, {seen[100]:.3f} for the same times 100")
sys.exit(0 if abs(seen[1] - expected) < 0.001 and seen[100] < 0.6 else 1)
PYTHON
