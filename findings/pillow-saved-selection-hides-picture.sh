#!/bin/bash
# Pillow takes a selection that was saved in a Photoshop file for transparency, and the photograph disappears.
#
# Surprising: Photoshop keeps saved selections ("alpha channels") as further channels behind red, green and blue. Adobe's
# specification says which files have transparency there: those whose number of layers is below zero. Pillow opens
# every RGB file of four channels as RGBA. On a white page, as a thumbnail, or converted for a model, all that was not
# selected is gone; a file with two saved selections is RGB again.
# Hurt: whoever reads scans and cut-outs that were edited in Photoshop (a digitised herbarium sheet whose specimen was
# once selected): the picture is blank or cut, without a word.
# Linnaea reads the number of layers, and leaves a saved selection out (linnaea.data.photoshop).
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install -q pillow==13.0.0 || exit 2
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys

from PIL import Image, __version__


def photoshop(n_selections, n_layers=0):
    """Return a flat Photoshop file, 60 x 40, of one colour, with saved selections of its upper left quarter."""
    selection = bytes(255 * (x < 30 and y < 20) for y in range(40) for x in range(60))
    layers = struct.pack(">Ih2x", 4, n_layers) + bytes(8) if n_layers else b""
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3 + n_selections, 40, 60, 8, 3) + bytes(8)
    colours = bytes([20]) * 2400 + bytes([120]) * 2400 + bytes([40]) * 2400
    return head + struct.pack(">I", len(layers)) + layers + b"\0\0" + colours + selection * n_selections


def on_white(data):
    """Return the mode of a file, and its pixel at the lower right on a white page."""
    image = Image.open(io.BytesIO(data))
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return image.mode, page.convert("RGB").getpixel((50, 30))


print(f"Pillow {__version__}; a flat file of the colour (20, 120, 40), without layers and so without transparency")
print("expected: RGB and (20, 120, 40), however many selections were saved in it")
seen = {number: on_white(photoshop(number)) for number in (0, 1, 2)}
for number, (mode, pixel) in seen.items():
    print(f"seen with {number} saved selections: {mode}, {pixel} outside of them")
sys.exit(0 if seen[1] == ("RGBA", (255, 255, 255)) and seen[0][0] == seen[2][0] == "RGB" else 1)
PYTHON
