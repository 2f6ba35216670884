#!/bin/bash
# wiutils cuts the time of a photograph down to its day, and compares that with the day and hour at which the camera was put up. A camera that
# is put up at 14:00 has no photographs of its first day: they are "from 00:00", which is before. remove_inconsistent_dates() removes them, and
# compute_detection_history() neither counts them nor finds the others on their day: bins begin at 14:00, so that those of 3 May stand under 2 May.
#
# Who is hurt: whoever models occupancy or activity with tables of Wildlife Insights in which deployments begin at an hour: animals that came
# on the first day were never there, with a 0 for "looked and not seen", and all others came a day earlier.
# What Linnaea does: compares moments with moments (`covers` in src/linnaea/predict/records/media.py).
#
# Expected: all five photographs; three deer on 1 May and the foxes on 3 May. Exits with 1 if the behaviour changes.
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

deer = {"class": "Mammalia", "order": "Artiodactyla", "family": "Cervidae", "genus": "Capreolus", "species": "capreolus"}
fox = {"class": "Mammalia", "order": "Carnivora", "family": "Canidae", "genus": "Vulpes", "species": "vulpes"}
times = ["2021-05-01 15:00:00", "2021-05-01 19:30:00", "2021-05-01 23:10:00", "2021-05-03 02:00:00", "2021-05-03 20:00:00"]
images = pd.DataFrame([
    {**(deer if number < 3 else fox), "deployment_id": "A", "image_id": number, "timestamp": time, "number_of_objects": 1}
    for number, time in enumerate(times)
])  # fmt: skip
camera = pd.DataFrame({"deployment_id": ["A"], "start_date": ["2021-05-01 14:00:00"], "end_date": ["2021-05-06 10:00:00"]})
kept = wiutils.remove_inconsistent_dates(images, camera)["image_id"].tolist()
history = wiutils.compute_detection_history(images, camera).dropna()
seen = {
    taxon: {str(day): int(number) for day, number in zip(rows["timestamp"].dt.date, rows["value"], strict=True) if number}
    for taxon, rows in history.groupby("taxon")
}
print("wiutils", version("wiutils"))
print("expected: kept [0, 1, 2, 3, 4]; {'Capreolus capreolus': {'2021-05-01': 3}, 'Vulpes vulpes': {'2021-05-03': 2}}")
print(f"seen:     kept {kept}; {seen}")
sys.exit(0 if kept == [3, 4] and seen == {"Capreolus capreolus": {}, "Vulpes vulpes": {"2021-05-02": 2}} else 1)
PYTHON
