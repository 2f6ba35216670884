#!/bin/bash
# polars writes a table into a folder whose name has square brackets, and cannot read it back from the same path: readers
# take every path as a pattern, writers take it as a name. `read_ipc` and `read_ndjson` have no option against it, and
# where the pattern fits another file, that one is read without a word.
#
# Who is hurt: everyone whose folders are named "photos [1]" or "site[a]" (downloads of a browser, a second copy), and
# whoever has both `t[1].parquet` and `t1.parquet`: the second is read in place of the first.
# What Linnaea does: reads with glob=False or from an open file (src/linnaea/parquet.py); a test reads the source for
# calls without it.
#
# Expected: the rows that were written to that path. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "polars==2.1.0"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import inspect
import sys
from pathlib import Path

import polars as pl

folder = Path(sys.argv[1])
mine, other = folder / "t[1].ipc", folder / "t1.ipc"
pl.DataFrame({"name": ["mine"]}).write_ipc(mine)
print(f"polars {pl.__version__}; wrote 'mine' to {mine.name}; expected to read it back")
try:
    alone = pl.read_ipc(mine)["name"].to_list()
except Exception as error:
    alone = f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"
print(f"read_ipc({mine.name!r}): {alone}")
pl.DataFrame({"name": ["other"]}).write_ipc(other)
beside = pl.read_ipc(mine)["name"].to_list()
print(f"with {other.name} beside it: {beside}")
has_option = [f.__name__ for f in (pl.read_ipc, pl.read_ndjson) if "glob" in inspect.signature(f).parameters]
print(f"readers of these two with an option for it: {has_option}")
same = isinstance(alone, str) and beside == ["other"] and not has_option
sys.exit(0 if same else 1)
PYTHON
