#!/usr/bin/env bash
# Surprising: polars 2.1 no longer maps an uncompressed Arrow IPC file into memory. `read_ipc` lost its parameter
#   `memory_map` (True by default for years) and copies the whole file; so does `scan_ipc(...).collect()`. pyarrow maps the
#   same file in no time.
# Who is hurt: programs that keep large tables as Arrow files because opening them was free. A list of five million names
#   takes seconds and gigabytes to open, in every process, without any message.
# What Linnaea does: it maps its stored checklists with pyarrow and hands the arrays to polars without a copy.
# Exits 0 while this is so, 1 if polars maps the file again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1
cat > "$folder/check.py" <<'PYTHON'
import resource
import sys

import polars as pl
import pyarrow as pa

path, how = sys.argv[1], sys.argv[2]
if how == "write":
    numbers = pl.int_range(2_000_000, eager=True)
    names = pl.select(pl.format("a name that is longer than twelve letters {}", numbers)).to_series()
    pl.DataFrame({"a": names, "b": names, "c": names}).write_ipc(path, compression="uncompressed")
    raise SystemExit


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


before = peak()
if how == "polars":
    table = pl.read_ipc(path)
else:
    with pa.memory_map(path) as stored:
        table = pl.from_arrow(pa.ipc.open_file(stored).read_all(), rechunk=False)
print(table.height, round(peak() - before))
PYTHON
python="$folder/venv/bin/python"
"$python" "$folder/check.py" "$folder/table.arrow" write
size=$(($(stat -c %s "$folder/table.arrow") / 1048576))
read -r _ by_polars < <("$python" "$folder/check.py" "$folder/table.arrow" polars)
read -r _ by_pyarrow < <("$python" "$folder/check.py" "$folder/table.arrow" pyarrow)
echo "polars 2.1.0, pyarrow 26.0.1; a file of $size MiB"
echo "expected: opening it takes a few MiB more, as with polars 1's memory_map=True"
echo "seen: read_ipc takes $by_polars MiB more, pyarrow's memory map $by_pyarrow MiB"
test "$by_polars" -gt $((size / 2)) && test "$by_pyarrow" -lt $((size / 4))
