#!/bin/bash
# biom-format reads a table of counts whose last column may be a taxonomy, and asks each line whether it ends in a number. A blank line at the
# end of the file, or a comment, does not: the last sample is then taken for remarks about the species, and is no sample any more. Two
# lines further on, the same reader passes over blank lines and comments. One empty cell in the last column does the same. In any other
# column it is an error.
#
# Who is hurt: whoever turns a table of species by site into BIOM, with load_table() or `biom convert`: the last site is gone, its counts are
# texts in the metadata, and diversity and summaries are those of the other sites. Nothing is printed.
# What Linnaea does: a cell belongs to the column of its header, and a blank line is no row (src/linnaea/tables).
#
# Expected: three samples each time. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "biom-format==2.1.18" "numpy==2.4.6" "pandas==3.1.1" \
    "scipy==1.17.1" "h5py==3.16.0"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from biom import load_table

TABLE = "#OTU ID\tBerlin\tBergen\tBasel\nLarus canus\t1\t3\t5\nPica pica\t3\t4\t6\n"
files = {
    "as it is": TABLE,
    "a blank line at the end": TABLE + "\n",
    "a comment at the end": TABLE + "# counted in May\n",
    "an empty cell in the last column": TABLE.replace("\t5\n", "\t\n"),
}
seen = []
print("biom-format", version("biom-format"))
for what, text in files.items():
    Path("counts.tsv").write_text(text)
    table = load_table("counts.tsv")
    seen.append((list(map(str, table.ids())), int(table.sum())))
    print(f"{what + ':':34} expected Berlin, Bergen, Basel; seen {', '.join(seen[-1][0])}, {seen[-1][1]} birds")
without = (["Berlin", "Bergen"], 11)
sys.exit(0 if seen == [(["Berlin", "Bergen", "Basel"], 22), without, without, without] else 1)
PYTHON
