"""Callers who wait, or send a byte now and then, hold up nobody."""

import io
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.serve.conftest import listening

from linnaea.predict.predictor import Predictor
from linnaea.serve import connections, intake
from linnaea.serve.app import make_app
from linnaea.serve.connections import Crowd
from linnaea.serve.service import Limits

PATIENT = Limits(waiting=8, per_client=8, head_s=1.0, body_s=1.5, seconds=30)
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"


def picture() -> list[tuple[str, tuple[str, bytes]]]:
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "JPEG")
    return [("files", ("a.jpg", stream.getvalue()))]


@contextmanager
def serving(predictor: Predictor, limits: Limits) -> Iterator[tuple[str, tuple[str, int]]]:
    with listening(make_app(predictor, limits=limits), limits) as address:
        yield address, ("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))


def connect(stack: ExitStack, place: tuple[str, int], text: str) -> socket.socket:
    caller = stack.enter_context(socket.create_connection(place, timeout=20))
    caller.sendall(text.encode())
    return caller


def predict(address: str) -> int:
    return httpx.post(f"{address}predict", files=picture(), timeout=30).status_code


def read_all(caller: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    parts = []
    try:
        while part := caller.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_half_a_head_is_not_waited_for(predictor: Predictor) -> None:
    with serving(predictor, PATIENT) as (_, place), ExitStack() as stack:
        callers = [connect(stack, place, text) for text in ("", "G", "POST /predict HTTP/1.1\r\nHost: localhost\r\n")]
        start = time.monotonic()
        assert [read_all(caller) for caller in callers] == [b"", b"", b""]
        assert 0.5 < time.monotonic() - start < 10


def test_a_dripping_head_is_not_waited_for(predictor: Predictor) -> None:
    with serving(predictor, PATIENT) as (_, place), ExitStack() as stack:
        caller = connect(stack, place, "POST /predict HTTP/1.1\r\nX: ")
        start = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(100):
                caller.sendall(b"a")
                time.sleep(0.2)
        assert time.monotonic() - start < 10


def test_a_body_that_does_not_come_is_not_waited_for(predictor: Predictor) -> None:
    with serving(predictor, PATIENT) as (_, place), ExitStack() as stack:
        caller = connect(stack, place, f"{HEAD}Content-Length: 1000\r\n\r\n--x\r\n")
        answer = read_all(caller)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()


def test_idle_uploads_make_room_for_honest_callers(predictor: Predictor) -> None:
    patient = replace(PATIENT, body_s=60.0, head_s=60.0)
    with serving(predictor, patient) as (address, place), ExitStack() as stack:
        for _ in range(3 * patient.waiting):
            connect(stack, place, f"{HEAD}Content-Length: 1000\r\n\r\n--x\r\n")
        time.sleep(1.5)
        assert [predict(address) for _ in range(12)] == [200] * 12


def test_bytes_that_lie_about_make_room_too(predictor: Predictor) -> None:
    patient = replace(PATIENT, body_s=60.0, bytes_under_way=50_000, bytes_per_s=1e6)
    with serving(predictor, patient) as (address, place), ExitStack() as stack:
        for _ in range(3):
            connect(stack, place, f"{HEAD}Content-Length: 100000\r\n\r\n--x\r\n{'a' * 16_000}")
        time.sleep(1.5)
        assert predict(address) == 200


def test_one_client_does_not_take_all_places(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LINGER_S", 0.5)
    limits = replace(PATIENT, per_client=2, body_s=60.0)
    with serving(predictor, limits) as (address, place), ExitStack() as stack:
        busy = [connect(stack, place, f"{HEAD}Content-Length: 1000\r\n\r\n--x\r\n") for _ in range(4)]
        assert b" 429 " in b"".join(read_all(caller)[:20] for caller in busy[2:])
        time.sleep(1.2)
        assert predict(address) == 200


def test_a_full_house_closes_who_keeps_it_waiting(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_AT_MOST", 10)
    patient = replace(PATIENT, head_s=60.0)
    with serving(predictor, patient) as (address, place), ExitStack() as stack:
        for _ in range(100):
            connect(stack, place, "POST")
            time.sleep(0.005)  # a burst overflows the backlog, and a caller tries again after seconds
        assert [predict(address) for _ in range(5)] == [200] * 5


class Connection:
    def __init__(self, *, is_busy: bool = False) -> None:
        self.is_busy, self.closed = is_busy, False

    def give_up(self) -> None:
        self.closed = True


def test_the_greediest_idle_client_gives_up_first() -> None:
    crowd = Crowd(4)
    honest, first, second, busy, new = (Connection(is_busy=n == 3) for n in range(5))
    for one, client in ((honest, "a"), (busy, "b"), (first, "b"), (second, "b")):
        crowd.add(one, client)
    assert not any(one.closed for one in (honest, first, second, busy))
    crowd.add(new, "c")
    assert [one.closed for one in (honest, first, second, busy, new)] == [False, True, False, False, False]


def test_connections_fit_the_limit_on_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 64))
    assert connections._count_room() == 24
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 1_048_576))
    assert connections._count_room() == connections.CONNECTIONS_AT_MOST


def test_the_end_of_a_request_is_the_end_of_its_work(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture whose decoding takes too long: its process is gone when the answer comes."""
    from linnaea.data import isolated
    from linnaea.serve import service as service_module

    monkeypatch.setattr(service_module, "decode_pixels", wait_forever)
    limits = Limits(seconds=0.7)
    started: list[Any] = []
    make = isolated._Worker.__init__

    def remember(self: Any) -> None:
        make(self)
        started.append(self)

    isolated.stop_workers()
    monkeypatch.setattr(isolated._Worker, "__init__", remember)
    with serving(predictor, limits) as (address, _):
        assert predict(address) == 503
        for _ in range(50):
            if started and not started[0].is_alive():
                break
            time.sleep(0.1)
        assert started and not started[0].is_alive()
    assert threading.active_count() < 200


def wait_forever(*arguments: Any) -> None:
    time.sleep(600)
