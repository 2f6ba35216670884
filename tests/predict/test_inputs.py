"""Whatever a user points at becomes pictures with names of their own; what is wrong with one is a reason, later."""

import contextlib
import functools
import http.server
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import aiohttp
import cv2
import numpy as np
import pytest
from PIL import Image

from linnaea.data.download import single
from linnaea.data.images import ImageError
from linnaea.predict.inputs import find_input, iter_inputs, list_inputs


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    """Left half red, right half blue, 80 x 40."""
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, :40, 2], picture[:, 40:, 0] = 255, 255
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return path


def mean_colour(picture: np.ndarray) -> list[int]:
    return (picture.reshape(-1, 3).mean(axis=0) > 127).astype(int).tolist()


def test_an_image_that_was_changed_in_place_is_read_as_it_is_now(jpeg: Path) -> None:
    with Image.open(jpeg) as image:
        image.paste((0, 0, 255), (0, 0, 40, 40))
        (changed,) = iter_inputs(image)
        assert mean_colour(changed.load(None)[:, :40]) == [0, 0, 1]


def test_pictures_in_a_tar_are_read_in_place(jpeg: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "some.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("x/1.jpg", "x/1.json", "2.JPG"):
            tar.add(jpeg, name)
    inputs = list_inputs([str(tmp_path / "some.tar")])
    assert [one.name for one in inputs] == [f"{tmp_path}/some.tar/x/1.jpg", f"{tmp_path}/some.tar/2.JPG"]
    assert inputs[1].load(None).shape == (40, 80, 3)
    assert find_input(inputs[0].name).load(None).shape == (40, 80, 3)
    with pytest.raises(ImageError, match="has no"):
        find_input(f"{tmp_path}/some.tar/3.jpg").load(None)


def test_every_picture_in_a_tar_is_a_row(jpeg: Path, tmp_path: Path) -> None:
    """Names that occur again, rare endings, none at all; not what is no picture."""
    other = tmp_path / "notes"
    other.write_text("words")
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        for name in ("x.jpg", "x.jpg", "v.jfif", "w.jpe", "noend", "IMG_1.dat", "._x.jpg", "x.json", "x.xmp"):
            tar.add(jpeg, name)
        tar.add(other, "README")
        tar.add(other, "x.jpg")
    inputs = list_inputs([str(tmp_path / "some.tar")])
    names = [one.name.rpartition("some.tar/")[2] for one in inputs]
    assert names == ["x.jpg", "x.jpg#2", "v.jfif", "w.jpe", "noend", "IMG_1.dat", "x.jpg#3"]
    assert all(one.load(None).shape == (40, 80, 3) for one in inputs[:-1])
    with pytest.raises(ImageError, match="text file"):
        find_input(inputs[-1].name).load(None)


def test_sidecars_in_a_folder_are_passed_over(jpeg: Path) -> None:
    for ending in ("xmp", "aae", "THM", "srt"):
        jpeg.with_suffix(f".{ending}").write_bytes(b"sidecar")
    assert [one.name for one in list_inputs([str(jpeg.parent)])] == [str(jpeg)]


def test_links_and_videos_in_a_tar_are_rows(jpeg: Path, tmp_path: Path) -> None:
    """tar stores the second name of a file as a link, and a clip is not passed over in silence."""
    path = tmp_path / "SOME.TAR"
    with tarfile.open(path, "w") as tar:
        for name, kind, target in (("early.jpg", tarfile.SYMTYPE, "a/1.jpg"), ("a/2.jpg", tarfile.LNKTYPE, "a/1.jpg"),
                                   ("lost.jpg", tarfile.SYMTYPE, "/elsewhere/1.jpg")):  # fmt: skip
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
        tar.add(jpeg, "a/1.jpg")
        tar.add(jpeg, "a/clip.MP4")
    found = {one.name.removeprefix(f"{path}/"): one for one in list_inputs([str(path)])}
    assert sorted(found) == ["a/1.jpg", "a/2.jpg", "a/clip.MP4", "early.jpg", "lost.jpg"]
    whole = found["a/1.jpg"].load(None)
    for name in ("a/2.jpg", "early.jpg"):
        assert (found[name].load(None) == whole).all()
        assert (find_input(f"{path}/{name}").load(None) == whole).all()
    for name, reason in (("a/clip.MP4", "unpack it"), ("lost.jpg", "file is empty")):
        with pytest.raises(ImageError, match=reason):
            found[name].load(None)


def test_a_broken_tar_gives_what_it_has_and_one_failure(jpeg: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(jpeg, "1.jpg")
        tar.add(jpeg, "2.jpg")
    path.write_bytes(path.read_bytes()[: 512 + 1024 + 600])
    inputs = list_inputs([str(path), str(tmp_path / "missing.tar")])
    assert [one.name for one in inputs] == [f"{path}/1.jpg", str(path), str(tmp_path / "missing.tar")]
    for one, reason in zip(inputs[1:], ("truncated|not a tar", "no such file"), strict=True):
        with pytest.raises(ImageError, match=reason):
            one.load(None)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(35):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., number // 10 % 3] = 255  # BGR: a second of blue, of green, of red, of blue
        writer.write(frame)
    writer.release()
    return path


def test_a_video_gives_a_frame_a_second(video: Path) -> None:
    inputs = list_inputs([str(video)])
    assert [one.name.rpartition("#")[2] for one in inputs] == ["t=0.0", "t=1.0", "t=2.0", "t=3.0"]
    colours = [mean_colour(one.load(None)) for one in inputs]
    assert colours == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]], "RGB"
    assert mean_colour(find_input(inputs[2].name).load(None)) == [1, 0, 0]
    assert len(list_inputs([str(video)], every_s=0.5)) == 7


