"""No pixel of a JPEG is made up: what is lost is an error, and what is whole is answered."""

import contextlib
import io
import random
from collections.abc import Callable

import numpy as np
import pytest
from drawn_scene import SCENE, difference, jpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from linnaea.data.colours import ADOBE_RGB
from linnaea.data.images import ImageError, decode, decode_noted_here, prepare, squash

SURE = random.Random(1)
NOISE = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).resize((600, 400)))


def noisy(**options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, "JPEG", quality=90, **options)  # type: ignore[arg-type]
    return stream.getvalue()


BASELINE, PROGRESSIVE, CMYK = noisy(), noisy(progressive=True), io.BytesIO()
Image.fromarray(NOISE).convert("CMYK").save(CMYK, "JPEG", quality=90)


@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(3000), b"\xff" * 300], ids=["no", "half", "zeros", "fill"])
@pytest.mark.parametrize("data", [BASELINE, PROGRESSIVE, CMYK.getvalue()], ids=["baseline", "progressive", "CMYK"])
def test_a_missing_end_marker_loses_no_pixel(data: bytes, tail: bytes) -> None:
    picture, notes = decode_noted_here(data[:-2] + tail, None, None)
    assert (picture == decode(data)).all()
    assert all("end" in note for note in notes)


def test_a_data_set_stores_a_jpeg_with_its_end_marker() -> None:
    data = jpeg()
    prepared = prepare(data[:-2])
    assert not prepared.stored_verbatim
    assert prepared.jpeg.endswith(b"\xff\xd9")
    assert prepare(data).stored_verbatim


def lose(data: bytes, place: float, n_bytes: int, instead: bytes) -> bytes:
    """Replace bytes of the coded data, ``place`` between 0 and 1."""
    start = data.rfind(b"\xff\xda") + 20
    at = start + int(place * (len(data) - start - n_bytes - 40))
    return data[:at] + instead + data[at + n_bytes :]


LOSSES: dict[str, Callable[[bytes, float], bytes]] = {
    "removed": lambda data, place: lose(data, place, 512, b""),
    "zeros": lambda data, place: lose(data, place, 512, bytes(512)),
    "other data": lambda data, place: lose(data, place, 512, SURE.randbytes(512)),
    "all ones": lambda data, place: lose(data, place, 512, b"\xff" * 512),
    "cut": lambda data, place: data[: int(len(data) * (0.3 + 0.6 * place))],
    "cut, then zeros": lambda data, place: data[: int(len(data) * (0.3 + 0.6 * place))].ljust(len(data), b"\0"),
    "cut, then the end": lambda data, place: data[: int(len(data) * (0.3 + 0.6 * place))] + b"\xff\xd9",
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["baseline", "optimised", "CMYK"])
def test_data_lost_in_the_middle_are_never_answered(kind: str, loss: str) -> None:
    data = {"baseline": BASELINE, "optimised": noisy(optimize=True), "CMYK": CMYK.getvalue()}[kind]
    for place in (0.1, 0.4, 0.7):
        lost = LOSSES[loss](data, place)
        for read in (lambda data: decode_noted_here(data, None, None), squash):
            with pytest.raises(ImageError, match=r"truncated|damaged|broken"):
                read(lost)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.sampled_from(["removed", "cut", "cut, then zeros", "cut, then the end"]))
def test_a_progressive_jpeg_that_lost_data_is_not_answered_without_a_note(place: float, loss: str) -> None:
    with contextlib.suppress(ImageError):
        assert decode_noted_here(LOSSES[loss](PROGRESSIVE, place), None, None)[1]


def add_stray_bytes(data: bytes) -> bytes:
    """Put bytes between two segments of the head, as cameras do that write a wrong length."""
    place = data.index(b"\xff\xdb")
    return data[:place] + b"stray" + data[place:]


def test_stray_bytes_in_the_head_hide_no_loss() -> None:
    picture, notes = decode_noted_here(add_stray_bytes(BASELINE), None, None)
    assert (picture == decode(BASELINE)).all()
    assert "stray bytes" in notes[0]
    for lost in (LOSSES["removed"](BASELINE, 0.4), LOSSES["zeros"](BASELINE, 0.4)):
        with pytest.raises(ImageError, match="damaged"):
            decode(add_stray_bytes(lost))
    with pytest.raises(ImageError, match="damaged"):
        decode(BASELINE.replace(b"\n", b"\r\n"))


def test_flat_parts_of_a_picture_are_no_lost_data() -> None:
    """With tables of its own, a blank page is coded as zeros."""
    stream = io.BytesIO()
    page = Image.new("RGB", (3000, 2000), "white")
    page.paste(Image.fromarray(NOISE), (100, 100))
    page.save(stream, "JPEG", optimize=True)
    assert decode_noted_here(stream.getvalue(), None, None)[1] == []


def xmp(orientation: int) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_that_of_exif_else_that_of_xmp(form: str) -> None:
    def saved(**options: object) -> bytes:
        stream = io.BytesIO()
        image = Image.fromarray(SCENE)
        if form == "PNG" and "xmp" in options:
            from PIL.PngImagePlugin import PngInfo

            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", str(options.pop("xmp"), "utf-8"))  # type: ignore[arg-type]
            options["pnginfo"] = info
        if form == "TIFF" and "xmp" in options:
            options["tiffinfo"] = {700: options.pop("xmp")}
        image.save(stream, form, **options)  # type: ignore[arg-type]
        return stream.getvalue()

    assert decode(saved(xmp=xmp(6))).shape == (160, 120, 3)
    exif = Image.Exif()
    exif[0x0112] = 1
    if form == "JPEG":
        assert decode(saved(xmp=xmp(6), exif=exif)).shape == (120, 160, 3)


@pytest.mark.parametrize("order", ["II", "MM"])
def test_adobe_rgb_that_a_camera_states_without_a_profile_is_converted(order: str) -> None:
    """DCF 2.0: the interoperability index R03; the older way is the colour space 2."""
    exif = Image.Exif()
    exif.endian = "<" if order == "II" else ">"
    exif.get_ifd(0x8769)[0xA001] = 2
    stated = decode(jpeg(exif=exif))
    embedded = decode(jpeg(icc_profile=ADOBE_RGB))
    assert difference(stated, embedded) == 0
    assert difference(stated, decode(jpeg())) > 2


def test_the_profile_made_here_is_adobes() -> None:
    """Adobe RGB (1998), section 4.3.5.1: its green lies outside of sRGB, its greys are sRGB's."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(ADOBE_RGB))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    moved = np.asarray(
        ImageCms.applyTransform(Image.fromarray(np.uint8([[[100, 180, 90], [128, 128, 128]]])), transform)
    )
    assert moved[0, 0, 0] < 10
    assert np.abs(moved[0, 1].astype(int) - 128).max() <= 2
