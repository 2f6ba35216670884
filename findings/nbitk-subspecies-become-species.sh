#!/bin/bash
# nbitk's parser of taxonomic Darwin Core Archives puts subspecies beside their species, not below it, and gives them the rank of species:
# "Larus canus heinei" is a species of Larus. Three words under the rank "species" are all that is left; taxonRank is not
# read. The same archive's rows of species are right.
#
# Who is hurt: whoever makes the list of labels from a checklist: the number of species is too large, a photograph of the
# subspecies is a mistake for the species' name, and the records of a species lack those of its subspecies.
# What Linnaea does: a subspecies is a name of its species, by its taxonRank (src/linnaea/taxonomy/checklists/arrange.py).
#
# Expected: one species, and two subspecies below it. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "nbitk==0.7.2" "pandas==3.1.1" "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder/gulls.zip" <<'PYTHON'
import sys
import zipfile
from importlib.metadata import version

from nbitk.Phylo.DwCATaxonomyIO import Parser

terms = ["taxonID", "kingdom", "family", "genus", "specificEpithet", "infraspecificEpithet", "taxonRank"]
rows = [["1", "Animalia", "Laridae", "Larus", "canus", "", "species"]]
rows += [[str(n), "Animalia", "Laridae", "Larus", "canus", name, "subspecies"] for n, name in ((2, "canus"), (3, "heinei"))]
fields = "".join(f'<field index="{n}" term="http://rs.tdwg.org/dwc/terms/{term}"/>' for n, term in enumerate(terms) if n)
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    archive.writestr("meta.xml", (
        '<archive xmlns="http://rs.tdwg.org/dwc/text/"><core encoding="UTF-8" fieldsTerminatedBy="," ignoreHeaderLines="1" '
        'rowType="http://rs.tdwg.org/dwc/terms/Taxon"><files><location>taxon.csv</location></files><id index="0"/>'
        f"{fields}</core></archive>"
    ))
    archive.writestr("taxon.csv", "\n".join(",".join(row) for row in [terms, *rows]) + "\n")
tree = Parser(sys.argv[1]).parse()
species = [taxon.name for taxon in tree.find_clades(order="preorder") if taxon.taxonomic_rank == "species"]
below = [taxon.name for name in species[:1] for taxon in tree.find_any(name=name).clades]
print("nbitk", version("nbitk"))
print("expected: species ['Larus canus'], and below it ['Larus canus canus', 'Larus canus heinei']")
print(f"seen: species {species}, and below the first {below}")
sys.exit(0 if species == ["Larus canus", "Larus canus canus", "Larus canus heinei"] and not below else 1)
PYTHON
