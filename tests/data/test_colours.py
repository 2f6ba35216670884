"""Colour profiles are applied by the formula, sRGB is left alone, and a squashed picture is the reference's."""

import io
import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from linnaea.data.images import ImageError, decode, prepare, squash

# Primaries as ICC writes them: columns in CIE XYZ, adapted to D50; and the exponent of the tone curve.
ADOBE_RGB = ([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]], 2.19921875)
DISPLAY_P3 = ([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]], 2.2)
SRGB = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]


def make_profile(matrix: list[list[float]], gamma: float) -> bytes:
    """A matrix profile as ICC.1:2001 lays it out."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65_536))

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"drawn\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    columns = tuple(zip(*matrix, strict=True))
    tags = {b"desc": text + bytes(-len(text) % 4), b"wtpt": xyz((0.9642, 1.0, 0.8249)),
            b"cprt": b"text\0\0\0\0none\0\0\0\0"}  # fmt: skip
    tags |= {name: xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2001, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + xyz((0.9642, 1.0, 0.8249))[8:]
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


def by_the_formula(pixels: NDArray[np.uint8], matrix: list[list[float]], gamma: float) -> NDArray[np.float64]:
    linear = (pixels / 255.0) ** gamma @ np.array(matrix).T @ np.linalg.inv(np.array(SRGB)).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def patches() -> NDArray[np.uint8]:
    """36 even patches of 16 x 16 pixels that no profile moves out of range."""
    colours = np.random.default_rng(0).integers(70, 190, (6, 6, 3), dtype=np.uint8)
    return colours.repeat(16, axis=0).repeat(16, axis=1)


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("space", [ADOBE_RGB, DISPLAY_P3], ids=["Adobe RGB", "Display P3"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_wide_colours_become_srgb(space: tuple[list[list[float]], float], form: str) -> None:
    pixels = patches()
    options = {"quality": 100, "subsampling": 0} if form == "JPEG" else {}
    data = saved(Image.fromarray(pixels), form, icc_profile=make_profile(*space), **options)
    expected = by_the_formula(pixels, *space)
    assert np.abs(expected - pixels).max() > 15  # leaving the profile out would be seen
    # JPEG rounds in YCbCr before the profile stretches the colours.
    assert np.abs(decode(data) - expected)[4::16, 4::16].max() < (6 if form == "JPEG" else 2.5)


def test_transparency_and_profile_together() -> None:
    pixels = patches()
    picture = Image.fromarray(pixels)
    picture.putalpha(Image.new("L", picture.size, 255))
    data = saved(picture, "PNG", icc_profile=make_profile(*ADOBE_RGB))
    assert np.abs(decode(data) - by_the_formula(pixels, *ADOBE_RGB)).max() < 3


def test_a_small_jpeg_with_another_profile_is_not_kept_verbatim() -> None:
    data = saved(Image.fromarray(patches()), "JPEG", quality=95, icc_profile=make_profile(*ADOBE_RGB))
    assert not prepare(data).stored_verbatim
    stored = prepare(data).jpeg
    assert b"ICC_PROFILE" not in stored
    assert np.abs(decode(stored).astype(int) - decode(data)).mean() < 3


@pytest.mark.parametrize(
    "profile",
    [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"no profile at all", b""],
    ids=["sRGB", "broken", "none"],
)
def test_srgb_and_broken_profiles_change_nothing(profile: bytes) -> None:
    plain = saved(Image.fromarray(patches()), "JPEG", quality=95)
    data = saved(Image.fromarray(patches()), "JPEG", quality=95, icc_profile=profile)
    assert np.array_equal(decode(data), decode(plain))
    assert prepare(data).stored_verbatim


def test_a_profile_for_other_channels_is_left_out() -> None:
    grey = Image.fromarray(patches()[..., 0])
    for form in ("JPEG", "PNG"):
        data = saved(grey, form, icc_profile=make_profile(*ADOBE_RGB))
        assert np.array_equal(decode(data), decode(saved(grey, form)))
    cmyk = Image.fromarray(patches()).convert("CMYK")
    data = saved(cmyk, "JPEG", quality=100, icc_profile=make_profile(*ADOBE_RGB))
    assert np.abs(decode(data).astype(int) - patches())[4::16, 4::16].max() < 6


def test_lab_pictures_come_in() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(Image.fromarray(patches()), srgb, lab, outputMode="LAB")
    assert picture is not None
    assert np.abs(decode(saved(picture, "TIFF")).astype(int) - patches()).max() < 8


def test_deep_and_floating_pictures_keep_their_range() -> None:
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    for picture in (
        Image.fromarray(ramp.astype(np.float32)),
        Image.fromarray((ramp * 65_535).astype(np.uint16)),
        Image.fromarray((ramp * 255).astype(np.float32)),
        Image.fromarray((ramp * 65_535).astype(np.int32)),
    ):
        grey = decode(saved(picture, "TIFF"))[..., 0]
        assert np.abs(grey / 255 - ramp).max() < 0.01


def test_every_frame_but_the_first_is_left_out() -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    for form, lossless in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:], **lossless)
        assert (decode(data) == (255, 0, 0)).all(), form


def naive_squash(data: bytes) -> bytes:
    """TreeOfLife-10M's way, from the facts: RGBA and palettes to RGB, bicubic to 224 x 224, JPEG of quality 100."""
    image = Image.open(io.BytesIO(data))
    if image.mode in ("RGBA", "P"):
        image = image.convert("RGB")
    stream = io.BytesIO()
    image.resize((224, 224), resample=Image.BICUBIC).save(stream, format="JPEG", quality=100)
    return stream.getvalue()


def turned(picture: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture, "JPEG", exif=exif)


def test_a_squashed_picture_is_the_references_to_the_byte() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (150, 410, 3), dtype=np.uint8))
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    wide = {"icc_profile": make_profile(*ADOBE_RGB)}
    for data in (
        saved(picture, "JPEG"),
        saved(picture, "PNG", **wide),
        saved(picture.convert("L"), "JPEG"),
        saved(picture.convert("CMYK"), "JPEG"),
        saved(picture.convert("P"), "GIF"),
        saved(clear, "PNG"),
        saved(picture.resize((60, 31)), "WEBP"),
        turned(picture),
    ):
        squashed = squash(data)
        assert squashed.jpeg == naive_squash(data)
        assert (squashed.width, squashed.height) == (224, 224)
        assert decode(squashed.jpeg).shape == (224, 224, 3)


def test_what_the_reference_cannot_save_becomes_rgb() -> None:
    ramp = Image.fromarray(np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16))
    for picture in (ramp, Image.new("LA", (60, 40), (128, 255))):
        data = saved(picture, "PNG")
        with pytest.raises(OSError, match="cannot write mode"):
            naive_squash(data)
        assert decode(squash(data).jpeg).shape == (224, 224, 3)


def test_a_truncated_picture_is_not_squashed() -> None:
    data = saved(Image.fromarray(patches()), "JPEG", quality=95)
    with pytest.raises(ImageError, match="truncated"):
        squash(data[: len(data) // 2])
