#!/bin/bash
# CRABS' seq_cleanup --nans N removes reference sequences with more than N ranks without a name ("nan"). It counts them together with the
# tabs on both sides, so that of two that stand beside each other one is counted, and of four two; the last rank, the species, is cut off with
# its tab, and does not count. A sequence that has a kingdom and nothing else, six of seven names missing, stays with --nans 3.
#
# Who is hurt: whoever builds a reference for environmental DNA: names are missing side by side as a rule, from the class or the order down, and
# what should be removed stays. Reads then match sequences that have no name. Since NCBI calls superkingdoms domains (2025), the
# first of the default ranks is "nan" as well.
# What Linnaea does: a label without a name is a reject, with the reason (src/linnaea/data/build.py).
#
# Expected: with --nans 3 the first and the second stay. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "crabs==0.2.0" "biopython==1.83" "numpy==1.26.4" "pandas==2.2.3" "matplotlib==3.9.4"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path

from crabs.crabs import db_filter

RANKS = ["superkingdom", "phylum", "class", "order", "family", "genus", "species"]
LINEAGES = {
    "named": ["Eukaryota", "Chordata", "Actinopteri", "Perciformes", "Sparidae", "Sparus", "Sparus_aurata"],
    "family": ["Eukaryota", "Chordata", "Actinopteri", "Perciformes", "Sparidae", "nan", "nan"],
    "class": ["Eukaryota", "Chordata", "Actinopteri", "nan", "nan", "nan", "nan"],
    "kingdom": ["Eukaryota", "nan", "nan", "nan", "nan", "nan", "nan"],
}
Path("in.tsv").write_text("".join(
    "\t".join([key, "1", *names, "ACGT" * 50]) + "\n" for key, names in LINEAGES.items()
))  # fmt: skip
db_filter(Namespace(input="in.tsv", output="out.tsv", discard="gone.tsv", minlen=100, maxlen=500, maxns=0, env="no",
                    spec="no", nans="3", ranks="+".join(RANKS)))  # fmt: skip
kept = [line.split("\t")[0] for line in Path("out.tsv").read_text().splitlines()]
print("crabs", version("crabs"))
print("expected: ['named', 'family']")
print(f"seen:     {kept}")
sys.exit(0 if kept == list(LINEAGES) else 1)
PYTHON
