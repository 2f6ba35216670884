#!/bin/bash
# open_clip's preprocess resizes a picture before it converts it to RGB. Pillow resizes palettes and 1-bit pictures by
# taking the nearest pixel, whatever filter is asked for: `preprocess(Image.open(path))`, as in open_clip's README, gives
# PNG-8 and GIF files, and the 1-bit scans of old plates, without antialiasing. open_clip's own loader of shards
# (`pilrgb`) converts first, so a tower is trained on other pixels than it is asked about.
#
# Who is hurt: whoever embeds drawings, plates, or pictures from the web; most thin lines of a scan are gone or broken.
# What Linnaea does: decodes every file to RGB first (src/linnaea/data/images.py), then resizes
# (src/linnaea/model/preprocess.py); a test holds it to that.
#
# Expected: the same pixels, whether the caller converts or preprocess does. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "open_clip_torch==3.3.0" "timm==1.0.31" "torch==2.15.0" \
  "torchvision==0.29.2" "pillow==13.0.0" "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from open_clip.transform import image_transform
from PIL import Image, ImageDraw

folder = Path(sys.argv[1])
plate = Image.new("RGB", (1800, 1800), "white")  # a beetle in thin lines
draw = ImageDraw.Draw(plate)
for number in range(40):
    draw.ellipse((500 + 10 * number, 300 + 15 * number, 1300 - 10 * number, 1500 - 15 * number), outline="black", width=2)
    draw.line((900, 900, 20 + 45 * number, 100 if number % 2 else 1700), fill="black", width=2)
plate.convert("1").save(folder / "1-bit.png")
noise = np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)
Image.fromarray(noise).resize((1800, 1800), Image.Resampling.BICUBIC).quantize(256).save(folder / "palette.png")
preprocess = image_transform(224, is_train=False, mean=(0, 0, 0), std=(1 / 255,) * 3)
print("open_clip", version("open_clip_torch"), "pillow", version("pillow"))
print("expected: the same pixels either way")
changed = []
for name in ("1-bit", "palette"):
    with Image.open(folder / f"{name}.png") as picture:
        given, converted = preprocess(picture).numpy(), preprocess(picture.convert("RGB")).numpy()
        nearest = picture.convert("RGB").resize((224, 224), Image.Resampling.NEAREST)
    changed.append(float(np.abs(given - converted).mean()))
    same = bool((given.round() == np.asarray(nearest).transpose(2, 0, 1)).all())
    print(f"seen: {name}: differs by {changed[-1]:.1f} of 255 on average, {np.abs(given - converted).max():.0f} at most; "
          f"{'the nearest pixels' if same else 'not the nearest pixels'}")
sys.exit(0 if changed[0] > 5 and changed[1] > 1 else 1)
PYTHON
