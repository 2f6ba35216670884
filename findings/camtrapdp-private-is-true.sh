#!/bin/bash
# camtrapdp, "Python library for working with the Camtrap Data Package format", declares filePublic as bool, but Media.from_csv() leaves the
# text of the file: "false" is a text that is not empty, so that `if media.filePublic` holds for every photograph. The same goes for
# favorite and the numbers of deployments: every field is text, whatever its type says.
#
# Who is hurt: people on photographs. filePublic is false "to protect the privacy of people" (its docstring and the standard); whoever
# copies the public photographs of a package copies all of them.
# What Linnaea does: writes packages in which every photograph is private (src/linnaea/predict/records/camtrap_package.py), and reads no
# filePublic.
#
# Expected: one public photograph of two. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "camtrapdp==0.1.0" "pandas==2.3.3" "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder/media.csv" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

from camtrapdp import Media

COLUMNS = ("mediaID", "deploymentID", "captureMethod", "timestamp", "filePath", "filePublic", "fileName", "fileMediatype",
           "exifData", "favorite", "mediaComments")
rows = [("m1", "d1", "activityDetection", "2024-05-01T10:00:00Z", "fox.jpg", "true", "fox.jpg", "image/jpeg", "", "", ""),
        ("m2", "d1", "activityDetection", "2024-05-01T10:05:00Z", "hiker.jpg", "false", "hiker.jpg", "image/jpeg", "", "", "")]
Path(sys.argv[1]).write_text("".join(",".join(row) + "\n" for row in (COLUMNS, *rows)))
media = Media.from_csv(sys.argv[1])
public = [one.fileName for one in media if one.filePublic]
print("camtrapdp", version("camtrapdp"))
print(f"declared: filePublic is {Media.__dataclass_fields__['filePublic'].type.__name__}")
print("expected public: fox.jpg")
print("seen public:", ", ".join(public), f"(filePublic of hiker.jpg is {media[1].filePublic!r})")
sys.exit(0 if public == ["fox.jpg", "hiker.jpg"] and Media.__dataclass_fields__["filePublic"].type is bool else 1)
PYTHON
