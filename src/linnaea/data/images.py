"""The one reader of pictures for all parts of the package, and resizing and encoding.

Plain JPEGs are decoded by :mod:`linnaea.data.jpegs`, TIFFs of more than 8 bits by :mod:`linnaea.data.tiffs`, raw
photographs through their preview (:mod:`linnaea.data.raws`), HEIC by pillow-heif, everything else by Pillow. All but
plain JPEGs are decoded in a process with limits (:mod:`linnaea.data.isolated`).

Pictures are ``uint8`` arrays ``[H, W, 3]`` in sRGB (a colour profile is applied), upright by their EXIF or XMP
orientation, with transparency on white; of an animation the first frame is used. A file whose pixels are damaged or
cannot be read rightly is an error.
"""

import errno
import hashlib
import io
import os
import stat
import struct
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
from PIL import Image, UnidentifiedImageError

from linnaea.data.colours import profile_of_cicp, to_srgb
from linnaea.data.depth import to_bytes
from linnaea.data.file_kinds import is_truncated_picture, kind_of, note_hole, why_not_an_image
from linnaea.data.isolated import CallLimits, IsolatedError, run_isolated
from linnaea.data.jpegs import JPEG_MAGIC, decode_jpeg, is_plain_jpeg, is_upright_srgb_jpeg, make_intact
from linnaea.data.orientation import orientation_of, turn_upright
from linnaea.data.photoshop import check_photoshop, has_transparency
from linnaea.data.picture import ImageError, OnNote, Picture, check_size, ignore_note, pixel_limit
from linnaea.data.pngs import check_png, decode_dim_png
from linnaea.errors import LinnaeaError

__all__ = ["ImageError", "Picture", "Prepared", "Resize", "call_apart", "decode", "decode_array", "decode_image",
           "open_image", "prepare", "raise_if_passing", "read_image_file", "resize_short_side", "squash"]  # fmt: skip

MAX_BYTES = 1_000_000_000
"""Larger files are rejected unread."""

DECODING = CallLimits(n_bytes=2_000_000_000, seconds=60)
"""The limits of decoding one picture that is not a plain JPEG."""

DEFAULT_SHORT_SIDE = 256
JPEG_QUALITY = 90

Resize: TypeAlias = Literal["short-side", "squash-224"]
"""The two ways to resize: :func:`prepare` keeps the aspect ratio, :func:`squash` follows TreeOfLife-10M."""

SQUASHED_SIDE, SQUASHED_QUALITY = 224, 100
"""Side and JPEG quality of TreeOfLife-10M; webdataset's writer saves pictures with quality 100."""

_POSTSCRIPT_MAGIC = (b"%!PS", b"\xc5\xd0\xd3\xc6")
"""Formats that are rejected, because Pillow would run Ghostscript on untrusted files."""
_COMPRESSED = ("HEIC", "AVIF", "WebP", "JPEG 2000")
_JPEG_MAX_SIDE = 65_500
_LEAST_LINEAR_SCALE = 1 / 1.6
_PASSING_ERRORS = {
    errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EMFILE, errno.ENFILE, errno.ENOMEM
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A picture that is ready for a shard."""

    jpeg: bytes
    width: int
    height: int
    stored_verbatim: bool
    """True if the input's bytes were kept, because it was an upright RGB JPEG that already fitted."""

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
    return check_not_empty(data)


def check_not_empty(data: bytes) -> bytes:
    """Return the bytes of a file.

    Raises:
        ImageError: there are none.
    """
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
    on_note: OnNote = ignore_note,
) -> Picture:
    """Decode a picture to upright RGB, ``[H, W, 3]`` uint8.

    With ``min_short_side`` a JPEG may be decoded at a half, a quarter or an eighth of its size, as long as its short
    side is at least that long. This is faster, and the following resize has several times less to do.

    If the picture fits ``scratch``, it may be stored there until ``scratch`` is used again; fresh memory costs a tenth
    of the time. A file with more than ``max_pixels`` (default :data:`linnaea.data.picture.MAX_PIXELS`) is rejected
    undecoded. ``on_note`` is called with what is unusual about the file, such as a raw photograph read by its preview.

    A plain JPEG is decoded here, anything else by :func:`decode_here` in a process with limits.

    Raises:
        ImageError: the data is not a picture, is damaged, is too large, or takes too much memory or time.
    """
    if data.startswith(JPEG_MAGIC):
        picture = decode_jpeg(data, min_short_side, scratch, max_pixels, plain_only=True, on_note=on_note)
        if picture is not None:
            return picture
    decoded, notes = call_apart(decode_noted_here, data, min_short_side, pixel_limit(max_pixels))
    for note in notes:
        on_note(note)
    result: Picture = decoded
    return result


def call_apart(function: Callable[..., Any], *arguments: Any, limits: CallLimits | None = None) -> Any:
    """Return what a decoding function of a module returns (see :func:`run_isolated`), run in a process with limits.

    Everything that parses an untrusted file which is not a plain JPEG goes through this call.

    Raises:
        ImageError: the function raised one, needed too much memory or time (default :data:`DECODING`), or crashed.
    """
    try:
        return run_isolated(function, arguments, limits or DECODING)
    except IsolatedError as error:
        raise ImageError(str(error)) from None


