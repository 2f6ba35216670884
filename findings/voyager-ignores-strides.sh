#!/bin/bash
# Voyager reads a matrix of vectors as if its rows lay one after another, whatever the strides say: the first 256 numbers of
# wider vectors (`vectors[:, :256]`, as with Matryoshka towers), every second row, or a transposed matrix are taken for other
# vectors, by add_items and by query. One vector at a time is read rightly, and faiss and hnswlib read such matrices rightly.
#
# Who is hurt: whoever searches photographs by shortened vectors. The index is built and answers, and nearly each answer is
# another photograph.
# What Linnaea does: searches with faiss, which makes a copy (src/linnaea/predict/approximate.py), and compares the
# candidates exactly.
#
# Expected: each vector finds itself. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "voyager==2.2.3" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import voyager

wide = np.random.default_rng(0).normal(size=(1000, 512)).astype(np.float32)
short = wide[:, :256]


def found(stored: np.ndarray, asked: np.ndarray) -> int:
    index = voyager.Index(voyager.Space.Cosine, num_dimensions=256)
    index.add_items(stored)
    nearest, _ = index.query(asked, k=1)
    return int((nearest[:, 0] == np.arange(1000)).sum())


copy = np.ascontiguousarray(short)
assert (copy == short).all()
seen = {"copies": found(copy, copy), "add_items": found(short, copy), "query": found(copy, short)}
print("voyager", version("voyager"), "numpy", np.__version__)
print("expected: nearly all of 1000 vectors find themselves")
print(f"seen: {seen['copies']} with copies; {seen['add_items']} if add_items gets vectors[:, :256], "
      f"{seen['query']} if query does")
sys.exit(0 if seen["copies"] > 950 and max(seen["add_items"], seen["query"]) < 50 else 1)
PYTHON
