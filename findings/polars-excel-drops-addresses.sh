#!/bin/bash
# polars' write_excel() writes addresses as links, of which Excel takes 65,530 in a sheet: xlsxwriter leaves the cells of
# all later rows empty, with a warning for each. The text itself would fit.
#
# Who is hurt: whoever writes a list of images (a GBIF multimedia table, a manifest) as a workbook: from row 65,531 on the
# addresses are gone. The same happens to a column of occurrence identifiers that are addresses.
# What Linnaea does: writes every text as text (strings_to_urls=False; src/linnaea/predict/outputs/write.py).
#
# Expected: 65,600 addresses. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "polars==2.1.0" "xlsxwriter==3.3.1" "fastexcel==0.21.0"
"$folder/venv/bin/python" - "$folder/images.xlsx" <<'PYTHON'
import sys
import warnings

import polars as pl
import xlsxwriter

N = 65_600
images = pl.DataFrame({"id": range(N), "identifier": [f"https://example.org/{number}.jpg" for number in range(N)]})
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    images.write_excel(sys.argv[1])
kept = N - pl.read_excel(sys.argv[1])["identifier"].null_count()
print(f"polars {pl.__version__}, xlsxwriter {xlsxwriter.__version__}")
print(f"expected: {N:,} addresses")
print(f"seen: {kept:,} addresses, {len(told)} warnings, no error")
sys.exit(0 if kept == 65_530 else 1)
PYTHON
