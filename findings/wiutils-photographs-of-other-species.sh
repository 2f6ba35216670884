#!/bin/bash
# wiutils makes Darwin Core of a download from Wildlife Insights, and joins columns of tables whose rows are numbered differently. A record's
# associatedMedia are all rows down to the next record, of whatever camera: the deer's record has the fox's photograph. The titles of the
# multimedia table are moved by as many rows as were removed before, for example by remove_domestic(): the fox is called deer. A table that is
# sorted by time, newest first, loses other photographs than those outside the dates of their camera.
#
# Who is hurt: whoever publishes camera-trap records with it at GBIF: the pictures beside a record show another species at another place.
# A download has the photographs of all cameras in one table, in no order.
# What Linnaea does: an observation and its photographs are joined by identifier (src/linnaea/predict/records/camtrap_package.py).
#
# Expected: pictures of the record's own species; titles of their pictures; "late" is removed. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==2.2.3" "numpy==1.26.4" "pillow==13.0.0" \
    "opencv-python-headless==4.11.0.86" "ffmpeg-python==0.2.0" "seaborn==0.13.2"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "wiutils==1.1.0"  # the rest of it wants another OpenCV
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import pandas as pd
import wiutils

NAMES = {"dog": ("Canis", "familiaris"), "fox": ("Vulpes", "vulpes"), "deer": ("Capreolus", "capreolus")}


def photograph(name: str, camera: str, time: str) -> dict[str, object]:
    genus, species = NAMES[name.rstrip("0123456789").removesuffix(" late")]
    return {
        "project_id": 1, "deployment_id": camera, "image_id": name, "location": f"gs://bucket/{name}.jpg", "timestamp": time,
        "class": "Mammalia", "order": "O", "family": "F", "genus": genus, "species": species, "number_of_objects": 1,
    }  # fmt: skip


images = pd.DataFrame([
    photograph("dog1", "A", "2021-05-01 14:00:00"), photograph("fox1", "A", "2021-05-01 15:00:00"),
    photograph("deer1", "B", "2021-05-01 15:01:00"), photograph("fox2", "A", "2021-05-01 15:02:00"),
    photograph("fox late", "A", "2021-06-30 15:00:00"),
])  # fmt: skip
cameras = pd.DataFrame([
    {"project_id": 1, "deployment_id": camera, "placename": camera, "start_date": "2021-05-01", "end_date": "2021-05-20"}
    for camera in "AB"
])  # fmt: skip
projects = pd.DataFrame([{"project_id": 1}])
wild = wiutils.remove_domestic(images)
records = wiutils.create_dwc_occurrence(wild, cameras, projects)
media = {
    name: [url.split("/")[-1] for url in urls.split("|")]
    for name, urls in zip(records["scientificName"], records["associatedMedia"], strict=True)
    if "deer1" in urls
}
pictures = wiutils.create_dwc_multimedia(wild, cameras)
titles = dict(zip(pictures["identifier"], pictures["title"], strict=True))
newest_first = images.sort_values("timestamp", ascending=False)
kept = wiutils.remove_inconsistent_dates(newest_first, cameras)["image_id"].tolist()
print("wiutils", version("wiutils"))
print("expected: {'Capreolus capreolus': ['deer1.jpg']}; 'fox2' is Vulpes vulpes; all but 'fox late' kept")
print(f"seen:     {media}; 'fox2' is {titles['fox2']}; {kept} kept")
same = media == {"Capreolus capreolus": ["deer1.jpg", "fox2.jpg"]} and titles["fox2"] == "Capreolus capreolus"
sys.exit(0 if same and kept == ["fox late", "fox2", "deer1", "fox1"] else 1)
PYTHON
