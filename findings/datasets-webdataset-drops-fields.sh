#!/bin/bash
# Hugging Face's `webdataset` loader takes the columns of a data set from the first 5 samples of the first shard. Files that
# only later samples have (captions), and keys of JSON that only later ones have, are left out of all samples without
# a message, while streaming, too.
#
# Who is hurt: whoever publishes or trains on shards where not every photograph has everything: a caption, a
# place, a licence. If the first five have none, the data set has none.
# What Linnaea does: every sample has all texts, and its JSON all facts of the data set, "" where there are none
# (fill_facts in src/linnaea/data/settle.py).
#
# Expected: captions of the 95 samples that have one, and their places. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "datasets==5.2.0" "pillow==13.0.0"
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import io
import json
import sys
import tarfile
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
picture = io.BytesIO()
Image.new("RGB", (32, 32), (80, 90, 60)).save(picture, "JPEG")
for first in (0, 5):  # the first sample with a caption and a place
    with tarfile.open(Path(sys.argv[1]) / f"{first}.tar", "w") as shard:
        for number in range(100):
            facts = {"species": "Parus major"} | ({"place": "Ghent"} if number >= first else {})
            files = {"jpg": picture.getvalue(), "json": json.dumps(facts).encode()}
            if number >= first:
                files["txt"] = b"a photo of Parus major"
            for ending, content in files.items():
                member = tarfile.TarInfo(f"{number:04}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
print("datasets", datasets.__version__)
print("expected: 100 captions and places where all samples have them, 95 where the first five have none")
seen = []
for first in (0, 5):
    for streaming in (False, True):
        rows = list(datasets.load_dataset("webdataset", data_files=f"{sys.argv[1]}/{first}.tar", split="train",
                                          streaming=streaming, cache_dir=f"{sys.argv[1]}/cache"))
        seen.append((sum(bool(row.get("txt")) for row in rows), sum(bool(row["json"].get("place")) for row in rows)))
        print(f"seen: {100 - first} of {len(rows)} samples have them{', streaming' if streaming else ''}: "
              f"{seen[-1][0]} captions, {seen[-1][1]} places")
sys.exit(0 if seen == [(100, 100), (100, 100), (0, 0), (0, 0)] else 1)
PYTHON
