#!/bin/bash
# Chroma's get(ids=[...]) returns the records in the order in which they were stored, not in the order that is asked for, and leaves out
# those that it does not have. Those of a collection that was filled in the order of the list are in order, as in a test. Qdrant's
# retrieve(), in memory, keeps the order.
#
# Who is hurt: whoever asks for the vectors of some photographs and puts them beside their labels, to train a head or to score an
# evaluation: each vector has another photograph's species.
# What Linnaea does: an index has its names and its vectors row by row (src/linnaea/predict/index.py).
#
# Expected: the order that was asked for. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "chromadb==1.5.9" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import chromadb
import numpy as np
from chromadb.config import Settings

stored = ["fox.jpg", "hare.jpg", "owl.jpg", "wren.jpg"]
asked = ["wren.jpg", "fox.jpg", "owl.jpg", "hare.jpg"]
collection = chromadb.EphemeralClient(Settings(anonymized_telemetry=False)).create_collection("photographs")
collection.add(ids=stored, embeddings=np.eye(4, dtype=np.float32))
answer = collection.get(ids=asked, include=["embeddings"])
vectors = dict(zip(asked, np.argmax(answer["embeddings"], axis=1), strict=True))
right = sum(stored[number] == name for name, number in vectors.items())
print("chromadb", version("chromadb"))
print("expected:", ", ".join(asked))
print("seen:", ", ".join(answer["ids"]), f"({right} of {len(asked)} vectors beside their own name)")
sys.exit(0 if answer["ids"] == stored and right < 4 else 1)
PYTHON
