#!/bin/bash
# wildlife-datasets' resplit_by_features() keeps similar photographs on one side of a split. It leaves out the individuals "unknown"
# first, and then takes the vectors by place in the shorter table: behind the first unknown individual, every photograph is
# compared by another one's vector. The documentation asks for vectors "with the same length as df", unknown ones included.
#
# Who is hurt: whoever measures how well individuals are recognised: bursts of nearly equal photographs lie in training and test, which
# this function is there to prevent, and the figures are too good.
# What Linnaea does: groups (bursts, copies, places) are never divided between splits (src/linnaea/data/splits.py).
#
# The package is made known without running its __init__, so that Kaggle's client and the like are not needed.
# Expected: no burst on both sides, with unknown individuals or without. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==3.1.1" "numpy==2.4.6" "scikit-learn==1.9.1" \
  "matplotlib==3.11.2" "tqdm==4.70.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "wildlife-datasets==1.0.9"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
import pandas as pd

package = ModuleType("wildlife_datasets")
package.__path__ = importlib.util.find_spec("wildlife_datasets").submodule_search_locations
sys.modules["wildlife_datasets"] = package
from wildlife_datasets.splits import ClosedSetSplit  # noqa: E402

rng = np.random.default_rng(0)
bursts = [(name, burst) for name in ("Ada", "Bo", "Cy") for burst in range(10)]
known = pd.DataFrame([(f"{name}-{burst}-{shot}", name, burst) for name, burst in bursts for shot in range(3)],
                     columns=["image_id", "identity", "burst"])
vectors = np.repeat(rng.normal(size=(30, 64)), 3, axis=0) + 1e-4 * rng.normal(size=(90, 64))
unknown = pd.DataFrame([(f"unknown-{n}", "unknown", 100 + n) for n in range(7)], columns=known.columns)


def divided(table: pd.DataFrame, features: np.ndarray) -> int:
    split = ClosedSetSplit(0.6)
    train, _ = split.split(table)[0]
    train, test = split.resplit_by_features(table, features, train)
    sides = [set(table.loc[side, ["identity", "burst"]].itertuples(index=False, name=None)) for side in (train, test)]
    return len(sides[0] & sides[1])


without = divided(known, vectors)
behind = divided(pd.concat([unknown, known], ignore_index=True), np.concatenate([rng.normal(size=(7, 64)), vectors]))
print("wildlife-datasets", version("wildlife-datasets"))
print("expected of 30 bursts: 0 in training and test, without unknown individuals and with them")
print(f"seen: {without} without, {behind} with 7 photographs of unknown individuals first")
sys.exit(0 if without == 0 and behind > 0 else 1)
PYTHON
