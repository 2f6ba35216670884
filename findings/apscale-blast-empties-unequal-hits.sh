#!/bin/bash
# apscale-blast takes the names of a sequence's best hits back to what they have in common, "the most recent common taxonomy" says its
# documentation. Below the threshold for species it compares whole rows, in which the number of hits of each species stands, too: if
# one species has two hits and the other has one, the rows never become equal, and every rank is emptied, the kingdom as well. With one
# hit each, the genus is kept.
#
# Who is hurt: whoever identifies environmental DNA by it: sequences of 96% identity, of which each reference is a midge of one genus,
# have no name at all, not even "animal", as soon as their references are unequally many. Well-sampled groups fare worst. "NoMatch"
# is not written either.
# What Linnaea does: names no sequences; what species have in common is the sum of their probabilities (src/linnaea/taxonomy/tree.py).
#
# Expected: the genus, both times. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==2.3.3" "numpy==2.4.6" "pyarrow==26.0.1" \
    "joblib==1.6.0" "ete3==3.1.3" "xmltodict==1.0.4" "tqdm==4.66.4" "requests==2.34.2" "six==1.17.0" "legacy-cgi==2.6.4"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "apscale_blast==2.0.6"
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from apscale_blast.b_filter import filter_blastn_csvs

RANKS = ["superkingdom", "phylum", "class", "order", "family", "genus", "species"]
ABOVE = ["Eukaryota", "Arthropoda", "Insecta", "Diptera", "Chironomidae", "Chironomus"]
SPECIES = {"a1": "Chironomus riparius", "a2": "Chironomus riparius", "b1": "Chironomus plumosus"}
taxa = pd.DataFrame([[key, *ABOVE, name] for key, name in SPECIES.items()], columns=["Accession", *RANKS])


def name(*hits: str) -> str:
    """Return the ranks that a sequence with these hits of 96% gets, with apscale-blast's default options."""
    file = Path(sys.argv[1]) / f"{len(hits)}.csv"
    file.write_text("".join(f"OTU_1;;{hit};;96.0;;1e-90\n" for hit in hits))
    filter_blastn_csvs(str(file), taxa, 0, 1, "98,95,90,87,85", "db", "2", 5, 0, 1)
    table = pd.read_parquet(file.with_name(f"{file.stem}_filtered.parquet.snappy"))
    return " ".join(table.iloc[0][["Kingdom", "Phylum", "Class", "Order", "Family", "Genus", "Species"]]).strip()


even, uneven = name("a1", "b1"), name("a1", "a2", "b1")
print("apscale_blast", version("apscale_blast"), "pandas", version("pandas"))
print("one hit of each species:    ", even)
print("two of one and one of other:", uneven or "nothing")
sys.exit(0 if (even, uneven) == (" ".join(ABOVE), "") else 1)
PYTHON