def decode_here(data: bytes, min_short_side: int | None, max_pixels: int | None) -> Picture:
    """Decode a picture of any format in this process; see :func:`decode`.

    Raises:
        ImageError: the data is not a picture, is damaged, or is too large.
    """
    return decode_noted_here(data, min_short_side, max_pixels)[0]


def decode_noted_here(data: bytes, min_short_side: int | None, max_pixels: int | None) -> tuple[Picture, list[str]]:
    """Return what :func:`decode_here` returns, and the notes on the file."""
    notes: list[str] = []
    if data.startswith(JPEG_MAGIC):
        picture = decode_jpeg(data, min_short_side, None, max_pixels, plain_only=False, on_note=notes.append)
        if picture is not None:
            return picture, notes
    return _decode_other(data, max_pixels, notes.append), notes


def decode_image(image: Image.Image) -> Picture:
    """Return the pixels of an opened Pillow image, in the form that :func:`decode` returns.

    Raises:
        ImageError: the image is broken or too large.
    """
    with _explained():
        check_size(*image.size)
        return turn_upright(np.asarray(_to_rgb(image), dtype=np.uint8), orientation_of(image))


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
    check_size(array.shape[1], array.shape[0])
    if array.dtype == np.uint16:
        array = to_bytes(array)
    return np.asarray(_to_rgb(Image.fromarray(np.ascontiguousarray(array))), dtype=np.uint8)


