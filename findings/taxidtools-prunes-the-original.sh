#!/bin/bash
# taxidTools' prune(taxid, inplace=False) returns a pruned copy and cuts the original as well: it unlinks the other branches of the
# original's nodes, not of the copy's. "keep the original unchanged", says its docstring. The nodes stay in the original's list, so that
# len() and get() find them; asked from above (listDescendant) they are gone.
#
# Who is hurt: whoever cuts a list of names for one class, then for the next: the second cut of the same tree, and everything that is
# counted below the root afterwards, lacks what the first left out.
# What Linnaea does: trees are never changed; a clade is a new set of rows (src/linnaea/taxonomy/tree.py).
#
# Expected: four descendants of the root, before and after. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "taxidTools==3.2.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from taxidTools import Node, Taxonomy

root = Node(1, "root", "no rank")
birds, mammals = Node(2, "Aves", "class", root), Node(3, "Mammalia", "class", root)
tree = Taxonomy.from_list([root, birds, mammals, Node(4, "Pica", "genus", birds), Node(5, "Vulpes", "genus", mammals)])


def below_root(taxonomy: Taxonomy) -> list[str]:
    return sorted(node.name for node in taxonomy.listDescendant(1))


before = below_root(tree)
copy = tree.prune(2, inplace=False)
print("taxidTools", version("taxidTools"))
print("expected: the original", before, "before and after; the copy ['Aves', 'Pica']")
print("seen: the original", below_root(tree), "after; the copy", below_root(copy))
sys.exit(0 if len(before) == 4 and below_root(tree) == ["Aves", "Pica"] else 1)
PYTHON
