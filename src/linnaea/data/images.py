"""Decoding, orientation, resizing and encoding of pictures, for all parts of the package.

JPEG is decoded by simplejpeg (libjpeg-turbo with scaled decoding) and OpenCV. Other formats, and files that these
reject, are decoded by Pillow in a process with limits (:mod:`linnaea.data.isolated`). Pictures are ``uint8`` arrays
``[H, W, 3]`` in sRGB (a colour profile is applied), upright by their EXIF orientation, with transparency on white; of
an animation the first frame is used.
"""

import errno
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
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
from linnaea.data.isolated import CallLimits, IsolatedError, run_isolated
from linnaea.errors import LinnaeaError

Picture = NDArray[np.uint8]
"""RGB pixels ``[H, W, 3]``."""

MAX_PIXELS = 300_000_000
"""Larger pictures are rejected undecoded (decompression bombs); 300 megapixels suffice for any camera."""

MAX_BYTES = 1_000_000_000
"""Larger files are rejected unread."""

DECODING = CallLimits(n_bytes=2_000_000_000, seconds=60)
"""What the decoding of one picture that is not a plain JPEG may use."""

_PLAIN_PIXELS, _PLAIN_SCANS = 64_000_000, 100
"""A JPEG with more pixels or more scans (which take time, each for the whole picture) is not plain."""

DEFAULT_SHORT_SIDE = 256
JPEG_QUALITY = 90

Resize: TypeAlias = Literal["short-side", "squash-224"]
"""The two ways to resize: :func:`prepare` keeps the aspect ratio, :func:`squash` follows TreeOfLife-10M."""

SQUASHED_SIDE, SQUASHED_QUALITY = 224, 100
"""Side and JPEG quality of TreeOfLife-10M; webdataset's writer saves pictures with quality 100."""

_EXIF_ORIENTATION = 0x0112
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_MARKER, _JPEG_SCAN = 0xFF, 0xDA
_JPEG_PROGRESSIVE, _JPEG_SCANS = b"\xff\xc2", b"\xff\xda"
_POSTSCRIPT_MAGIC = (b"%!PS", b"\xc5\xd0\xd3\xc6")
"""Formats that are rejected, because Pillow would run Ghostscript on untrusted files."""
_JPEG_MAX_SIDE = 65_500
_LEAST_LINEAR_SCALE = 1 / 1.6
_UPRIGHT = 1
_PASSING_ERRORS = {
    errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE, errno.ENOMEM
}  # fmt: skip

Image.MAX_IMAGE_PIXELS = None  # the check below gives a better message


class ImageError(LinnaeaError):
    """Raised for a picture that cannot be used; the message is the reason, short enough for a table cell."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A picture that is ready for a shard."""

    jpeg: bytes
    width: int
    height: int
    stored_verbatim: bool
    """Whether the input's bytes were kept, because it was an upright RGB JPEG that already fitted."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.jpeg).hexdigest()


def read_image_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        ImageError: the file does not exist, is a folder, is empty, or cannot be read.
        LinnaeaError: the storage fails temporarily (a network disk is unreachable, too many open files).
    """
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            readable = os.access(path, os.R_OK | os.X_OK)
            raise ImageError("is a folder, not an image" if readable else "is a folder that cannot be opened")
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would block
            raise ImageError("not a regular file")
        if facts.st_size > MAX_BYTES:
            raise ImageError(f"too large: {facts.st_size:,} bytes (limit {MAX_BYTES:,})")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError("no such file") from None
    except OSError as error:
        raise_if_passing(error, path)
        raise ImageError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the path
        raise ImageError(f"not a valid path: {error}") from None
    if not data:
        raise ImageError("file is empty")
    return data


def raise_if_passing(error: OSError, path: Path) -> None:
    """Raise a temporary storage error as such; it must not become a reject, which is final.

    Raises:
        LinnaeaError: the error is temporary.
    """
    if error.errno in _PASSING_ERRORS:
        raise LinnaeaError(f"{path}: {error.strerror}; run the same command again when the storage works") from error


