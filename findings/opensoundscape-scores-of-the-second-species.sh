#!/bin/bash
# opensoundscape's single_target_metrics() gives precision, recall and F1 of the second class as those of all classes: it takes the item 1
# of each list, which is the positive class where there are two. Its other figures are means over the classes, and its
# docstring promises "various overall and per-class metrics".
#
# Who is hurt: whoever scores a classifier of many species on spectrograms: the figure tells of one species, the second one of the
# list, and all others may be right or wrong. Another order of the columns gives another figure.
# What Linnaea does: the mean over the classes that have photographs (mean_of_classes in src/linnaea/evaluate/intervals.py).
#
# The few names that the module takes from PyTorch are made here, so that it is not needed. Expected: a mean over three species, in
# whatever order. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "numpy==2.4.6" "pandas==3.1.1" "scikit-learn==1.9.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "opensoundscape==0.13.2"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import types
from importlib.metadata import distribution

import numpy as np


class Tensor(np.ndarray):
    """An array with what the module asks of a tensor."""

    def __new__(cls, values: object) -> "Tensor":
        return np.asarray(values).view(cls)

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


torch, functional = types.ModuleType("torch"), types.SimpleNamespace()
functional.one_hot = lambda classes, n: Tensor(np.eye(n, dtype=int)[classes])
torch.Tensor, torch.nn = Tensor, types.SimpleNamespace(functional=functional)
package = types.ModuleType("opensoundscape")
package.__path__ = [str(distribution("opensoundscape").locate_file("opensoundscape"))]
sys.modules.update(torch=torch, opensoundscape=package)
from opensoundscape.metrics import single_target_metrics  # noqa: E402

species = np.repeat([0, 1, 2], [50, 5, 45])  # wrens, wrynecks, tits
answers = np.where(species == 1, 0, species)  # all right, but no wryneck is named
targets, scores = np.eye(3, dtype=int)[species], np.eye(3)[answers]
recall = [single_target_metrics(targets[:, order], scores[:, order])["recall"] for order in ([0, 1, 2], [1, 0, 2])]
print("opensoundscape", distribution("opensoundscape").version)
print("expected: recall 0.67 (1, 0 and 1), in both orders of the species")
print(f"seen: {recall[0]:.2f}, and {recall[1]:.2f} in the other order")
sys.exit(0 if recall == [0, 1] else 1)
PYTHON
