#!/bin/bash
# guano, the reference implementation of the metadata of bat recordings, writes a file anew with the sound and its own notes, and leaves out all
# other chunks. A file of an AudioMoth loses the recorder's number, its time with the offset, battery and temperature (LIST, INFO), one of
# Wildlife Acoustics its WAMD notes, and sections that someone marked (cue) are gone. write() keeps a copy in GUANO_BACKUP unless it is told not
# to; the source has a "FIXME", the documentation nothing.
#
# Who is hurt: whoever writes the species into the recordings: the time of the recording is then in the name of the file alone.
# What Linnaea does: keywords that are there stay, and the photograph as it was is kept beside it (src/linnaea/predict/records/xmp.py).
#
# Expected: the other chunks are still there. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "guano==1.0.16"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import struct
import sys
from importlib.metadata import version
from pathlib import Path

import guano


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<L", len(content)) + content + b"\0" * (len(content) % 2)


def chunks(file: Path) -> list[str]:
    content, start, names = file.read_bytes(), 12, []
    while start < len(content):
        name, size = struct.unpack("<4sL", content[start : start + 8])
        names.append(name.decode())
        start += 8 + size + size % 2
    return names


NOTE = b"Recorded at 05:30:00 15/06/2023 (UTC-3:30) by AudioMoth 248D9B065F4FB1C2 at medium gain while battery was 4.2V"
recording = Path("20230615_053000.wav")
body = b"WAVE" + chunk(b"fmt ", struct.pack("<HHLLHH", 1, 1, 48000, 96000, 2, 16))
body += chunk(b"LIST", b"INFO" + chunk(b"ICMT", NOTE) + chunk(b"IART", b"AudioMoth 248D9B065F4FB1C2"))
body += chunk(b"data", b"\0\0" * 480) + chunk(b"cue ", struct.pack("<LLL4sLLL", 1, 1, 240, b"data", 0, 0, 240))
recording.write_bytes(b"RIFF" + struct.pack("<L", len(body)) + body)
before = chunks(recording)
notes = guano.GuanoFile(str(recording))
notes["Species Manual ID"] = "MYOLUC"
notes.write(make_backup=False)
after = chunks(recording)
print("guano", version("guano"))
print("expected:", [*before, "guan"])
print("seen:    ", after)
sys.exit(0 if before == ["fmt ", "LIST", "data", "cue "] and after == ["fmt ", "data", "guan"] else 1)
PYTHON