def decode(
    data: bytes,
    *,
    min_short_side: int | None = None,
    scratch: NDArray[np.uint8] | None = None,
    max_pixels: int | None = None,
) -> Picture:
    """Decode a picture to upright RGB, ``[H, W, 3]`` uint8.

    With ``min_short_side`` a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as its short
    side is at least that long. This is faster, and the following resize has several times less to do.

    If the picture fits ``scratch``, it may be stored there until ``scratch`` is used again; fresh memory costs a tenth
    of the time. A file with more than ``max_pixels`` (default :data:`MAX_PIXELS`) is rejected undecoded.

    A plain JPEG is decoded here, anything else by :func:`decode_here` in a process with limits.

    Raises:
        ImageError: the data is not a picture, is truncated, is too large, or takes too much memory or time.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if data.startswith(_JPEG_MAGIC):
        picture = _decode_jpeg(data, min_short_side, scratch, limit, plain_only=True)
        if picture is not None:
            return picture
    decoded: Picture = call_apart(decode_here, data, min_short_side, limit)
    return decoded


def call_apart(function: Callable[..., Any], *arguments: Any, limits: CallLimits | None = None) -> Any:
    """Return what a decoding function of a module returns (an array or a JSON value), run in a process with limits.

    Everything that parses an untrusted file which is not a plain JPEG goes through this call.

    Raises:
        ImageError: the function raised one, needed too much memory or time (default :data:`DECODING`), or crashed.
    """
    try:
        return run_isolated(function, arguments, limits or DECODING)
    except IsolatedError as error:
        raise ImageError(str(error)) from None


def decode_here(data: bytes, min_short_side: int | None, max_pixels: int) -> Picture:
    """Decode a picture of any format in this process; see :func:`decode`. Readers of further formats plug in here.

    Raises:
        ImageError: the data is not a picture, is truncated, or is too large.
    """
    if data.startswith(_JPEG_MAGIC):
        picture = _decode_jpeg(data, min_short_side, None, max_pixels, plain_only=False)
        if picture is not None:
            return picture
    return _decode_with_pillow(data, max_pixels)


def decode_image(image: Image.Image) -> Picture:
    """Return the pixels of an opened Pillow image, in the form that :func:`decode` returns.

    Raises:
        ImageError: the image is broken or too large.
    """
    with _explained():
        _check_size(*image.size, None)
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)), dtype=np.uint8)


def decode_array(array: NDArray[Any]) -> Picture:
    """Return the pixels of an array ``[H, W]``, ``[H, W, 3]`` or ``[H, W, 4]`` of uint8 or uint16, as ``decode`` does.

    Grey becomes RGB, transparency becomes white, and 16 bits become 8.

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
    """Return a picture for a shard: a JPEG with a short side of at most ``short_side`` pixels, never enlarged.

    An upright RGB JPEG that already fits is kept byte for byte, if a full decode shows that it is intact.

    Raises:
        ImageError: the data is not a usable picture.
    """
    fits = _fits_verbatim(data, short_side)
    # With a margin of a quarter the area filter is as close to the ideal as from the full picture (47 dB and more).
    picture = decode(data, min_short_side=None if fits else short_side + short_side // 4)
    height, width = picture.shape[:2]
    if fits:
        return Prepared(jpeg=data, width=width, height=height, stored_verbatim=True)
    small = resize_short_side(picture, short_side)
    height, width = small.shape[:2]
    if max(height, width) > _JPEG_MAX_SIDE:
        raise ImageError(f"too long: {width} x {height} pixels do not fit a JPEG (limit {_JPEG_MAX_SIDE:,} per side)")
    jpeg = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return Prepared(jpeg=jpeg, width=width, height=height, stored_verbatim=False)


def squash(data: bytes) -> Prepared:
    """Return a picture as in TreeOfLife-10M: Pillow's bicubic filter to 224 x 224, without the aspect ratio.

    As in TreeOfLife-10M, EXIF orientation and colour profiles are ignored, transparency is dropped, and grey and CMYK
    pictures keep their mode. There are two differences. Modes on which the original fails (16-bit, grey with
    transparency) become RGB as in :func:`decode`. A truncated file, whose missing part the original fills with grey,
    is an error.

    Raises:
        ImageError: the data is not a usable picture.
    """
    small = _squash_here(data, MAX_PIXELS) if _is_plain_jpeg(data) else call_apart(_squash_here, data, MAX_PIXELS)
    mode = "L" if small.ndim == 2 else "CMYK" if small.shape[2] == 4 else "RGB"
    stream = io.BytesIO()
    Image.frombytes(mode, (SQUASHED_SIDE, SQUASHED_SIDE), small.tobytes()).save(
        stream, "JPEG", quality=SQUASHED_QUALITY
    )
    return Prepared(jpeg=stream.getvalue(), width=SQUASHED_SIDE, height=SQUASHED_SIDE, stored_verbatim=False)


def _squash_here(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    with _opened(data, max_pixels) as image:
        if image.mode in ("RGBA", "P"):
            image = image.convert("RGB")  # noqa: PLW2901
        elif image.mode not in ("RGB", "L", "CMYK"):
            image = _to_rgb(image)  # noqa: PLW2901
        small = image.resize((SQUASHED_SIDE, SQUASHED_SIDE), Image.Resampling.BICUBIC)
        return np.asarray(small, dtype=np.uint8)


def resize_short_side(picture: Picture, short_side: int) -> Picture:
    """Shrink a picture to a short side of at most ``short_side`` pixels; the aspect ratio is kept, nothing is enlarged.

    Below 1/1.6 of its size the picture is averaged by area. Above, where averaging blurs and takes six times as long,
    it is sampled linearly. At this scale both are equally close to Pillow's bicubic filter. Both are bit-identical with
    and without SIMD in OpenCV (cubic is not).
    """
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_ = cv2.INTER_LINEAR_EXACT if scale > _LEAST_LINEAR_SCALE else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size, interpolation=filter_), dtype=np.uint8)


