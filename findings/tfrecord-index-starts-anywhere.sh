#!/bin/bash
# tfrecord reads a file from its first record to its last. With an index, which its page recommends, it begins at a record that is drawn
# at random, goes on to the end, and then reads what was left out; each time that it is read begins elsewhere. This is with no shuffling
# asked for, in tfrecord_loader() and, by its source, in the dataset for PyTorch with one process.
#
# Who is hurt: whoever encodes a file and puts the vectors beside the names of its photographs, or compares two models photograph by
# photograph: every row belongs to another one.
# What Linnaea does: goes by position in the index of a data set (src/linnaea/data/shards.py).
#
# Expected: the order of the file. Exits with 1 if the behaviour changes.
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
from tfrecord.tools.tfrecord2idx import create_index

np.random.seed(0)
writer = TFRecordWriter("photographs.tfrecord")
for number in range(10):
    writer.write({"number": (number, "int")})
writer.close()
create_index("photographs.tfrecord", "photographs.idx")


def read(index: str | None) -> list[int]:
    return [int(record["number"][0]) for record in tfrecord_loader("photographs.tfrecord", index, {"number": "int"})]


plain = read(None)
indexed = [read("photographs.idx") for _ in range(20)]
print("tfrecord", version("tfrecord"))
print("expected:", plain)
print("seen with an index:", indexed[0], "and", indexed[1])
turned = all(sorted(order) == plain for order in indexed) and len({order[0] for order in indexed}) > 3
sys.exit(0 if plain == list(range(10)) and turned else 1)
PYTHON
