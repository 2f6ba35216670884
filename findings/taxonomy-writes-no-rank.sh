#!/bin/bash
# The package `taxonomy` reads the ranks "domain" and "realm" of NCBI's taxonomy, but writes them as "no rank":
# Taxonomy.from_ncbi(FOLDER).to_ncbi(OTHER) loses them without a word. NCBI has domains instead of superkingdoms, and
# realms of viruses, since 2025. Synonyms and common names are lost as well, because only one name of a node is kept.
#
# Who is hurt: everyone who cuts a part out of NCBI's taxonomy with it. In the part, Bacteria, Archaea and Eukaryota have
# no rank, so lineages by rank (Kraken reports, this package's checklists) have nothing above the kingdom or the phylum.
# What Linnaea does: it knows these nodes by their names, so that bacteria have a kingdom in such a dump too
# (docs/checklists.md, src/linnaea/taxonomy/checklists/ncbi.py), and `taxonomy checklists --add` says what it left out.
#
# Expected: the ranks that were read. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "taxonomy==0.10.6"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from taxonomy import Taxonomy

source, copy = Path(sys.argv[1], "source"), Path(sys.argv[1], "copy")
source.mkdir()
copy.mkdir()
nodes = [("1", "1", "no rank", "root"), ("10239", "1", "acellular root", "Viruses"),
         ("2559587", "10239", "realm", "Riboviria"), ("131567", "1", "cellular root", "cellular organisms"),
         ("2", "131567", "domain", "Bacteria"), ("1783272", "2", "kingdom", "Bacillati")]
more = "\t|\t".join(["", "8", "0", "1", "0", "0", "0", "0", "0", ""])
(source / "nodes.dmp").write_text("".join(f"{i}\t|\t{up}\t|\t{rank}\t|{more}\t|\n" for i, up, rank, _ in nodes))
(source / "names.dmp").write_text("".join(f"{i}\t|\t{name}\t|\t\t|\tscientific name\t|\n" for i, _, _, name in nodes))
read = Taxonomy.from_ncbi(str(source))
read.to_ncbi(str(copy))
written = {cells[0]: cells[2] for cells in (line.split("\t|\t") for line in (copy / "nodes.dmp").read_text().splitlines())}
print("taxonomy", version("taxonomy"))
print("expected:", {name: read[i].rank for i, _, _, name in nodes})
print("seen:    ", {name: written[i] for i, _, _, name in nodes})
sys.exit(0 if (read["2"].rank, written["2"], written["2559587"]) == ("domain", "no rank", "no rank") else 1)
PYTHON
