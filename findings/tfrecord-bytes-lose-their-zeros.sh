#!/bin/bash
# tfrecord gives a feature of one sequence of bytes as it is. One with several, which its writer takes as a list, becomes a numpy array of
# fixed-length bytes, and each loses the zeros at its end: numbers that end in 0, the ends of masks and of vectors behind a ReLU. The
# lengths differ then. The file has them all.
#
# Who is hurt: whoever keeps several vectors or masks in one record: np.frombuffer refuses some, and gives others without their last numbers.
# What Linnaea does: keeps vectors in arrays of numbers (src/linnaea/arrays.py).
#
# Expected: the bytes that were written. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "tfrecord==1.14.6" "protobuf==7.36.2" "crc32c==2.9.post0" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from tfrecord import TFRecordWriter, tfrecord_loader

vectors = [np.array([0.5, 1.5, 0], np.float32), np.array([2, 0, 0], np.float32)]
writer = TFRecordWriter("vectors.tfrecord")
writer.write({"one": (vectors[1].tobytes(), "byte"), "two": ([vector.tobytes() for vector in vectors], "byte")})
writer.close()
record = next(iter(tfrecord_loader("vectors.tfrecord", None)))
one = np.frombuffer(record["one"], np.float32).tolist()
two = [np.frombuffer(part, np.float32).tolist() for part in record["two"]]
print("tfrecord", version("tfrecord"), "numpy", np.__version__)
print("expected:", [vector.tolist() for vector in vectors])
print("seen:", two, "and, alone:", one)
sys.exit(0 if one == [2, 0, 0] and two == [[0.5, 1.5], [2]] else 1)
PYTHON
