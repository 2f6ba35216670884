#!/bin/bash
# dcase_util's process_events() joins the events of one class that touch or lie closer than minimum_event_gap. It takes the end of the event
# that begins last, not the latest end: a chorus from 0 to 10 s, in which someone marked a call from 2 to 3 s, ends at 3 s. event_inactivity(),
# which uses it for all classes together, finds silence from 3 s on, while the chorus goes on.
#
# Who is hurt: whoever cleans annotations of sound in which animals of a species call at once: seconds with the species are gone, and are taken
# as examples of silence. (Each joined event but the last also has the source and tags of the event behind it.)
# What Linnaea does: reads no sound; photographs are joined into events by the time of each (src/linnaea/predict/records/media.py).
#
# Expected: one event from 0 to 10 s, silence from 10 s on. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "dcase_util==0.2.20" "numpy==2.4.6" "librosa==0.11.0"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from dcase_util.containers import MetaDataContainer

marked = [(0.0, 10.0, "chorus"), (2.0, 3.0, "near"), (30.0, 31.0, "far")]
events = MetaDataContainer(
    [
        {"filename": "pond.wav", "event_label": "Hyla arborea", "onset": onset, "offset": offset, "source_label": source}
        for onset, offset, source in marked
    ]
)
joined = [(event.onset, event.offset, event.source_label) for event in events.process_events(minimum_event_gap=1.0)]
silence = [(event.onset, event.offset) for event in events.event_inactivity(duration_list={"pond.wav": 60.0})]
print("dcase_util", version("dcase_util"))
print("expected: 0 to 10 s, 30 to 31 s; silence from 10 to 30 s and from 31 s")
print("seen:", joined, "silence:", silence)
sys.exit(0 if joined == [(0.0, 3.0, "far"), (30.0, 31.0, "far")] and silence[0] == (3.0, 30.0) else 1)
PYTHON
