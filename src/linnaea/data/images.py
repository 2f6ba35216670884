"""Pixels on the way in: decode, turn upright, resize, encode. The only place that touches them.

JPEG goes through simplejpeg (libjpeg-turbo with scaled decoding) and OpenCV; everything else, and whatever
these refuse, through Pillow. Pictures come out as ``uint8`` arrays ``[H, W, 3]`` in sRGB (a colour profile is
applied), upright by their EXIF orientation, transparency on white, of an animation the first frame.
"""

import errno
import hashlib
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from linnaea.data.colours import to_srgb, transform_to_srgb
from linnaea.errors import LinnaeaError

Picture = NDArray[np.uint8]
"""Pixels ``[H, W, 3]``, RGB."""

MAX_PIXELS = 300_000_000
"""Larger pictures are refused unread (decompression bombs); 300 megapixels hold any camera's photograph."""

MAX_BYTES = 1_000_000_000
"""Larger files are refused unread."""

DEFAULT_SHORT_SIDE = 256
JPEG_QUALITY = 90

Resize: TypeAlias = Literal["short-side", "squash-224"]
"""How pictures become small: :func:`prepare` keeps their shape, :func:`squash` does as TreeOfLife-10M did."""

SQUASHED_SIDE, SQUASHED_QUALITY = 224, 100
"""Of TreeOfLife-10M; 100 is what webdataset's writer saves pictures with."""

_EXIF_ORIENTATION = 0x0112
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_MARKER, _JPEG_SCAN = 0xFF, 0xDA
_POSTSCRIPT_MAGIC = (b"%!PS", b"\xc5\xd0\xd3\xc6")
"""Pillow would run Ghostscript on what a stranger sends."""
_JPEG_MAX_SIDE = 65_500
_LEAST_LINEAR_SCALE = 1 / 1.6
_UPRIGHT = 1
_PASSING_ERRORS = {
    errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE, errno.ENOMEM
}  # fmt: skip

Image.MAX_IMAGE_PIXELS = None  # our own check, below, gives the better message


class ImageError(LinnaeaError):
    """A picture that cannot be used; the message is the reason, short enough for a table cell."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A picture as it goes into a shard."""

    jpeg: bytes
    width: int
    height: int
    stored_verbatim: bool
    """Whether the input's own bytes were kept: it was an upright RGB JPEG that already fitted."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.jpeg).hexdigest()


def read_image_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: there is no such file, it is a folder, empty, or cannot be read.
        LinnaeaError: the storage fails for now (a network disk that is gone, no more open files).
    """
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise ImageError("is a folder, not an image")
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for ever
            raise ImageError("is no regular file")
        if facts.st_size > MAX_BYTES:
            raise ImageError(f"too large: {facts.st_size:,} bytes (limit {MAX_BYTES:,})")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("no such file") from None
    except OSError as error:
        raise_if_passing(error, path)
        raise ImageError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the path
        raise ImageError(f"is no path: {error}") from None
    if not data:
        raise ImageError("file is empty")
    return data


def raise_if_passing(error: OSError, path: Path) -> None:
    """Stop for an error that says nothing about the file: a reject is for good, a lost network disk is not.

    Raises:
        LinnaeaError: the error may pass.
    """
    if error.errno in _PASSING_ERRORS:
        raise LinnaeaError(f"{path}: {error.strerror}; run the same command again when it has passed") from error


def decode(
    data: bytes,
    *,
    min_short_side: int | None = None,
    scratch: NDArray[np.uint8] | None = None,
    max_pixels: int | None = None,
) -> Picture:
    """Decode a picture: upright, RGB, ``[H, W, 3]`` uint8.

    With ``min_short_side`` a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as its
    short side stays at least that long: faster, and the resize that follows has several times less to do.

    The picture may lie in ``scratch`` where it fits, and then lasts until that is used again: fresh memory costs a
    tenth of the time. More than ``max_pixels`` (else :data:`MAX_PIXELS`) by the file's own word are refused undecoded.

    Raises:
        ImageError: the data is no picture, truncated, or too large.
    """
    if data.startswith(_JPEG_MAGIC):
        picture = _decode_plain_jpeg(data, min_short_side, scratch, max_pixels)
        if picture is not None:
            return picture
    return _decode_with_pillow(data, max_pixels)


def decode_image(image: Image.Image) -> Picture:
    """Return the pixels of an image that Pillow has opened, as :func:`decode` returns those of a file.

    Raises:
        ImageError: the image is broken or too large.
    """
    with _explained():
        _check_size(*image.size, None)
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)), dtype=np.uint8)


