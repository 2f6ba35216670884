#!/bin/bash
# movebank-client asks Movebank, which counts in UTC, for the positions of an animal between two times, and sends the digits of these times
# whatever their zone is: from 6 to 9 o'clock in Nairobi becomes 6 to 9 in UTC, three hours later. Without an end, get_individual_events() asks
# up to the moment at which Python read the module, so that a service that runs for a month asks up to the day on which it was started.
#
# Who is hurt: whoever draws positions regularly into a database: the window is of other hours, and in the west the newest positions
# come late; without an end, nothing new comes at all, and an empty answer is no error.
# What Linnaea does: moments keep their offset until they are written (src/linnaea/predict/records/media.py).
#
# The network is replaced by one that notes the question. Expected: 03:00 to 06:00, and up to now. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "movebank-client==1.3.2" "httpx==0.28.1"
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from importlib.metadata import version

import httpx
from movebank_client import MovebankClient

asked = []


def note(request: httpx.Request) -> httpx.Response:
    if "timestamp_start" in request.url.params:
        asked.append((request.url.params["timestamp_start"][:12], request.url.params["timestamp_end"]))
    return httpx.Response(200, text="")


async def ask() -> str:
    nairobi = timezone(timedelta(hours=3))
    start, end = datetime(2024, 3, 1, 6, tzinfo=nairobi), datetime(2024, 3, 1, 9, tzinfo=nairobi)
    async with MovebankClient(base_url="http://localhost", username="u", password="p") as client:
        client._session = httpx.AsyncClient(transport=httpx.MockTransport(note))
        question = {"study_id": "1", "individual_id": "2"}
        [event async for event in client.get_individual_events_by_time(**question, timestamp_start=start, timestamp_end=end)]
        time.sleep(3)  # a month, for a service
        now = datetime.now(UTC)
        [event async for event in client.get_individual_events(**question, timestamp_start=start)]
    return now.strftime("%Y%m%d%H%M%S000")


now = asyncio.run(ask())
(by_time, until), up_to = asked[0], asked[-1][1]
until = until[:12]
print("movebank-client", version("movebank-client"))
print("expected: 202403010300 to 202403010600; up to", now)
print(f"seen:     {by_time} to {until}; up to {up_to}")
sys.exit(0 if (by_time, until) == ("202403010600", "202403010900") and up_to < now else 1)
PYTHON
