#!/bin/bash
# Biopython's reader of EMBL files keeps the last line of a name that goes over two, as names of hybrids, strains and symbionts do: the
# species is "serovar Typhimurium", of a hybrid "carpio)". The lines before it are dropped. Its writer of GenBank files cuts the name of a
# species after 64 characters and writes three dots, and its own reader takes the dots for a part of the name. The reader of GenBank
# files joins such lines.
#
# Who is hurt: whoever builds reference libraries of sequences from ENA's files, or converts them: long names become epithets or fragments,
# which match nothing, or another species. Nothing is said.
# What Linnaea does: reads no sequence files; names of tables are read whole (src/linnaea/tables).
#
# Expected: the whole name both times. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "biopython==1.88" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
from importlib.metadata import version

from Bio import SeqIO

NAME = "Carassius auratus red var. x (Carassius auratus red var. x Cyprinus carpio)"
FILE = """\
ID   X1; SV 1; linear; genomic DNA; STD; VRT; 4 BP.
XX
AC   X1;
XX
OS   Carassius auratus red var. x (Carassius auratus red var. x Cyprinus
OS   carpio)
OC   Eukaryota; Metazoa; Chordata.
XX
SQ   Sequence 4 BP; 1 A; 1 C; 1 G; 1 T; 0 other;
     acgt                                                                      4
//
"""
record = SeqIO.read(io.StringIO(FILE), "embl")
seen = [record.annotations["organism"]]
record.annotations["organism"] = NAME
seen.append(SeqIO.read(io.StringIO(record.format("genbank")), "genbank").annotations["organism"])
print("biopython", version("biopython"))
print("expected, twice:         ", NAME)
print("seen, EMBL, read:        ", seen[0])
print("seen, GenBank, written:  ", seen[1])
sys.exit(0 if seen == ["carpio)", NAME[:64] + "..."] else 1)
PYTHON
