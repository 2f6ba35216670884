#!/usr/bin/env bash
# Surprising: jaxtyping's import hook is given the packages to check, but every package that one of their modules is the
#   first to import is compiled again from source, under a name of its own (*.opt-jaxtyping....pyc). While the hook runs a
#   module, it replaces the function that says where compiled files lie, and imports inside that module use it, too.
# Who is hurt: whoever checks the shapes of a vision package in tests or at start: PyTorch, open_clip and timm are compiled
#   anew, once for each version of the hook, and at every start where site-packages is read-only or
#   PYTHONDONTWRITEBYTECODE is set, as in most containers. Compiled files of the whole stack lie on the disk twice.
# What Linnaea does: its tests import PyTorch's stack before the hook runs.
# Expected: only the module of `mine` has a compiled file of the hook. Exits 0 while networkx has them, too, 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jaxtyping==0.3.11 beartype==0.23.1 networkx==3.6
mkdir "$folder/mine"
echo "import networkx" > "$folder/mine/__init__.py"
cd "$folder"
env -u PYTHONDONTWRITEBYTECODE "$folder/venv/bin/python" - <<'PYTHON'
import sys
import time
from importlib.metadata import version
from pathlib import Path

from jaxtyping import install_import_hook

begun = time.perf_counter()
with install_import_hook("mine", "beartype.beartype"):
    import mine
import networkx

took = time.perf_counter() - begun
site = Path(networkx.__file__).parents[1]
own = list(Path("mine").rglob("*jaxtyping*.pyc"))
others = {path.relative_to(site).parts[0] for path in site.rglob("*jaxtyping*.pyc")}
n_others = len(list((site / "networkx").rglob("*jaxtyping*.pyc")))
print(f"jaxtyping {version('jaxtyping')}: hook for `mine`; compiled for it: {len(own)} files of mine, {n_others} of networkx; {took:.1f} s")
sys.exit(0 if own and "networkx" in others and n_others > 50 else 1)
PYTHON