def _is_plain_jpeg(data: bytes) -> bool:
    """Return whether decoding takes memory and time in proportion to a moderate number of pixels."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return False
    return width * height <= _PLAIN_PIXELS and _has_few_scans(data, _jpeg_head(data))


def _has_few_scans(data: bytes, head: bytes) -> bool:
    return _JPEG_PROGRESSIVE not in head or data.count(_JPEG_SCANS) <= _PLAIN_SCANS


def _decode_jpeg(
    data: bytes, min_short_side: int | None, scratch: NDArray[np.uint8] | None, max_pixels: int, *, plain_only: bool
) -> Picture | None:
    """Decode a JPEG fast; return ``None`` if Pillow must decode it (CMYK, unusual files, errors to explain).

    With ``plain_only``, return ``None`` also for a JPEG that may take much memory or time.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_size(width, height, max_pixels)
    head = _jpeg_head(data)
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    if plain_only and not (width * height <= _PLAIN_PIXELS and _has_few_scans(data, head)):
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
    profile = _jpeg_profile(head)
    # The profile of a grey JPEG describes grey only, so it is not applied after decoding to RGB.
    if profile and colours != "Gray" and transform_to_srgb(profile, "RGB"):
        picture = np.asarray(to_srgb(Image.fromarray(picture), profile), dtype=np.uint8)
    return _turn_upright(picture, _jpeg_orientation(head))


def _decoding_scale(short_side: int, min_short_side: int | None) -> int:
    """Return the largest of 2, 4 and 8 by which the picture may be reduced, or 0.

    libjpeg supports n/8 for every n, but uses SIMD for these only: 6/8 takes longer than the whole picture.
    """
    if min_short_side is None:
        return 0
    return next((scale for scale in (8, 4, 2) if short_side >= scale * min_short_side), 0)


def _jpeg_head(data: bytes) -> bytes:
    """Return a JPEG up to its first scan, or all of it if no scan is found.

    The head is a small part of the file. It consists of segments: 0xFF, the kind, then the length in two bytes, which
    includes these two bytes.
    """
    place, last, kind = 2, len(data) - 4, 0
    while kind != _JPEG_SCAN:
        if place > last or data[place] != _JPEG_MARKER:
            return data
        kind = data[place + 1]
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return data[:place]


def _jpeg_orientation(data: bytes) -> int:
    """Return the EXIF orientation (1 to 8) in the head of a JPEG."""
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
    """Return the colour profile in the head of a JPEG, empty if there is none."""
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


def _decode_with_pillow(data: bytes, max_pixels: int) -> Picture:
    with _opened(data, max_pixels) as image:
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)), dtype=np.uint8)


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open and decode a picture with Pillow; Pillow's errors become an :class:`ImageError`."""
    if data.startswith(_POSTSCRIPT_MAGIC):
        raise ImageError("not a photograph (PostScript)")
    with _explained(data), Image.open(io.BytesIO(data)) as image:
        _check_size(*image.size, max_pixels)
        image.seek(0)  # the first frame of an animation
        image.load()
        yield image


@contextmanager
def _explained(data: bytes = b"") -> Iterator[None]:
    """Convert every exception of Pillow to an :class:`ImageError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError(_why_unidentified(data)) from None
    except Exception as error:  # Pillow's plug-ins raise many kinds of exceptions on broken data
        if "memory" in str(error).lower():
            raise MemoryError from error
        raise ImageError(_why_broken(error)) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        highest = values.max(initial=0)
        # The range is 0 to 1 (floating point only), bytes or 16 bits; files do not state which.
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
        return "not an image (HTML or XML)"
    if data[:4] == b"%PDF":
        return "not an image (PDF)"
    try:
        data[:512].decode("utf-8")
    except UnicodeDecodeError:
        return "not an image (unknown format)"
    return "not an image (text file)"


def _why_broken(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncated" in text.lower() or "not processed" in text or isinstance(error, EOFError):
        return "image is truncated"
    return f"image is broken: {text or type(error).__name__}"
