#!/bin/bash
# torchmetrics' MetricCollection looks after the first batch which metrics have the same state, and from then on updates only one of
# those. Two metrics that count otherwise may agree on one batch by chance: if all photographs of the first batch are right at
# top 1, MulticlassAccuracy(top_k=5) is tied to top_k=1, and gives its value for all that follows. The documentation says that metrics "share
# the same metric state and are therefore only different in their compute step"; these two differ in their update. Nothing is said.
#
# Who is hurt: whoever measures top 1 and top 5 together (or two other settings of one metric): an easy first batch, of one
# well-known species or of few photographs, makes top 5 look like top 1. With average="micro" the counts differ, and all is right. Others'
# metrics were reported to be hit (issues 2596 and 2916 of its repository); compute_groups=False helps.
# What Linnaea does: counts each of its measures by itself (src/linnaea/evaluate/).
#
# Expected: top 5 as without a collection. Exits with 1 if the behaviour changes.
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
n_species = 20
easy = torch.arange(4)
batches = [(torch.nn.functional.one_hot(easy, n_species) * 5.0 + torch.rand(4, n_species), easy)]
for _ in range(10):
    species = torch.randint(n_species, (32,))
    batches.append((torch.rand(32, n_species) + 0.6 * torch.nn.functional.one_hot(species, n_species), species))
measures = {f"top {k}": lambda k=k: MulticlassAccuracy(num_classes=n_species, top_k=k) for k in (1, 5)}
together = torchmetrics.MetricCollection({name: make() for name, make in measures.items()})
alone = {name: make() for name, make in measures.items()}
for scores, species in batches:
    together.update(scores, species)
    for metric in alone.values():
        metric.update(scores, species)
expected = {name: round(metric.compute().item(), 3) for name, metric in alone.items()}
seen = {name: round(value.item(), 3) for name, value in together.compute().items()}
print("torchmetrics", torchmetrics.__version__)
print("expected:", expected)
print("seen:", seen)
sys.exit(0 if seen["top 5"] == seen["top 1"] == expected["top 1"] < expected["top 5"] else 1)
PYTHON
