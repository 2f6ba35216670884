#!/bin/bash
# panoptes-aggregation puts the answers of Zooniverse's volunteers together. Of a survey it gives each species its choice_count and a
# total_vote_count, "the number of users that classified the subject" says its documentation. It counts marks: whoever marks a deer and
# a fox is counted twice. Photographs with one species are right.
#
# Who is hurt: camera-trap projects, whose photographs come from Zooniverse's surveys and which take choice_count by total_vote_count for
# the agreement: where two species stand together, each seems to be seen by half of the people, and the photograph goes back to be
# looked at again, or counts as not agreed on. Mixed herds and predators with their prey are lost, and single animals are not.
# What Linnaea does: counts each reviewer of a photograph once (src/linnaea/predict/records/decisions.py).
#
# Expected: 4 of 4 saw the deer and 3 of 4 the fox. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "panoptes_aggregation==5.3.1" "pandas==2.3.3" "numpy==2.2.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from panoptes_aggregation.extractors import survey_extractor
from panoptes_aggregation.reducers import survey_reducer

VOLUNTEERS = [["DEER"], ["DEER", "FOX"], ["DEER", "FOX"], ["DEER", "FOX"]]
marks = []
for seen in VOLUNTEERS:
    value = [{"choice": species, "answers": {"HOWMANY": "1"}} for species in seen]
    marks += survey_extractor({"annotations": {"T0": [{"task": "T0", "value": value}]}})
counts = {one["choice"]: (one["choice_count"], one["total_vote_count"]) for one in survey_reducer(marks)}
print("panoptes_aggregation", version("panoptes_aggregation"))
print("expected:", {"deer": (4, 4), "fox": (3, 4)})
print("seen:    ", counts)
sys.exit(0 if counts == {"deer": (4, 7), "fox": (3, 7)} else 1)
PYTHON