def decode_array(array: NDArray[Any]) -> Picture:
    """Return the pixels of an array ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]`` of uint8 or uint16, as those of a file.

    Grey becomes RGB, transparency white, 16 bits 8.

    Raises:
        ImageError: the array has another shape or type.
    """
    if array.dtype not in (np.uint8, np.uint16) or not (
        array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    ):
        raise ImageError(
            f"not a picture: {array.dtype} of shape {array.shape}; give uint8 or uint16 [H, W], [H, W, 3] or [H, W, 4]"
        )
    _check_size(array.shape[1], array.shape[0], None)
    if array.dtype == np.uint16:
        array = _to_bytes(array.astype(np.float64), 255 if array.max() <= 255 else 65_535)
    return np.asarray(_to_rgb(Image.fromarray(np.ascontiguousarray(array))), dtype=np.uint8)


def prepare(data: bytes, *, short_side: int = DEFAULT_SHORT_SIDE, quality: int = JPEG_QUALITY) -> Prepared:
    """A picture as a shard holds it: short side at most ``short_side`` pixels, never enlarged, JPEG.

    An upright RGB JPEG that already fits is kept byte for byte (after a full decode has shown it whole).

    Raises:
        ImageError: the data is no usable picture.
    """
    fits = _fits_verbatim(data, short_side)
    # With a quarter to spare the area filter comes as near to the ideal as from the full picture (47 dB and more).
    picture = decode(data, min_short_side=None if fits else short_side + short_side // 4)
    height, width = picture.shape[:2]
    if fits:
        return Prepared(jpeg=data, width=width, height=height, stored_verbatim=True)
    small = resize_short_side(picture, short_side)
    height, width = small.shape[:2]
    if max(height, width) > _JPEG_MAX_SIDE:
        raise ImageError(f"too long: {width} x {height} pixels do not fit a JPEG (limit {_JPEG_MAX_SIDE:,} a side)")
    jpeg = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return Prepared(jpeg=jpeg, width=width, height=height, stored_verbatim=False)


def squash(data: bytes) -> Prepared:
    """A picture as TreeOfLife-10M holds it: Pillow's bicubic filter straight to 224 x 224, the shape is lost.

    Nothing else is done, as there: EXIF orientation and colour profiles are not looked at, transparency is dropped,
    grey and CMYK pictures stay so. Where theirs fails (16-bit, grey with transparency) the picture becomes RGB as in
    :func:`decode`; where theirs goes on with the grey rest of a truncated file, ours is an error.

    Raises:
        ImageError: the data is no usable picture.
    """
    with _opened(data) as image:
        if image.mode in ("RGBA", "P"):
            image = image.convert("RGB")  # noqa: PLW2901
        elif image.mode not in ("RGB", "L", "CMYK"):
            image = _to_rgb(image)  # noqa: PLW2901
        small = image.resize((SQUASHED_SIDE, SQUASHED_SIDE), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=SQUASHED_QUALITY)
    return Prepared(jpeg=stream.getvalue(), width=SQUASHED_SIDE, height=SQUASHED_SIDE, stored_verbatim=False)


def resize_short_side(picture: Picture, short_side: int) -> Picture:
    """Shrink so that the short side has at most ``short_side`` pixels; the aspect ratio is kept, nothing enlarged.

    To less than 1/1.6 of its size the picture is averaged by area; above, where that blurs and takes six times as
    long, it is sampled linearly: both as near to Pillow's bicubic filter as the other where they meet. Both are
    bit-identical with and without SIMD in OpenCV (cubic is not).
    """
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_ = cv2.INTER_LINEAR_EXACT if scale > _LEAST_LINEAR_SCALE else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=filter_), dtype=np.uint8)


