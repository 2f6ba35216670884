"""A web server on this machine that misbehaves as told, and remembers every request. For tests only."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@cache
def jpeg(seed: int = 0, side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", pixels)[1])


def answer(body: bytes = b"", status: int = 200, delay_s: float = 0.0, **headers: str) -> Behaviour:
    async def behave(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(delay_s)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=named)

    return behave


def picture(seed: int = 0, delay_s: float = 0.0, **headers: str) -> Behaviour:
    return answer(jpeg(seed), delay_s=delay_s, **{"Content_Type": "image/jpeg", **headers})


def page() -> Behaviour:
    return answer(b"<!DOCTYPE html><html><body>Not found, with 200</body></html>", Content_Type="image/jpeg")


def reset() -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return behave


def truncated(*, says_length: bool) -> Behaviour:
    """Half a picture, then the connection closes. Without a length nothing but the picture itself can tell."""

    async def behave(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        length = f"Content-Length: {len(jpeg())}\r\n" if says_length else ""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{length}Connection: close\r\n\r\n"
        request.transport.write(head.encode() + jpeg()[: len(jpeg()) // 2])
        await asyncio.sleep(0.02)
        request.transport.close()
        return web.Response()

    return behave


def endless(chunk: bytes = b"\0" * 65536, pause_s: float = 0.0) -> Behaviour:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(jpeg())
        while True:
            await response.write(chunk)
            await asyncio.sleep(pause_s)

    return behave


def redirect(to: str, status: int = 302) -> Behaviour:
    return answer(status=status, Location=to)


@dataclass(frozen=True)
class Seen:
    at: float
    path: str
    user_agent: str


@dataclass
class MisbehavingServer:
    """``serve(path, first, second, ..., last)``: one behaviour per request, the last one for ever."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    most_at_once: int = 0
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    default: Behaviour | None = None
    _running: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_name(self) -> str:
        """The same server as another host."""
        return f"http://localhost:{self.port}"

    def serve(self, path: str, *behaviours: Behaviour) -> str:
        self.behaviours[path] = list(behaviours)
        return self.url + path

    def count(self, path: str) -> int:
        return sum(one.path == path for one in self.seen)

    def times(self, prefix: str) -> list[float]:
        return [one.at for one in self.seen if one.path.startswith(prefix)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(Seen(time.monotonic(), request.path_qs, request.headers.get("User-Agent", "")))
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            script = self.behaviours.get(request.path_qs)
            if script is None:
                return await (self.default or answer(status=404))(request)
            return await (script.pop(0) if len(script) > 1 else script[0])(request)
        finally:
            self._running -= 1


@contextmanager
def running_server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer()
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
