#!/bin/bash
# cantopy downloads xeno-canto's recordings with several workers, takes the outcomes in the order in which they come in, and
# gives them to the recordings in the order in which they were asked for. A recording that is gone fails at once, and so marks the first
# one as failed; the first one's success goes to the recording that is gone. With one worker, the default, all is right; the
# documentation's example has two.
#
# Who is hurt: recordists, and whoever trains on the recordings: the table beside them lists a recording that is not there, and lacks one
# that is, with its recordist and its licence. A second run does not mend it: what is there is passed over.
# What Linnaea does: writes each picture's outcome together with its address (src/linnaea/data/download/fetch.py).
#
# Expected: the recording that is there, by Anna. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "cantopy==0.2.6" "pandas==2.3.3" "numpy==2.4.6" "requests==2.34.2"
mkdir "$folder/recordings"
"$folder/venv/bin/python" - "$folder/recordings" <<'PYTHON'
import csv
import http.server
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

from cantopy import DownloadManager
from cantopy.xenocanto_components import QueryResult, Recording


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/1.mp3":
            time.sleep(1)
        self.send_response(200 if self.path == "/1.mp3" else 404)
        self.end_headers()
        self.wfile.write(b"song")

    def log_message(self, *words: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
root = f"http://127.0.0.1:{server.server_port}"
recordings = [
    Recording({"id": str(n), "en": "Common Blackbird", "rec": who, "file": f"{root}/{n}.mp3"})
    for n, who in [(1, "Anna"), (2, "Ben")]
]
answer = QueryResult.__new__(QueryResult)
answer.get_all_recordings = lambda: recordings
folder = Path(sys.argv[1])
DownloadManager(str(folder), max_workers=2).download_all_recordings_in_queryresult(answer)
there = sorted(path.name for path in folder.rglob("*.mp3"))
with next(folder.rglob("*.csv")).open() as file:
    listed = [(row["recording_id"], row["recordist_name"]) for row in csv.DictReader(file)]
print("cantopy", version("cantopy"), "pandas", version("pandas"))
print("expected:", ["1.mp3"], [("1", "Anna")])
print("seen:    ", there, listed)
sys.exit(0 if (there, listed) == (["1.mp3"], [("2", "Ben")]) else 1)
PYTHON