def _decode_plain_jpeg(
    data: bytes, min_short_side: int | None, scratch: NDArray[np.uint8] | None, max_pixels: int | None
) -> Picture | None:
    """The fast path; ``None`` where Pillow has to look (CMYK, odd files, errors to be explained)."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_size(width, height, max_pixels)
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    target: dict[str, Any] = {}
    if scale := _decoding_scale(min(height, width), min_short_side):
        height, width = -(-height // scale), -(-width // scale)
        target = {"min_height": height, "min_width": width}
    if scratch is not None and 3 * height * width <= scratch.size:
        target["buffer"] = scratch
    try:
        picture: Picture = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True, **target)
    except ValueError:
        return None
    head = _jpeg_head(data)
    profile = _jpeg_profile(head)
    # The profile of a grey JPEG is about grey alone; decoded to RGB it is left as it is.
    if profile and colours != "Gray" and transform_to_srgb(profile, "RGB"):
        picture = np.asarray(to_srgb(Image.fromarray(picture), profile), dtype=np.uint8)
    return _turn_upright(picture, _jpeg_orientation(head))


def _decoding_scale(short_side: int, min_short_side: int | None) -> int:
    """The largest of 2, 4 and 8 that the picture may be divided by, else 0.

    libjpeg can do n/8 for every n, but only these in SIMD: 6/8 takes longer than the whole picture.
    """
    if min_short_side is None:
        return 0
    return next((scale for scale in (8, 4, 2) if short_side >= scale * min_short_side), 0)


def _jpeg_head(data: bytes) -> bytes:
    """A JPEG up to its first scan: what describes it, a small part of its bytes; all of it where no scan is found.

    It consists of segments: 0xFF, its kind, then its length in two bytes, which count too.
    """
    place, last, kind = 2, len(data) - 4, 0
    while kind != _JPEG_SCAN:
        if place > last or data[place] != _JPEG_MARKER:
            return data
        kind = data[place + 1]
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return data[:place]


def _jpeg_orientation(data: bytes) -> int:
    """The EXIF orientation (1 to 8) of a JPEG from its head."""
    if b"Exif" not in data:
        return _UPRIGHT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return int(image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT))
    except (OSError, ValueError, TypeError, SyntaxError):
        return _UPRIGHT


def _jpeg_profile(data: bytes) -> bytes:
    """The colour profile of a JPEG from its head, empty if there is none."""
    if b"ICC_PROFILE\0" not in data:
        return b""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                return image.info.get("icc_profile") or b""
    except (OSError, ValueError, TypeError, SyntaxError):
        return b""


def _turn_upright(picture: Picture, orientation: int) -> Picture:
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


def _decode_with_pillow(data: bytes, max_pixels: int | None) -> Picture:
    with _opened(data, max_pixels) as image:
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)), dtype=np.uint8)


@contextmanager
def _opened(data: bytes, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """A picture in Pillow's hands, decoded; whatever Pillow says against it becomes a reason."""
    if data.startswith(_POSTSCRIPT_MAGIC):
        raise ImageError("is no photograph (PostScript)")
    with _explained(data), Image.open(io.BytesIO(data)) as image:
        _check_size(*image.size, max_pixels)
        image.seek(0)  # the first frame of an animation
        image.load()
        yield image


@contextmanager
def _explained(data: bytes = b"") -> Iterator[None]:
    """Turn whatever Pillow raises into an :class:`ImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(data)) from None
    except Exception as error:  # Pillow's plug-ins raise nearly anything on broken data
        raise ImageError(_why_broken(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        highest = values.max(initial=0)
        # Fractions (in floating point alone), bytes, or 16 bits: files do not say which.
        top = 1 if image.mode == "F" and highest <= 1 else 255 if highest <= 255 else 65_535
        return Image.fromarray(_to_bytes(values, top)).convert("RGB")
    profile = image.info.get("icc_profile") or b""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        colours = to_srgb(rgba.convert("RGB"), profile)
        colours.putalpha(rgba.getchannel("A"))
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    if image.mode in ("CMYK", "LAB"):
        return to_srgb(image, profile)
    return to_srgb(image.convert("RGB"), b"" if image.mode in ("L", "1") else profile)


def _to_bytes(values: NDArray[np.float64], top: int) -> NDArray[np.uint8]:
    """Scale values between 0 and ``top`` to whole numbers between 0 and 255."""
    return (values.clip(0, top) * (255 / top)).round().astype(np.uint8)


def _fits_verbatim(data: bytes, short_side: int) -> bool:
    if not data.startswith(_JPEG_MAGIC):
        return False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    head = _jpeg_head(data)
    if min(height, width) > short_side or colours != "YCbCr" or _jpeg_orientation(head) != _UPRIGHT:
        return False
    return transform_to_srgb(_jpeg_profile(head), "RGB") is None


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if width * height > limit:
        raise ImageError(f"too large: {width} x {height} pixels (limit {limit:,})")
    if width == 0 or height == 0:
        raise ImageError("has no pixels")


def _why_unidentified(data: bytes) -> str:
    head = data[:512].lstrip()
    if head[:1] == b"<":
        return "is no image (an HTML or XML page)"
    if data[:4] == b"%PDF":
        return "is no image (a PDF)"
    try:
        data[:512].decode("utf-8")
    except UnicodeDecodeError:
        return "is no image (unknown format)"
    return "is no image (a text file)"


def _why_broken(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncated" in text.lower() or "not processed" in text or isinstance(error, EOFError):
        return "image is truncated"
    return f"image is broken: {text or type(error).__name__}"
