#!/bin/bash
# PytorchWildlife's classifiers on timm (DeepFaune, DFNE) give every photograph of a batch the list of confidences of the first one
# ("all_confidences"). Prediction and confidence are each photograph's own, so that the two contradict one another.
#
# Who is hurt: whoever uses more than the first answer: a second species, sums over a genus or family, limits per species, or
# calibration. From the second photograph on, all of it is about another photograph.
# What Linnaea does: probabilities and names stand in the same row of each answer (src/linnaea/predict/answers.py).
#
# The packages are made known without running their __init__, so that no demo server and no other detector is needed. No weights are
# needed either: the function that makes the answers is given logits. Expected: confidences that agree with the prediction. Exits with
# 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.15.0" "torchvision==0.29.2" "timm==1.0.31" "pandas==3.1.1" \
  "supervision==0.23.0" "opencv-python-headless==5.0.0.93" "pillow==13.0.0" "tqdm==4.70.1" "wget==3.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "pytorchwildlife==1.3.0"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

root = Path(importlib.util.find_spec("PytorchWildlife").submodule_search_locations[0])
for name in ("", ".data", ".models", ".models.classification", ".models.classification.timm_base"):
    package = ModuleType(f"PytorchWildlife{name}")
    package.__path__ = [str(root.joinpath(*name.split(".")))]
    sys.modules[package.__name__] = package
from PytorchWildlife.models.classification.timm_base.base_classifier import TIMM_BaseClassifierInference  # noqa: E402

model = SimpleNamespace(CLASS_NAMES={0: "badger", 1: "fox", 2: "lynx"})
logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
answers = TIMM_BaseClassifierInference.results_generation(model, logits, ["1.jpg", "2.jpg", "3.jpg"])
predicted = [answer["prediction"] for answer in answers]
listed = [max(answer["all_confidences"], key=lambda one: one[1])[0] for answer in answers]
print("pytorchwildlife", version("pytorchwildlife"))
print("expected: the largest of all_confidences is", ", ".join(predicted))
print("seen:", ", ".join(listed))
sys.exit(0 if predicted == ["badger", "fox", "lynx"] and listed == ["badger"] * 3 else 1)
PYTHON
