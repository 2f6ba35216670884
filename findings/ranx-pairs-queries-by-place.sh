#!/bin/bash
# ranx's evaluate() takes relevant photographs and results as dictionaries by query. It checks that both have the same queries, and then
# pairs them by their place in the dictionaries: if the second has them in another order, each query is scored against another one's
# relevant photographs. Its own Qrels and Run are sorted, and right; a Qrels with a dictionary is not. Nothing is said.
#
# Who is hurt: whoever evaluates a search whose queries came back in another order, as from threads or a database: a perfect search scores 0.
# What Linnaea does: a query and its answers are rows of one matrix (src/linnaea/evaluate/retrieval.py).
#
# Expected: the same scores in both orders. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ranx==0.3.21" "numba==0.68.1" "numpy==2.4.6"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from ranx import Qrels, Run, evaluate

relevant = {"fox": {"fox_1.jpg": 1}, "hare": {"hare_1.jpg": 1}, "owl": {"owl_1.jpg": 1}}
found = {
    "fox": {"fox_1.jpg": 0.9, "hare_1.jpg": 0.2},
    "hare": {"hare_1.jpg": 0.8, "owl_1.jpg": 0.3},
    "owl": {"owl_1.jpg": 0.7, "fox_1.jpg": 0.1},
}
other_order = dict(reversed(found.items()))
assert found == other_order
seen = {
    "same order": evaluate(relevant, found, "hit_rate@1"),
    "other order": evaluate(relevant, other_order, "hit_rate@1"),
    "other order, Qrels and dict": evaluate(Qrels(relevant), other_order, "hit_rate@1"),
    "other order, Qrels and Run": evaluate(Qrels(relevant), Run(other_order), "hit_rate@1"),
}
print("ranx", version("ranx"))
print("expected: 1.00 in each case")
print("seen:", ", ".join(f"{case} {score:.2f}" for case, score in seen.items()))
sys.exit(0 if seen["same order"] == 1 == seen["other order, Qrels and Run"] and seen["other order"] < 0.5 else 1)
PYTHON
