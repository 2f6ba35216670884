"""Read from Photoshop files what Pillow does not tell: whether there is a composite, and what the fourth channel is.

Source: Adobe Photoshop File Formats Specification, "Photoshop File Format".
"""

from linnaea.data.picture import ImageError

PHOTOSHOP_MAGIC = b"8BPS"

_HEAD_BYTES = 26
_NO_COMPOSITE = 1057
"""The block that says whether the file holds the composite of its layers."""


def check_photoshop(data: bytes) -> None:
    """Refuse the kinds of Photoshop files that Pillow does not read.

    Raises:
        ImageError: the file is a large document, has more than 8 bits per channel, or holds its layers only.
    """
    if not data.startswith(PHOTOSHOP_MAGIC):
        return
    n_bits = int.from_bytes(data[22:24], "big")
    if data[4:6] == b"\0\2":
        raise ImageError("Photoshop's large format (PSB) is not read; save it as TIFF")
    if n_bits > 8:
        raise ImageError(f"Photoshop file of {n_bits} bits per channel is not read; save it as TIFF, or with 8 bits")
    block = b"8BIM" + _NO_COMPOSITE.to_bytes(2, "big")
    place = data.find(block, 0, _layers_start(data))
    if place >= 0 and data[place + 16 : place + 17] == b"\0":  # name (2), length (4), version (4)
        raise ImageError("Photoshop file without a composite; save it with 'Maximize compatibility'")


def has_transparency(data: bytes) -> bool:
    """Return whether the channel after the colours is transparency, and not a selection that the user saved.

    It is transparency if the number of layers is negative.
    """
    layers = _layers_start(data)
    has_layers = data[layers : layers + 4] != bytes(4) and data[layers + 4 : layers + 8] != bytes(4)
    return has_layers and data[layers + 8 : layers + 9] >= b"\x80"


def _layers_start(data: bytes) -> int:
    """Return where the section of layers begins, behind the table of colours and the resources."""
    place = _HEAD_BYTES
    for _ in range(2):
        place += 4 + int.from_bytes(data[place : place + 4], "big")
    return place
