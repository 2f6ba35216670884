#!/bin/bash
# safetensors.numpy.save_file of version 0.8.0 writes the memory of an array as it lies, without regard to its strides: a
# transposed matrix, some columns of one, or what scikit-learn's PCA returns is written with the right shape and other numbers.
# Nothing is raised (safetensors.torch refuses such tensors), and version 0.7.0 wrote all of them rightly.
#
# Who is hurt: whoever stores vectors, or the weights of a head or projection, from NumPy: the file opens and the shapes fit.
# What Linnaea does: writes weights as tensors with safetensors.torch, and vectors with NumPy's own format
# (src/linnaea/arrays.py).
#
# Expected: what was saved. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for safetensors in 0.7.0 0.8.0; do
  python3 -m venv "$folder/$safetensors"
  "$folder/$safetensors/bin/pip" install --quiet --disable-pip-version-check "safetensors==$safetensors" "numpy==2.4.6"
  "$folder/$safetensors/bin/python" - "$folder/$safetensors.safetensors" <<'PYTHON' >"$folder/$safetensors.txt"
import sys
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load_file, save_file

weights = np.random.default_rng(0).normal(size=(512, 1000)).astype(np.float32)
given = {"transposed": weights.T, "columns": weights[:, :256], "copy": weights.copy()}
save_file(given, sys.argv[1])
read = load_file(sys.argv[1])
same = {name: bool(np.array_equal(read[name], array)) for name, array in given.items()}
print(f"safetensors {version('safetensors')}, equal after reading:", same)
PYTHON
done
echo "expected: all equal"
cat "$folder"/0.?.0.txt
grep -q "'transposed': True, 'columns': True, 'copy': True" "$folder/0.7.0.txt"
grep -q "'transposed': False, 'columns': False, 'copy': True" "$folder/0.8.0.txt"