def test_what_is_no_video_fails_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_text("no video")
    for name, reason in (("fake.mp4", "not a readable video"), ("missing.mp4", "no such file")):
        (one,) = list_inputs([str(tmp_path / name)])
        with pytest.raises(ImageError, match=reason):
            one.load(None)


@pytest.fixture
def server(jpeg: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(jpeg.parent))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_an_address_is_fetched_when_it_is_its_turn(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good, missing = list_inputs([f"{server}/a.jpg", f"{server}/b.jpg"])
    assert good.load(None).shape == (40, 80, 3)
    with pytest.raises(ImageError, match="the server answers 404"):
        missing.load(None)
    monkeypatch.setattr("linnaea.predict.inputs.MAX_FETCH_BYTES", 100)
    with pytest.raises(ImageError, match="too large"):
        good.load(None)
    (nowhere,) = list_inputs(["http://127.0.0.1:1/a.jpg"])
    with pytest.raises(ImageError, match="cannot be fetched"):
        nowhere.load(None)


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Sends every caller to ``to``, and says a byte of headers a second to callers of /drip."""

    to = ""
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path == "/drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
            with contextlib.suppress(OSError):
                for _ in range(20):
                    self.wfile.write(b"a")
                    time.sleep(0.2)
            return
        self.send_response(302)
        self.send_header("Location", self.to)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    Elsewhere.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


REDIRECTS = {
    **dict.fromkeys(
        ("SERVER/a.jpg", "http://169.254.169.254/latest", "http://[::ffff:7f00:1]/", "http://localhost:1/"),
        "private network",
    ),
    **dict.fromkeys(("file:///etc/passwd", "http://a..b/"), "redirect refused"),
}


def test_a_redirect_leads_to_the_typed_host_or_a_public_one(
    elsewhere: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = list_inputs([f"{elsewhere}/a.jpg"])
    for to, why in REDIRECTS.items():
        monkeypatch.setattr(Elsewhere, "to", to.replace("SERVER", server))
        with pytest.raises(ImageError, match=why):
            one.load(None)
    monkeypatch.setattr(Elsewhere, "to", "/again")
    with pytest.raises(ImageError, match="more than 5 redirects"):
        one.load(None)
    assert Elsewhere.seen.count("/again") == 5


def test_a_server_that_drips_is_left(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "TIMEOUT", aiohttp.ClientTimeout(total=0.5))
    (one,) = list_inputs([f"{elsewhere}/drip"])
    start = time.monotonic()
    with pytest.raises(ImageError, match="timeout"):
        one.load(None)
    assert time.monotonic() - start < 3
