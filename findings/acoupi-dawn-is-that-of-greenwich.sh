#!/bin/bash
# acoupi records with a small computer in the field, and keeps recordings around dawn and dusk: After_DawnDuskTimeInterval and
# Before_DawnDuskTimeInterval as filters, DawnTimeInterval as a condition. They ask astral for the sun at a place that has the name of the time
# zone and nothing else, which is Greenwich. In Nairobi dawn is thus at 8:28 and dusk at 21:47, Greenwich's put on Nairobi's clock;
# the latitude and longitude of the deployment are not asked for. SaveIfInInterval, "from 5 to 8", is given the zone and does not use it:
# recordings have their time in UTC, so that those from 8 to 11 are kept.
#
# Who is hurt: whoever records the dawn chorus away from London: "If a recording does not pass the filters, it is deleted", and what is kept
# was recorded by day.
# What Linnaea does: computes no sun, and moments keep their offset (src/linnaea/predict/records/media.py).
#
# The packages for microphones and messages are left out. Expected: kept within half an hour after 6:15 and 19:04; from 5 to 8. Exits with 1 if
# the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "astral==3.2" "celery==5.5.3" "jinja2==3.1.6" "omegaconf==2.3.0" \
    "psutil" "pydantic==2.12.5" "pydantic-settings==2.12.0" "pyyaml" "requests" "tzdata"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "acoupi==0.8.0"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

for left_out in ("pyaudio", "paho", "paho.mqtt", "paho.mqtt.client", "paho.mqtt.enums", "guano", "pydantic_extra_types"):
    sys.modules[left_out] = MagicMock()

from acoupi import data
from acoupi.components.saving_filters import After_DawnDuskTimeInterval, SaveIfInInterval
from astral import Observer
from astral.sun import dawn, dusk

NAIROBI, DAY = ZoneInfo("Africa/Nairobi"), date(2024, 3, 20)
here = Observer(latitude=-1.29, longitude=36.82)
real = [f"{moment:%H:%M}" for moment in (dawn(here, DAY, tzinfo=NAIROBI), dusk(here, DAY, tzinfo=NAIROBI))]
deployment = data.Deployment(name="forest", latitude=-1.29, longitude=36.82, started_on=datetime(2024, 3, 1, tzinfo=NAIROBI))
after_dawn = After_DawnDuskTimeInterval(duration=30, timezone=NAIROBI)
from_5_to_8 = SaveIfInInterval(data.TimeInterval(start=time(5), end=time(8)), NAIROBI)
kept: dict[str, list[str]] = {"after dawn and dusk": [], "from 5 to 8": []}
for quarter in range(96):
    start = datetime(2024, 3, 20, tzinfo=NAIROBI) + timedelta(minutes=15 * quarter)
    recording = data.Recording(
        path=Path("a.wav"), duration=3, samplerate=48000, created_on=start.astimezone(UTC), deployment=deployment
    )  # the recorder writes UTC
    for name, keeps in zip(kept, (after_dawn, from_5_to_8), strict=True):
        if keeps.should_save_recording(recording):
            kept[name].append(f"{start:%H:%M}")
first_and_last = kept["from 5 to 8"][0], kept["from 5 to 8"][-1]
print("acoupi", version("acoupi"))
print("expected: from 06:15 to 06:45 and from 19:04 to 19:34, as dawn and dusk are at", real, "and from 05:00 to 08:00")
print("seen:    ", kept["after dawn and dusk"], "and", first_and_last)
same = kept["after dawn and dusk"] == ["08:30", "08:45", "22:00", "22:15"] and first_and_last == ("08:00", "11:00")
sys.exit(0 if same and real == ["06:15", "19:04"] else 1)
PYTHON
