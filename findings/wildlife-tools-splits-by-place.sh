#!/bin/bash
# wildlife-tools' SplitWildlife takes rows by place (iloc), and the splits of wildlife-datasets, which it is made for, name rows by label:
# "obtained by df.loc (not iloc)". The two agree while the table has the index 0, 1, 2 ... in order; sorted by date, shuffled, or
# put together from two tables, other rows are taken, without a message.
#
# Who is hurt: whoever trains on individuals or species that should not be in the test set: a split that keeps them apart has all of them
# on both sides, and the figures are those of animals that the model has seen.
# What Linnaea does: a split is a column of the table (src/linnaea/data/splits.py), which moves with the row.
#
# The packages are made known without running their __init__, so that PyTorch is not needed. Versions: the newest that pip finds.
# Expected: no individual on both sides. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==3.1.1" "numpy==2.4.6" "scikit-learn==1.9.1" \
  "matplotlib==3.11.2" "tqdm==4.70.1" "pyyaml"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "wildlife-tools==0.0.9" "wildlife-datasets==1.0.9"
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.util
import sys
from importlib.metadata import version
from types import ModuleType

import numpy as np
import pandas as pd

for name in ("wildlife_datasets", "wildlife_tools", "wildlife_tools.data"):
    package = ModuleType(name)
    package.__path__ = importlib.util.find_spec(name).submodule_search_locations
    sys.modules[name] = package
tools = ModuleType("wildlife_tools.tools")  # builds objects from configurations, which is not used here
tools.realize = None
sys.modules["wildlife_tools.tools"] = tools
from wildlife_datasets.splits import DisjointSetSplit  # noqa: E402
from wildlife_tools.data.split import SplitWildlife  # noqa: E402

rng = np.random.default_rng(0)
days = pd.to_datetime("2024-01-01") + pd.to_timedelta(rng.permutation(200), unit="D")
table = pd.DataFrame({"image_id": range(200), "identity": rng.choice(list("ABCDEFGH"), 200), "date": days})


def on_both_sides(rows: pd.DataFrame) -> list[str]:
    splitter = DisjointSetSplit(n_class_test=3)
    train, test = (SplitWildlife(splitter, side)(rows) for side in ("train", "test"))
    return sorted({*train["identity"]} & {*test["identity"]})


as_made, by_date = on_both_sides(table), on_both_sides(table.sort_values("date"))
print("wildlife-tools", version("wildlife-tools"), "wildlife-datasets", version("wildlife-datasets"))
print("expected on both sides of a disjoint split: nobody")
print(f"seen: {as_made}, and {by_date} when the table is sorted by date")
sys.exit(0 if as_made == [] and by_date == list("ABCDEFGH") else 1)
PYTHON
