#!/bin/bash
# tyro breaks the help of an option where a line of its docstring ends, if the docstring stands below a field and goes over
# several lines. Its own rule is to join single line breaks; but lines after the first are indented in the source, and are
# looked at before the indent is taken off, so that they do not seem to begin with a letter.
#
# Who is hurt: users of every command line that is made of dataclasses whose fields are documented in more than one line, as
# formatters and linters of line length ask for. The help is ragged at any width of the terminal.
# What Linnaea does: takes the indents off before tyro reads the docstrings (src/linnaea/cli/parsing.py).
#
# Expected: one line in a terminal that is wide enough. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "tyro==1.0.17" "docstring_parser==0.18.0"
cat > "$folder/options.py" <<'PYTHON'
from dataclasses import dataclass

import tyro


@dataclass
class Options:
    """Fit a head."""

    folder: str = ""
    """A folder with one folder of photographs per class. If it has splits, train is fitted and
    test is scored."""


tyro.cli(Options)
PYTHON
COLUMNS=200 "$folder/venv/bin/python" "$folder/options.py" --help > "$folder/help.txt"
"$folder/venv/bin/python" - "$folder/help.txt" <<'PYTHON'
import sys
from importlib.metadata import version

lines = [line.strip("│ \n") for line in open(sys.argv[1], encoding="utf-8")]
seen = [line for line in lines if "fitted and" in line or "test is scored" in line]
print("tyro", version("tyro"))
print("expected: [... train is fitted and test is scored. (default: '')]")
print("seen:", seen)
broken = len(seen) == 2 and seen[0].endswith("fitted and") and seen[1].startswith("test is scored")
sys.exit(0 if broken else 1)
PYTHON
