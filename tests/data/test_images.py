"""Any picture a biologist has comes in upright and in RGB, or leaves a reason."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linnaea.data import picture
from linnaea.data.images import ImageError, decode, decode_noted_here, prepare, read_image_file, resize_short_side

RED, BLUE = (200, 30, 40), (30, 40, 200)


def two_halves(width: int = 60, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def is_red(pixel: np.ndarray) -> bool:
    return int(pixel[0]) > int(pixel[2]) + 60


def grey_16_bit() -> bytes:
    values = np.linspace(0, 65_535, 60 * 40).reshape(40, 60).astype(np.uint16)
    return saved(Image.fromarray(values), "PNG")


def animation() -> bytes:
    first, second = two_halves(), Image.new("RGB", (60, 40), (0, 255, 0))
    return saved(first, "GIF", save_all=True, append_images=[second])


KINDS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(two_halves(), "JPEG", quality=95),
    "progressive JPEG": lambda: saved(two_halves(), "JPEG", quality=95, progressive=True),
    "CMYK JPEG": lambda: saved(two_halves().convert("CMYK"), "JPEG", quality=95),
    "palette PNG": lambda: saved(two_halves().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
    "alpha PNG": lambda: saved(two_halves().convert("RGBA"), "PNG"),
    "BMP": lambda: saved(two_halves(), "BMP"),
    "TIFF": lambda: saved(two_halves(), "TIFF"),
    "WebP": lambda: saved(two_halves(), "WEBP", quality=95),
    "animated GIF": animation,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_comes_in_as_rgb(kind: str) -> None:
    picture = decode(KINDS[kind]())
    assert picture.dtype == np.uint8
    assert picture.shape == (40, 60, 3)
    assert is_red(picture[20, 10])
    assert not is_red(picture[20, 50])


def test_grey_pictures_have_three_equal_channels() -> None:
    for data in (saved(two_halves().convert("L"), "JPEG"), saved(two_halves().convert("L"), "PNG"), grey_16_bit()):
        picture = decode(data)
        assert picture.shape == (40, 60, 3)
        assert (picture[..., 0] == picture[..., 2]).all()


def test_16_bit_pictures_keep_their_range() -> None:
    picture = decode(grey_16_bit())
    assert picture.min() == 0
    assert picture.max() == 255


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (decode(saved(clear, "PNG")) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_pictures_are_turned_upright(orientation: int, form: str) -> None:
    """Whatever the camera wrote, red ends up on the left."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = two_halves() if undo is None else two_halves().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(saved(stored, form, exif=exif))
    assert picture.shape == (40, 60, 3)
    assert is_red(picture[20, 5])
    assert not is_red(picture[20, 55])


JPEG = saved(two_halves(400, 300), "JPEG", quality=90)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG[: len(JPEG) // 2], "truncated"),
        (saved(two_halves(), "PNG")[:100], "truncated|broken"),
        (b"just some words, no picture", "text file"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"%PDF-1.7 ...", "PDF"),
        (bytes(range(256)), "unknown format"),
        (JPEG[:2], "unknown format|text"),
    ],
)
def test_what_is_no_picture_has_a_reason(data: bytes, reason: str) -> None:
    for read in (decode, prepare):
        with pytest.raises(ImageError, match=reason):
            read(data)


def test_a_decompression_bomb_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MAX_PIXELS", 1000)
    for data in (JPEG, saved(two_halves(), "PNG")):
        with pytest.raises(ImageError, match="too large"):
            decode(data)


def test_files_that_cannot_be_read_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    for name, reason in (("missing.jpg", "no such file"), ("empty.jpg", "empty"), (".", "folder")):
        with pytest.raises(ImageError, match=reason):
            read_image_file(tmp_path / name)


def test_a_jpeg_that_fits_is_kept_byte_for_byte() -> None:
    data = saved(two_halves(300, 200), "JPEG", quality=70)
    prepared = prepare(data, short_side=256)
    assert prepared.jpeg == data
    assert prepared.stored_verbatim
    assert (prepared.width, prepared.height) == (300, 200)


