#!/bin/bash
# Chroma's add() of identifiers that the collection has already leaves their old vectors, texts and facts as they are, without a message,
# and reports nothing. Its docstring says that it raises a ValueError if an identifier already exists. upsert() replaces them.
#
# Who is hurt: whoever encodes a folder again, with another model or after correcting pictures, and adds it to the collection: the
# search goes on in the old vectors, with queries of the new model, and its answers are as good as drawn.
# What Linnaea does: an index belongs to one model, and another model is refused (src/linnaea/predict/index.py).
#
# Expected: an error, or the new vectors. Exits with 1 if the behaviour changes.
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

photographs = ["fox.jpg", "hare.jpg", "owl.jpg"]
vectors = {"old": np.eye(3, dtype=np.float32), "new": np.eye(3, dtype=np.float32)[::-1]}
collection = chromadb.EphemeralClient(Settings(anonymized_telemetry=False)).create_collection("photographs")
for model, of_model in vectors.items():
    collection.add(ids=photographs, embeddings=of_model, metadatas=[{"model": model}] * 3)
kept = collection.get(include=["embeddings", "metadatas"])
models = {facts["model"] for facts in kept["metadatas"]}
first = collection.query(query_embeddings=vectors["new"][:1], n_results=1)["ids"][0][0]
print("chromadb", version("chromadb"))
print("promised:", " ".join(chromadb.Collection.add.__doc__.split("Raises:")[1].split("\n")[-2].split()))
print("expected: an error, or the vectors of the new model; nearest to the new vector of fox.jpg is fox.jpg")
print("seen:", *models, "and", first)
promised = "already exists" in chromadb.Collection.add.__doc__
sys.exit(0 if promised and models == {"old"} and collection.count() == 3 and first == "owl.jpg" else 1)
PYTHON
