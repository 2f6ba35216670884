#!/bin/bash
# python-nexus reads the first word of each name in a tree's table of names (translate): 'Larus canus', with the quotation marks that NEXUS
# asks for around a space, is Larus. taxa and detranslate() have genera instead of species, and write() writes them. Nothing is said as long
# as there is one species of each genus; two of a genus raise "Duplicate Taxon". Names with underscores are read whole.
#
# Who is hurt: whoever prunes or joins trees of species by name: none of the species is found in the tree, or the genus is taken for it.
# What Linnaea does: reads no NEXUS; a species is its whole lineage (src/linnaea/taxonomy/taxon.py).
#
# Expected: three species. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "python-nexus==2.9.0" "newick==1.11.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from nexus import NexusReader

nexus = NexusReader.from_string("""#NEXUS
begin trees;
translate
1 'Larus canus',
2 'Parus major',
3 'Corvus corax'
;
tree consensus = ((1:1,2:2):1,3:3);
end;
""")
nexus.trees.detranslate()
print("python-nexus", version("python-nexus"))
print("expected: ['Larus canus', 'Parus major', 'Corvus corax']")
print(f"seen: {[*nexus.trees.taxa]}, {nexus.trees[0]}")
sys.exit(0 if [*nexus.trees.taxa] == ["Larus", "Parus", "Corvus"] and "Larus:1" in nexus.trees[0] else 1)
PYTHON