def prepare(data: bytes, *, short_side: int = DEFAULT_SHORT_SIDE, quality: int = JPEG_QUALITY) -> Prepared:
    """Return a picture for a shard: a JPEG with a short side of at most ``short_side`` pixels, never enlarged.

    An upright RGB JPEG that already fits is kept byte for byte, if a full decode shows that it is intact.

    Raises:
        ImageError: the data is not a usable picture.
    """
    fits = is_upright_srgb_jpeg(data, short_side)
    notes: list[str] = []
    # With a margin of a quarter the area filter is as close to the ideal as from the full picture (47 dB and more).
    picture = decode(data, min_short_side=None if fits else short_side + short_side // 4, on_note=notes.append)
    height, width = picture.shape[:2]
    if fits and not notes:  # a JPEG without its end marker is stored with one
        return Prepared(jpeg=data, width=width, height=height, stored_verbatim=True)
    small = resize_short_side(picture, short_side)
    height, width = small.shape[:2]
    if max(height, width) > _JPEG_MAX_SIDE:
        raise ImageError(f"too long: {width} x {height} pixels do not fit a JPEG (limit {_JPEG_MAX_SIDE:,} per side)")
    jpeg = simplejpeg.encode_jpeg(
        np.ascontiguousarray(small), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return Prepared(jpeg=jpeg, width=width, height=height, stored_verbatim=False)


def cut_out(data: bytes, x: float, y: float, width: float, height: float) -> bytes:
    """Return a part of a picture as a PNG; ``x`` and ``y`` are its upper left corner in pixels.

    A part that reaches over the edge is clipped to the picture.

    Raises:
        ImageError: the data is not a usable picture, or the part has no pixel of it.
    """
    picture = decode(data)
    left, top = max(0, round(x)), max(0, round(y))
    part = picture[top : max(top, round(y + height)), left : max(left, round(x + width))]
    if not part.size:
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        raise ImageError(f"box has no pixel of the picture -- {x:g},{y:g} {width:g} x {height:g} of {size}")
    blue_first = np.ascontiguousarray(part[:, :, ::-1])
    return cv2.imencode(".png", blue_first, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()


def squash(data: bytes) -> Prepared:
    """Return a picture as in TreeOfLife-10M: Pillow's bicubic filter to 224 x 224, without the aspect ratio.

    As in TreeOfLife-10M, EXIF orientation and colour profiles are ignored, transparency is dropped, and grey and CMYK
    pictures keep their mode. There are two differences. Modes on which the original fails (16-bit, grey with
    transparency) become RGB as in :func:`decode`. A truncated file, whose missing part the original fills with grey,
    is an error.

    Raises:
        ImageError: the data is not a usable picture.
    """
    small = (
        _squash_here(data, pixel_limit(None))
        if is_plain_jpeg(data)
        else call_apart(_squash_here, data, pixel_limit(None))
    )
    mode = "L" if small.ndim == 2 else "CMYK" if small.shape[2] == 4 else "RGB"
    stream = io.BytesIO()
    Image.frombytes(mode, (SQUASHED_SIDE, SQUASHED_SIDE), small.tobytes()).save(
        stream, "JPEG", quality=SQUASHED_QUALITY
    )
    return Prepared(jpeg=stream.getvalue(), width=SQUASHED_SIDE, height=SQUASHED_SIDE, stored_verbatim=False)


def _squash_here(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    if data.startswith(JPEG_MAGIC):
        return _squash_image(make_intact(data), max_pixels, 0)
    read = _read_without_pillow(data, max_pixels, ignore_note)
    if isinstance(read, int):
        return _squash_image(data, max_pixels, read)
    small = Image.fromarray(read[0]).resize((SQUASHED_SIDE, SQUASHED_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.uint8)


def _squash_image(data: bytes, max_pixels: int, page: int) -> NDArray[np.uint8]:
    with _opened(data, max_pixels, page) as image:
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


def _decode_other(data: bytes, max_pixels: int | None, on_note: OnNote) -> Picture:
    """Decode what is not a plain JPEG."""
    read = _read_without_pillow(data, max_pixels, on_note)
    if not isinstance(read, int):
        picture, orientation = read
        return turn_upright(picture, orientation)
    if data.startswith(JPEG_MAGIC):
        data = make_intact(data, on_note)
    if kind_of(data) in _COMPRESSED:
        note_hole(data, on_note)
    with _opened(data, max_pixels, page=read) as image:
        dim = decode_dim_png(data, on_note)
        picture = np.asarray(_to_rgb(image, _stated_colours(data), on_note), np.uint8) if dim is None else dim
        return turn_upright(picture, orientation_of(image))


def _read_without_pillow(data: bytes, max_pixels: int | None, on_note: OnNote) -> tuple[Picture, int] | int:
    """Return the picture of a raw file or an instrument's TIFF with its orientation, else the page for Pillow."""
    from linnaea.data.raws import find_preview, is_raw
    from linnaea.data.tiffs import TIFF_MAGIC, read_tiff

    if is_raw(data):
        preview, orientation = find_preview(data, on_note)
        return decode_here(preview, None, max_pixels), orientation
    return read_tiff(data, max_pixels, on_note) if data.startswith(TIFF_MAGIC) else 0


@contextmanager
def _opened(data: bytes, max_pixels: int | None = None, page: int = 0) -> Iterator[Image.Image]:
    """Open and decode a picture with Pillow; Pillow's errors become an :class:`ImageError`."""
    if data.startswith(_POSTSCRIPT_MAGIC):
        raise ImageError("not a photograph (PostScript)")
    check_png(data)
    check_photoshop(data)
    with _explained(data), open_image(data) as image:
        check_size(*image.size, max_pixels)
        if page:
            image.seek(page)
        image.load()
        yield image.convert("RGB") if image.format == "PSD" and not has_transparency(data) else image


def open_image(data: bytes) -> Image.Image:
    """Open a file with Pillow, or a HEIC file with pillow-heif, without decoding it.

    Raises:
        ImageError: it is a HEIC file that cannot be read.
        PIL.UnidentifiedImageError: its format is not known.
    """
    if kind_of(data) != "HEIC":
        return Image.open(io.BytesIO(data))
    from pillow_heif.as_plugin import HeifImageFile  # not registered: that would change Pillow for all its users

    try:
        return HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    except SyntaxError as error:
        raise ImageError(f"this HEIC file cannot be read: {error}") from error


def _stated_colours(data: bytes) -> bytes:
    """Return a profile for the colour space that a file states by code points (CICP); empty if none or sRGB."""
    match kind_of(data):
        case "HEIC" | "AVIF":
            place, form = data.find(b"colrnclx") + 8, ">HH"
        case "PNG":
            place, form = data.find(b"\0\0\0\4cICP", 0, data.find(b"IDAT")) + 8, ">BB"
        case _:
            return b""
    return profile_of_cicp(*struct.unpack_from(form, data, place)) if 8 <= place <= len(data) - 4 else b""


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
        raise ImageError(why_not_an_image(data)) from None
    except Image.DecompressionBombError:
        raise ImageError("too large: more pixels than Pillow allows; save it as a smaller JPEG") from None
    except Exception as error:  # Pillow's plug-ins raise many kinds of exceptions on broken data
        if "memory" in str(error).lower():
            raise MemoryError from error
        raise ImageError(_why_broken(error, data)) from error


def _to_rgb(image: Image.Image, stated: bytes = b"", on_note: OnNote = ignore_note) -> Image.Image:
    """Return an image in sRGB; ``stated`` is the profile to use if the file embeds none."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        samples = np.asarray(image)
        if image.mode == "I" and samples.min() >= 0 and samples.max() < 2**16:  # what Pillow makes of 16 bits
            samples = samples.astype(np.uint16)
        return Image.fromarray(to_bytes(samples, on_note=on_note)).convert("RGB")
    profile = image.info.get("icc_profile") or stated
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        colours = to_srgb(rgba.convert("RGB"), profile)
        colours.putalpha(rgba.getchannel("A"))
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    if image.mode in ("CMYK", "LAB"):
        return to_srgb(image, profile)
    return to_srgb(image.convert("RGB"), b"" if image.mode in ("L", "1") else profile)


def _why_broken(error: Exception, data: bytes) -> str:
    text, kind = " ".join(str(error).split()), kind_of(data)
    said = "truncated" in text.lower() or "not processed" in text or isinstance(error, EOFError)
    if said or is_truncated_picture(data):
        return f"image is truncated ({kind})" if kind else "image is truncated"
    return f"image is broken: {text or type(error).__name__}" + (f" ({kind})" if kind else "")
