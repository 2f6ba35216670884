#!/bin/bash
# ete4 reads NCBI's common names of species, and then puts the scientific name where the common one belongs: get_common_names() calls the
# northern gannet "Morus bassanus" and the birds "Aves". Only taxa that have a common name at NCBI get an answer, so that the answers
# look as if they had been looked up.
#
# get_descendant_taxa("Morus") takes the first of two genera of that name, and says nothing of the other; get_name_translator() gives both.
#
# Who is hurt: whoever labels trees, tables or photographs with English names from NCBI's taxonomy: there are none, and a model that is to
# learn common names learns the scientific ones twice. Whoever asks for the species of a genus may get those of another kingdom.
# What Linnaea does: a common name is read from the list's own column and belongs to a taxon, which is its whole lineage
# (src/linnaea/taxonomy/resolve.py).
#
# Expected: northern gannet, white mulberry and birds; both genera, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "ete4==4.4.0"
cd "$folder"
XDG_DATA_HOME="$folder" "$folder/venv/bin/python" -W ignore - 2>"$folder/progress" <<'PYTHON'
import contextlib
import io
import sys
import tarfile
from importlib.metadata import version

from ete4 import NCBITaxa

NODES = [(1, 1, "no rank"), (8782, 1, "class"), (37577, 8782, "genus"), (37578, 37577, "species")]
NODES += [(3193, 1, "clade"), (3497, 3193, "genus"), (3498, 3497, "species")]
NAMES = {1: ("root", ""), 8782: ("Aves", "birds"), 37577: ("Morus", ""), 37578: ("Morus bassanus", "northern gannet")}
NAMES |= {3193: ("Embryophyta", ""), 3497: ("Morus", ""), 3498: ("Morus alba", "white mulberry")}

names = [(taxon, name, "", "scientific name") for taxon, (name, _) in NAMES.items()]
names += [(taxon, name, "", "genbank common name") for taxon, (_, name) in NAMES.items() if name]
with tarfile.open("taxdump.tar.gz", "w:gz") as dump:
    for file, rows in (("nodes.dmp", NODES), ("names.dmp", names), ("merged.dmp", [(1234567, 3498)])):
        content = "".join("\t|\t".join(map(str, row)) + "\t|\n" for row in rows).encode()
        member = tarfile.TarInfo(file)
        member.size = len(content)
        dump.addfile(member, io.BytesIO(content))
with contextlib.redirect_stdout(io.StringIO()):
    taxonomy = NCBITaxa(dbfile="taxa.sqlite", taxdump_file="taxdump.tar.gz")
common = taxonomy.get_common_names([37578, 3498, 8782])
species = taxonomy.get_descendant_taxa("Morus")
print("ete4", version("ete4"))
print("expected:", {taxon: NAMES[taxon][1] for taxon in common}, "and the species of both genera, or an error")
print("seen:    ", common, "and", species)
sys.exit(0 if common == {taxon: NAMES[taxon][0] for taxon in common} and len(common) == 3 and len(species) == 1 else 1)
PYTHON
