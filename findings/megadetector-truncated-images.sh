#!/usr/bin/env bash
# Importing MegaDetector's package lets Pillow fill damaged photographs with grey, in the whole process.
#
# Surprise: `import megadetector.detection.run_detector` (by way of visualization_utils) sets
# PIL.ImageFile.LOAD_TRUNCATED_IMAGES = True and leaves it so. From then on every user of Pillow in that process gets a
# photograph cut off in the middle of a copy without an error, its lower half grey. SpeciesNet 5.0.6 (speciesnet/utils.py)
# does the same.
# Hurt: whoever runs a detector and a classifier in one program. Half photographs of a broken card are counted as
# photographs, often as blank ones, and no list of failures names them.
# Linnaea: `predict --detector` puts the setting back after every call of the package (predict/detector.py), so that damaged
# photographs fail with a reason; a test holds it to that.
#
# Exits 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps megadetector-utils==10.0.28 numpy==2.2.6 pillow==12.0.0 tqdm==4.67.1 \
  requests==2.32.5 urllib3==2.5.0 idna==3.11 certifi==2025.10.5 charset-normalizer==3.4.4 matplotlib==3.10.7 \
  contourpy==1.3.3 cycler==0.12.1 fonttools==4.60.1 kiwisolver==1.4.9 packaging==25.0 pyparsing==3.2.5 \
  python-dateutil==2.9.0.post0 six==1.17.0 jsonpickle==4.1.1 humanfriendly==10.0 opencv-python-headless==4.12.0.88 \
  pandas==2.3.3 pytz==2025.2 tzdata==2025.2 pytest==8.4.2 pluggy==1.6.0 iniconfig==2.1.0 pygments==2.19.2
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image

stream = io.BytesIO()
Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)).save(stream, "JPEG")
half = stream.getvalue()[: stream.tell() // 2]


def read() -> str:
    try:
        with Image.open(io.BytesIO(half)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        return f"OSError: {error}"
    return f"{pixels.shape[1]} x {pixels.shape[0]} pixels, the last row all {sorted({int(value) for value in pixels[-1].ravel()})}"


before = read()
import megadetector.visualization.visualization_utils  # noqa: E402, F401

after = read()
print("megadetector-utils", version("megadetector-utils"), "pillow", version("pillow"))
print("expected: half a JPEG is an OSError, whatever else is imported")
print("before the import:", before)
print("after the import: ", after)
sys.exit(0 if before.startswith("OSError") and not after.startswith("OSError") else 1)
PYTHON