@pytest.mark.parametrize("turned", [True, False])
def test_what_does_not_fit_is_made_to(turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    prepared = prepare(saved(two_halves(800, 600), "JPEG", exif=exif), short_side=256)
    assert not prepared.stored_verbatim
    assert min(prepared.width, prepared.height) == 256
    assert max(prepared.width, prepared.height) == 341
    assert simplejpeg.decode_jpeg_header(prepared.jpeg)[:2] == (prepared.height, prepared.width)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(16, 300))
def test_nothing_is_enlarged_and_the_aspect_ratio_stays(width: int, height: int, side: int) -> None:
    small = resize_short_side(np.zeros((height, width, 3), np.uint8), side)
    h, w = small.shape[:2]
    assert h <= height
    assert w <= width
    assert min(h, w) == min(height, width, side)
    if min(h, w) >= 16:
        assert abs(w / h - width / height) / (width / height) < 1 / min(h, w)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(JPEG)))
def test_broken_bytes_never_raise_anything_but_a_reason(noise: bytes, place: int) -> None:
    for data in (noise, JPEG[:place] + noise, JPEG[:place] + noise + JPEG[place + len(noise) :]):
        try:
            decode(data)
        except ImageError as error:
            assert str(error)


def test_scaled_decoding_keeps_enough_pixels() -> None:
    data = saved(two_halves(1600, 1200), "JPEG")
    picture = decode(data, min_short_side=300)
    assert 300 <= min(picture.shape[:2]) < 600
    full = resize_short_side(decode(data), 150).astype(int)
    fast = resize_short_side(picture, 150).astype(int)
    assert np.abs(full - fast).mean() < 2


def heic(picture: Image.Image, **options: object) -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(picture).save(stream, format="HEIF", quality=90, **options)
    return stream.getvalue()


def photoshop(
    mode: int = 3, *, has_composite: bool = True, bits: int = 8, layers: bytes = b"", more: bytes = b""
) -> bytes:
    """Return a Photoshop file (version 1) of red left and blue right, 60 x 40; ``more`` is a channel after these."""
    n_colours = {1: 1, 3: 3}[mode]
    n_channels = n_colours + bool(more)
    block = b"8BIM" + struct.pack(">H2xI", 1057, 6) + b"\0\0\0\1" + bytes([has_composite, 0])
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, n_channels, 40, 60, bits, mode)
    head += bytes(4) + struct.pack(">I", len(block)) + block + struct.pack(">I", len(layers)) + layers + b"\0\0"
    return head + np.moveaxis(np.asarray(two_halves()), -1, 0)[:n_colours].tobytes() + more


def test_phone_photographs_are_read() -> None:
    assert is_red(decode(heic(two_halves()))[20, 10])
    assert decode(saved(two_halves(), "AVIF")).shape == (40, 60, 3)


def test_a_photoshop_files_composite_is_read() -> None:
    picture = decode(photoshop())
    assert picture.shape == (40, 60, 3)
    assert is_red(picture[20, 10])
    assert decode(photoshop(1)).shape == (40, 60, 3)
    for data, reason in ((photoshop(has_composite=False), "without a composite"), (photoshop(bits=16), "Photoshop"),
                         (photoshop()[:-500], r"truncated \(Photoshop\)")):  # fmt: skip
        with pytest.raises(ImageError, match=reason):
            decode(data)


@pytest.mark.parametrize(("n_layers", "is_white"), [(0, False), (2, False), (-2, True)])
def test_a_saved_selection_of_photoshop_is_no_transparency(n_layers: int, is_white: bool) -> None:
    """The channel after the colours is transparency if the number of layers is below zero."""
    layers = struct.pack(">Ih2x", 4, n_layers) + bytes(8) if n_layers else b""
    picture = decode(photoshop(layers=layers, more=bytes(60 * 40)))
    assert (picture[20, 10] > 250).all() == is_white
    assert is_red(picture[20, 10]) != is_white


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_png_of_12_bits_in_16_keeps_its_light(channels: int) -> None:
    colours = np.asarray(two_halves()).astype(np.uint16) * 16
    opaque = np.full((40, 60, 1), 65_535, np.uint16)
    if channels == 2:
        data = png_of(np.dstack([colours[..., :1], opaque]), 4)
    else:
        data = png_of(colours if channels == 3 else np.dstack([colours, opaque]), {3: 2, 4: 6}[channels])
    picture, notes = decode_noted_here(data, None, None)
    assert abs(int(picture[20, 10, 0]) - RED[0]) < 3
    assert "12 bits per sample in 16" in notes[0]


