"""What the server and its decoding processes hold together, when several callers send pictures that become huge."""

import io
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.long

SIDE = 9_990
"""99.8 megapixels, below the limit of 100."""


def huge(form: str) -> bytes:
    """A file of at most a few megabytes of a hundred million equal pixels."""
    stream = io.BytesIO()
    if form == "TIFF":  # floats: four bytes a pixel
        Image.fromarray(np.zeros((SIDE // 2, SIDE), np.float32)).save(stream, form, compression="tiff_deflate")
    else:
        Image.new("RGB", (SIDE, SIDE), (90, 120, 60)).save(
            stream, form, **({"lossless": True} if form == "WEBP" else {})
        )
    return stream.getvalue()


def resident_bytes(process: int) -> int:
    """The memory of a process and its children."""
    total, waiting = 0, [process]
    while waiting:
        one = Path(f"/proc/{waiting.pop()}")
        try:
            total += int((one / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in (one / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return total


def wait_for(address: str) -> None:
    for _ in range(600):
        try:
            httpx.get(f"{address}/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the server does not start")


def small_picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize("form", ["WEBP", "TIFF", "PNG"])
def test_four_huge_pictures_at_once_are_bounded(form: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    words = [sys.executable, "-m", "linnaea", "serve", "--model", "nano", "--port", address.rsplit(":", 1)[1]]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stop, seen = threading.Event(), [0]

    def watch() -> None:
        while not stop.wait(0.02):
            seen.append(resident_bytes(server.pid))

    def send(data: bytes) -> int:
        return httpx.post(f"{address}/predict", files=[("files", ("a", data))], timeout=120).status_code

    try:
        wait_for(address)
        assert send(small_picture()) == 200
        before, data = resident_bytes(server.pid), huge(form)
        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(4) as callers:
            codes = list(callers.map(send, [data] * 4))
        time.sleep(1)
        stop.set()
        watcher.join()
        after = resident_bytes(server.pid)
        assert send(small_picture()) == 200
    finally:
        stop.set()
        server.terminate()
        server.wait(30)
    figures = [f"{value / 1e9:.2f}" for value in (before, max(seen), after)]
    print(f"{form} of {len(data):,} bytes, four at once: {' -> '.join(figures)} GB, {codes}")
    assert set(codes) <= {200, 413, 415, 503}
    assert max(seen) < before + 2.6e9, "two are decoded at once, with 1 GB each"
    assert after < before + 0.5e9
