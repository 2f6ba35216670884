#!/bin/bash
# TaxonoPy's `common-names` looks for the taxon of each rank by its name alone, although the step before has found it by its whole lineage,
# and lets that overrule: of Morus the bird and Morus the tree, one is taken for both. A mulberry that has no English name of its own is
# called "Gannets", or a gannet "Mulberries", whichever of the two is kept when names that occur twice are thrown out.
#
# Who is hurt: whoever trains with common names in captions: TaxonoPy's development "has been driven by its application in" TreeOfLife-200M.
# It touches species without a common name, for which the genus' or family's is taken, and pictures that are named to the genus, of
# each genus that two kingdoms have.
# What Linnaea does: a common name belongs to a taxon, which is its whole lineage (src/linnaea/taxonomy/resolve.py).
#
# Expected: Gannets for the bird and Mulberries for the tree. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "taxonopy==0.2.0" "polars==2.1.0"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version

import polars as pl
from taxonopy.resolve_common_names import merge_common_name, merge_taxon_id, prioritize_vernacular

HIGHER = ("kingdom", "phylum", "class", "order", "family", "genus")
BIRD = ("Animalia", "Chordata", "Aves", "Suliformes", "Sulidae", "Morus")
TREE = ("Plantae", "Tracheophyta", "Magnoliopsida", "Rosales", "Moraceae", "Morus")
lineages = pl.DataFrame([BIRD, TREE], schema=HIGHER, orient="row")
backbone = lineages.with_columns(taxonID=pl.Series(["1", "2"]), taxonRank=pl.lit("genus"), canonicalName="genus")
english = pl.DataFrame({"taxonID": ["1", "2"], "vernacularName": ["Gannets", "Mulberries"], "language": ["en", "en"]})
pictures = lineages.with_columns(species=pl.Series([None, "Morus serrata"], dtype=pl.String), scientific_name=pl.lit(""))
with contextlib.redirect_stdout(io.StringIO()):
    found = merge_taxon_id(pictures, backbone)
    named = merge_common_name(found, prioritize_vernacular(english), backbone)
print("taxonopy", version("taxonopy"))
print("expected: the bird is called Gannets, the tree Mulberries; the first step finds", found["taxonID_genus"].to_list())
print("seen:     the bird is called {}, the tree {}".format(*named["common_name"]))
sys.exit(0 if found["taxonID_genus"].to_list() == ["1", "2"] and named["common_name"].n_unique() == 1 else 1)
PYTHON