def png_of(samples: np.ndarray, colour_type: int) -> bytes:
    """Return a PNG of 16 bits: colour type 2 RGB, 4 grey and 6 RGB with transparency."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b""))  # fmt: skip
    parts = (struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
             for name, body in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("form", ["AVIF", "HEIC", "WEBP", "JPEG2000"])
def test_a_picture_that_is_cut_short_says_so(form: str) -> None:
    data = heic(two_halves()) if form == "HEIC" else saved(two_halves(), form)
    with pytest.raises(ImageError, match="image is truncated"):
        decode(data[: len(data) * 2 // 3])


def state_colours(data: bytes, primaries: int, transfer: int) -> bytes:
    """Write other code points into a HEIC or AVIF file that states some."""
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


@pytest.mark.parametrize("form", ["AVIF", "HEIC"])
def test_colours_stated_by_code_points_go_to_srgb(form: str) -> None:
    """Display P3 (12, 13): its red is more vivid than sRGB's; 1, 13 is sRGB itself."""
    data = saved(two_halves(), "AVIF", quality=95) if form == "AVIF" else heic(two_halves())
    plain, wide = (decode(state_colours(data, primaries, 13)) for primaries in (1, 12))
    assert int(wide[20, 10, 0]) > int(plain[20, 10, 0]) + 5
    assert np.abs(plain[20, 10].astype(int) - RED).max() < 12


def test_a_png_states_code_points_too() -> None:
    data = saved(two_halves(), "PNG")
    chunk = b"cICP" + bytes([12, 13, 0, 1])
    place = data.index(b"IDAT") - 4
    wide = data[:place] + b"\0\0\0\4" + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[place:]
    assert int(decode(wide)[20, 10, 0]) > RED[0] + 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(20_000), r"only zero bytes \(20,000\)"),
        (b"\xff" * 3000, "0xff, repeated"),
        (bytes(600) + b"words", "0x00, repeated"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(50), r"not an image \(video\)"),
        (b"\xff\x0a" + bytes(range(200)), "JPEG XL"),
        (b"PK\x03\x04" + bytes(50), "ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\x05\x16\x07\0\2\0\0Mac OS X", "AppleDouble"),
    ],
)
def test_a_reason_names_the_kind(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_the_checksums_of_a_png_count() -> None:
    data = saved(Image.effect_noise((80, 60), 80), "PNG", compress_level=0)
    place = data.index(b"IDAT") + 3000
    with pytest.raises(ImageError, match="checksum of the PNG"):
        decode(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
@pytest.mark.parametrize("form", ["AVIF", "HEIC", "WEBP", "JPEG2000"])
def test_a_lost_sector_of_a_format_without_checksums_is_noted_or_an_error(form: str, byte: bytes) -> None:
    noise = Image.effect_noise((300, 200), 80).convert("RGB")
    data = heic(noise) if form == "HEIC" else saved(noise, form, quality=90)
    middle = len(data) // 2
    try:
        _, notes = decode_noted_here(data[:middle] + 600 * byte + data[middle + 600 :], None, None)
    except ImageError:
        return
    assert f"{'zero' if byte == bytes(1) else '0xff'} bytes" in notes[0]


def test_the_import_leaves_other_libraries_alone() -> None:
    code = (
        "import warnings, PIL.Image; limit, n = PIL.Image.MAX_IMAGE_PIXELS, len(warnings.filters); "
        "import linnaea, linnaea.data.images, linnaea.data.exif, linnaea.predict.inputs, linnaea.data.videos, av; "
        "assert PIL.Image.MAX_IMAGE_PIXELS == limit; assert '.heic' not in PIL.Image.EXTENSION; "
        "assert av.logging.get_level() is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
