"""The orientation that a camera or an editor states, and pictures turned upright by it."""

import numpy as np
from PIL import Image

from linnaea.data.picture import Picture

UPRIGHT = 1

_ORIENTATION = 0x0112


def orientation_of(image: Image.Image) -> int:
    """Return the orientation of an open picture, 1 to 8: that of EXIF, else that of XMP, else upright."""
    try:
        orientation = int(image.getexif().get(_ORIENTATION, UPRIGHT))
    except (OSError, ValueError, TypeError, SyntaxError, KeyError):
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def turn_upright(picture: Picture, orientation: int) -> Picture:
    """Return the picture as it is to be seen; ``orientation`` is EXIF's (CIPA DC-008, section 4.6.4)."""
    match orientation:
        case 2:
            turned = picture[:, ::-1]
        case 3:
            turned = picture[::-1, ::-1]
        case 4:
            turned = picture[::-1]
        case 5:
            turned = picture.transpose(1, 0, 2)
        case 6:
            turned = picture.transpose(1, 0, 2)[:, ::-1]
        case 7:
            turned = picture.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            turned = picture.transpose(1, 0, 2)[::-1]
        case _:
            return picture
    return np.ascontiguousarray(turned)
