#!/bin/bash
# python-nexus' combine_nexuses(), and its command `nexus combine`, sort the characters of each file by their names and then give them the
# names in the order of the file: the states of "antennae" stand under "1.wings", those of "legs" under "1.antennae". Only where the names
# are in the order of the alphabet anyway are they right. Nothing is said, and the file is valid.
#
# Who is hurt: whoever joins matrices of characters, which is what it is for: each character of the joint matrix has another one's states, so
# that keys, trees and traits are about other organs. The numbers of taxa and of characters are right.
# What Linnaea does: a cell keeps the name of its column (src/linnaea/tables); it reads no matrices of characters.
#
# Expected: the same states under the same name. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "python-nexus==2.9.0" "newick==1.11.0"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from nexus import NexusReader
from nexus.tools import combine_nexuses

MATRIX = """#NEXUS
begin data;
dimensions ntax=2 nchar=3;
format datatype=standard symbols="01" gap=-;
charstatelabels 1 wings, 2 antennae, 3 legs;
matrix
Apis 111
Ixodes 001
;
end;
"""
one, other = NexusReader.from_string(MATRIX), NexusReader.from_string(MATRIX.replace("wings", "eyes"))
joint = combine_nexuses(one, other).data
print("python-nexus", version("python-nexus"))
organs = ("wings", "antennae", "legs")
print("expected for Ixodes, as in the first file:", {name: one.data.characters[name]["Ixodes"] for name in organs})
seen = {name: joint[f"1.{name}"]["Ixodes"] for name in organs}
print("seen in the joint matrix:", seen)
sys.exit(0 if seen == {"wings": "0", "antennae": "1", "legs": "0"} else 1)
PYTHON
