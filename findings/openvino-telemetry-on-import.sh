#!/bin/bash
# `import openvino` asks a server of Google Analytics for an event of the import, and writes an identifier into ~/intel,
# before anything is used and without a question: its __init__ imports the model converter, which sends the event.
#
# Who is hurt: whoever promises to stay off the network (field stations, hospitals, pipelines that were reviewed for it),
# and everyone behind a proxy that drops packets, where each import starts a process that waits for its time-out.
# What Linnaea does: hides the package openvino_telemetry before it imports openvino, which then uses its own stub
# (src/linnaea/model/runtimes.py).
#
# Nothing is sent here: looking up any host is noted and refused. Expected: no host is looked up by an import. Exits with
# 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "openvino==2026.4.1" "openvino-telemetry==2025.2.0"
mkdir "$folder/home"
env -u CI HOME="$folder/home" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import socket
import sys
import time
from pathlib import Path

noted = Path(sys.argv[1]) / "hosts.txt"


def refuse(host, *given, **named):
    with noted.open("a") as stream:  # the event is sent by another process
        print(host, file=stream)
    raise OSError("refused")


socket.getaddrinfo = refuse
import openvino

for _ in range(50):
    if noted.exists():
        break
    time.sleep(0.1)
hosts = noted.read_text().split() if noted.exists() else []
files = sorted(str(path.relative_to(Path.home())) for path in Path.home().rglob("*") if path.is_file())
print(f"openvino {openvino.__version__}: expected no host and no file; seen {hosts}, {files}")
sys.exit(0 if hosts else 1)
PYTHON
