# ruff: noqa: E501 - a table of what is sent
"""What strangers send: two hundred uploads that are wrong in as many ways, and never an error of the server's own."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linnaea.predict.predictor import Predictor
from linnaea.serve.app import make_app
from linnaea.serve.service import Limits

LIMITS = Limits(file_bytes=300_000, request_bytes=1_000_000, files=5, pixels=4_000_000, seconds=30)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "ICO", "TGA")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "LAB", "HSV")

Upload = tuple[str, bytes]
"""File name and content."""


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[TestClient]:
    with TestClient(make_app(predictor, limits=LIMITS), raise_server_exceptions=False) as opened:
        yield opened


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def photograph(mode: str = "RGB", side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    match mode:
        case "I" | "F":
            return Image.fromarray(pixels[..., 0].astype(np.int32 if mode == "I" else np.float32))
        case "I;16":
            return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        case "LAB" | "HSV":
            return Image.frombytes(mode, (side, side), pixels.tobytes())
        case _:
            return Image.fromarray(pixels).convert(mode)


def png(width: int, height: int, body: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def iter_bombs() -> Iterator[Upload]:
    jpeg, gif, bmp, tiff, webp = (saved(photograph(), name) for name in ("JPEG", "GIF", "BMP", "TIFF", "WEBP"))
    at = jpeg.index(b"\xff\xc0") + 5
    for width, height in ((65_535, 65_535), (0, 0), (65_535, 1), (0, 40), (3_000, 3_000)):
        yield "sof.jpg", jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]
        yield "screen.gif", gif[:6] + struct.pack("<HH", width, height) + gif[10:]
        yield "size.bmp", bmp[:18] + struct.pack("<ii", width, -height) + bmp[26:]
    for width, height in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (50_000, 50_000), (0, 1), (3_000, 3_000)):
        yield "ihdr.png", png(width, height, b"\0" * 100)
    yield "zeros.png", png(10_000, 10_000, b"\0" * 30_000_000)
    text = zlib.compress(b"a" * 90_000_000)
    extra = struct.pack(">I", len(text) + 3) + b"zTXta\0\0" + text + struct.pack(">I", zlib.crc32(b"zTXta\0\0" + text))
    yield "text.png", png(4, 4, b"\0" * 52, extra)
    for value in (2**32 - 1, 100_000, 0):
        for tag in (b"\x00\x01", b"\x01\x01", b"\x11\x01", b"\x16\x01", b"\x17\x01", b"\x02\x01", b"\x03\x01"):
            place = tiff.find(tag + b"\x04\x00") if tiff.find(tag + b"\x04\x00") > 0 else tiff.find(tag + b"\x03\x00")
            if place > 0:
                yield "tag.tif", tiff[: place + 8] + struct.pack("<I", value) + tiff[place + 12 :]
    tiny = bytearray(webp)
    tiny[4:8] = b"\xff\xff\xff\xff"
    yield "riff.webp", bytes(tiny)
    loop = bytearray(tiff)
    first = struct.unpack("<I", tiff[4:8])[0]
    n_tags = struct.unpack("<H", tiff[first : first + 2])[0]
    loop[first + 2 + 12 * n_tags : first + 6 + 12 * n_tags] = struct.pack("<I", first)
    yield "loop.tif", bytes(loop)


def iter_odd_pictures() -> Iterator[Upload]:
    """Rare, but pictures: most of them can be read."""
    for mode in MODES:
        for format_ in FORMATS:
            try:
                yield f"{mode}.{format_.lower()}", saved(photograph(mode), format_)
            except (OSError, ValueError, KeyError):
                continue  # there is no such picture
    exif = Image.Exif()
    for orientation in (0, 3, 6, 9, 65_535):
        exif[0x0112] = orientation
        yield f"turned{orientation}.jpg", saved(photograph(), "JPEG", exif=exif.tobytes())
    whole = saved(photograph(), "JPEG")
    for payload in (b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 65_000,
                    b"Exif\0\0" + bytes(range(256)) * 250, b"ICC_PROFILE\0\x01\x01" + b"x" * 60_000,
                    b"ICC_PROFILE\0\x00\xff", b"http://ns.adobe.com/xap/1.0/\0<x" + b"<a>" * 20_000):  # fmt: skip
        marker = b"\xff\xe2" if payload.startswith(b"ICC") else b"\xff\xe1"
        yield "marker.jpg", whole[:2] + (marker + struct.pack(">H", len(payload) + 2) + payload) * 4 + whole[2:]
    frames = [photograph(side=30 + n) for n in range(4)]
    for format_ in ("GIF", "WEBP", "PNG", "TIFF"):
        still = [frame.resize((30, 30)) for frame in frames]
        yield f"moving.{format_.lower()}", saved(still[0], format_, save_all=True, append_images=still[1:])
    yield "thin.png", saved(photograph().resize((1, 3_000)), "PNG")
    yield "dot.png", saved(photograph(side=1), "PNG")
    for ending in ("jpg", "jpeg", "png", "txt", "exe", "", "JPG\0.png"):
        yield f"a.{ending}", saved(photograph(), "WEBP")


def iter_no_pictures() -> Iterator[Upload]:
    for content in (b"", b"\0", b"\xff", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM",
                    b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBP", b"P6\n40 40\n255\n", b"P6\n999999 999999\n255\nx",
                    b"\0\0\0\x20ftypavif", b"\0\0\0\x18ftypheic", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
                    b"\xc5\xd0\xd3\xc6" + b"\0" * 60, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>no</html>",
                    b"a species is a text", "Größe".encode(), b"PK\x03\x04" + b"\0" * 90, b"\x1f\x8b\x08" + b"\0" * 40,
                    b"\0" * 300_000, b"\xff" * 299_999, b"\0\0\x01\0\x01\0" + b"\xff" * 40, b"8BPS\0\x01" + b"\0" * 60,
                    b"SIMPLE  =                    T" + b" " * 3000, b"\x93NUMPY\x01\0v\0{'descr': '<f4'}"):  # fmt: skip
        yield "text.jpg", content
    for format_ in FORMATS:
        whole = saved(photograph(), format_)
        for share in (0.02, 0.2, 0.5, 0.9, 0.99):
            yield f"torn.{format_.lower()}", whole[: int(len(whole) * share)]
        yield f"head.{format_.lower()}", b"\0" * 16 + whole[16:]
        yield f"tail.{format_.lower()}", whole[:200] + b"\xff" * (len(whole) - 200)


def test_200_malformed_uploads_are_pictures_or_are_refused_with_a_reason(client: TestClient) -> None:
    uploads = [*iter_bombs(), *iter_odd_pictures(), *iter_no_pictures()]
    assert len(uploads) >= 200
    codes: dict[int, int] = {}
    for name, content in uploads:
        answer = client.post("/predict", files=[("files", (name, content))])
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 415), (name, len(content), answer.text[:300])
        if answer.status_code == 415:
            assert len(answer.json()["detail"]) > len(name) + 5, "a reason"
    assert codes[200] > 40
    assert codes[415] > 100
    assert client.get("/health").json()["status"] == "ok"


BOUNDARY = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (BOUNDARY, b""),
        (BOUNDARY, b"--x--\r\n"),
        (BOUNDARY, b"--x\r\n\r\n\r\n--x--\r\n"),
        (BOUNDARY, FILE + b"never ends"),
        (BOUNDARY, FILE),
        (BOUNDARY, b"\r\n" * 50_000),
        (BOUNDARY, PART % (b"files", b"no file") + b"--x--\r\n"),
        (BOUNDARY, PART % (b"photo", b"wrong name") + b"--x--\r\n"),
        (BOUNDARY, (PART % (b"within", b"genus:A")) * 5_000 + b"--x--\r\n"),
        (BOUNDARY, PART % (b"rank", b"\xff\xfe\x00") + FILE + b"x\r\n--x--\r\n"),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="rank"; filename="r"\r\n\r\n\xff\xfe\r\n' + FILE + b"x\r\n--x--"),
        (BOUNDARY, b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n"),
        (BOUNDARY, b"--x\r\nContent-Disposition: \xff\xff; name=\r\n\r\nx\r\n--x--\r\n"),
        (BOUNDARY, b"--x\r\n" + b"A: b\r\n" * 5_000 + b"\r\nx\r\n--x--\r\n"),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="files"; filename="\xe4\xf6.jpg"\r\n\r\nx\r\n--x--\r\n'),
        (BOUNDARY, b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--x--\r\n'),
        (BOUNDARY, PART % (b"confidence", b"nan") + FILE + b"x\r\n--x--\r\n"),
        (BOUNDARY, PART % (b"confidence", b"inf") + FILE + b"x\r\n--x--\r\n"),
        (BOUNDARY, PART % (b"month", b"9" * 5_000) + FILE + b"x\r\n--x--\r\n"),
        (BOUNDARY, PART % (b"lat", b"nan") + PART % (b"lon", b"nan") + FILE + b"x\r\n--x--\r\n"),
        ("multipart/form-data", b"--x--\r\n"),
        ("multipart/form-data; boundary=", b"--x--\r\n"),
        ("multipart/form-data; boundary=\xff\xfe".encode("latin-1").decode("latin-1"), b"--x--\r\n"),
        ("multipart/form-data; boundary=" + "y" * 3_000, b"--x--\r\n"),
        ("multipart/form-data; charset=nonsense; boundary=x", PART % (b"rank", b"x") + FILE + b"x\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded", b"files=a&rank=species&%ff=%00"),
        ("application/json", b'{"files": ["a"]}'),
        ("application/json", b"\xff\xfe{"),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("", b"x"),
        ("nonsense", b"x"),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_refused(client: TestClient, kind: str, body: bytes) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": kind.encode("latin-1")})
    assert answer.status_code in (400, 413, 415, 422), answer.text[:300]
    assert answer.json()["detail"]


def test_callers_learn_how_to_send_a_photograph_and_options(client: TestClient) -> None:
    data = saved(photograph(), "JPEG")
    alone = client.post("/predict", content=data, headers={"content-type": "image/jpeg"})
    named = client.post("/predict", files=[("image", ("a.jpg", data))])
    for answer in (alone, named):
        assert answer.status_code == 422
        assert "multipart/form-data, in the field files" in answer.json()["detail"]
    in_address = client.post("/predict?within=Aves", files=[("files", ("a.jpg", data))])
    assert (in_address.status_code, "form" in in_address.json()["detail"]) == (422, True)
    assert client.post("/predict?_=1", files=[("files", ("a.jpg", data))]).status_code == 200


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"within": "\0"}, 422),
        ({"within": "\ud800".encode("utf-8", "surrogatepass")}, 422),
        ({"within": "order:" + "x" * 100_000}, 422),
        ({"within": ":"}, 422),
        ({"within": "species:"}, 422),
        ({"rank": "x" * 100_000}, 422),
        ({"lat": "50"}, 422),
        ({"month": "13"}, 422),
        ({"top_k": "1e3"}, 422),
        ({"within": "", "rank": "", "top_k": "1"}, 200),
        ({"unknown": "x", "top_k": "1"}, 200),
        ({"species_list": "Pica pica"}, 422),
        ({"k": "1"}, 422),
    ],
)
def test_values_out_of_the_ordinary(client: TestClient, form: dict[str, str], code: int) -> None:
    data = saved(photograph(), "JPEG")
    answer = client.post("/predict", files=[("files", ("a.jpg", data))], data=form)
    assert answer.status_code == code, answer.text[:300]
    assert len(answer.text) < 5_000


def test_odd_requests_elsewhere(client: TestClient) -> None:
    for path in ("/taxa?q=%00", "/taxa?q=%ff", "/taxa?limit=x", "/taxa?q=(", "/taxa?q=a:b:c", "/%ff", "/..", "/docs"):
        assert client.get(path).status_code < 500, path
    for path in ("/", "/predict", "/taxa", "/health", "/metrics", "/openapi.json"):
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"):
            assert client.request(method, path).status_code < 500, (method, path)
