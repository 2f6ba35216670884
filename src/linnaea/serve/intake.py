"""Limit what comes in before it is read (each request's bytes, all requests' bytes and number), and count requests."""

import asyncio
import time
from contextlib import suppress

from fastapi.responses import JSONResponse
from h11 import LocalProtocolError
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linnaea.serve.service import Limits

BUSY = "too many photographs are waiting; try again"
COME_BACK = {"Retry-After": "2"}
LINGER_S = 10
"""The seconds that a refused request has to send its body."""
TOO_LONG = "the request is longer than {limit} bytes; send fewer or smaller photographs"


TOO_SLOW = "the request arrives too slowly; send it again"
_CODES = {BUSY: 429, TOO_SLOW: 408}
_LEAST_LAG_S = 1.0
"""An upload that is less than this behind is not given up for another."""


class _Upload:
    """A request whose body may still be arriving."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.start = limits, time.monotonic()
        self.n_bytes, self.more, self.refused = 0, True, ""
        self._waiting: asyncio.Timeout | None = None

    @property
    def lag_s(self) -> float:
        """Return by how many seconds the body is behind the slowest rate that is allowed; less than 0 if complete."""
        return time.monotonic() - self.start - self.n_bytes / self.limits.bytes_per_s if self.more else -1.0

    async def next(self, receive: Receive) -> Message:
        """Return the next message.

        Raises:
            _RefusedError: it does not arrive in time, or the upload was given up meanwhile.
        """
        try:
            async with asyncio.timeout(max(0.0, self.limits.body_s - self.lag_s) if self.more else None) as waiting:
                self._waiting = waiting
                return await receive()
        except TimeoutError:
            self.refused = self.refused or TOO_SLOW
            raise _RefusedError from None
        finally:
            self._waiting = None

    def give_up(self) -> bool:
        """Make room for another; return whether there was something to give up."""
        if self._waiting is None or self.refused:
            return False
        self.refused = BUSY
        self._waiting.reschedule(asyncio.get_running_loop().time())
        return True


class LimitBody:
    """Refuses requests that are too large (413), too slow (408) or too many at once (429), also while they come in.

    The memory of all requests together is bounded, regardless of the number of callers, the size of their photographs
    and the speed of their connections. Where there is no room, the slowest upload is given up, if it is slow.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self._uploads: dict[_Upload, str] = {}
        """Every request and its client."""
        self._n_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        upload, begun = _Upload(self.limits), False
        client = scope["client"][0] if scope.get("client") else ""
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        upload.refused = self._why_refused(length, client)

        async def counted() -> Message:
            message = await upload.next(receive)
            upload.more = message.get("more_body", False)
            self._count(upload, len(message.get("body", b"")))
            if upload.refused:
                raise _RefusedError
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal begun
            if not upload.refused:  # after a refusal, the application's own error answer would be misleading
                begun = True
                await send(message)

        if not upload.refused:
            self._uploads[upload] = client
            try:
                await self.app(scope, counted, unless_refused)
            except _RefusedError:
                pass
            finally:
                del self._uploads[upload]
                self._n_bytes -= upload.n_bytes
        if upload.refused and not begun:
            await self._refuse(upload, scope, receive, send)

    def _why_refused(self, length: bytes, client: str) -> str:
        """Return why a request is refused by its head and its client."""
        limits = self.limits
        if length.isdigit() and (len(length) > 18 or int(length) > limits.request_bytes):
            return TOO_LONG
        of_client = sum(one == client for one in self._uploads.values())
        if of_client >= limits.per_client and not self._make_room(client):
            return BUSY
        return BUSY if len(self._uploads) >= limits.waiting and not self._make_room() else ""

    def _count(self, upload: _Upload, n_more: int) -> None:
        upload.n_bytes += n_more
        self._n_bytes += n_more
        if upload.n_bytes > self.limits.request_bytes:
            upload.refused = TOO_LONG
        elif n_more and upload.n_bytes < self._n_bytes > self.limits.bytes_under_way and not self._make_room():
            upload.refused = BUSY

    def _make_room(self, client: str | None = None) -> bool:
        """Give up the upload that is furthest behind (of one client, if it is given), if one is."""
        slow = [one for one, of in self._uploads.items() if one.lag_s > _LEAST_LAG_S and client in (None, of)]
        return any(one.give_up() for one in sorted(slow, key=lambda one: -one.lag_s))

    async def _refuse(self, upload: _Upload, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and discard the rest of the body first, since most callers read no answer before they have sent it."""
        why = upload.refused
        headers = dict(COME_BACK) if why == BUSY else {}
        linger_s = LINGER_S if upload.lag_s < _LEAST_LAG_S else 0
        try:
            async with asyncio.timeout(linger_s):
                while upload.more:
                    upload.more = (await receive()).get("more_body", False)
        except TimeoutError:
            headers["Connection"] = "close"
        detail = why.format(limit=f"{self.limits.request_bytes:,}")
        answer = JSONResponse({"detail": detail}, status_code=_CODES.get(why, 413), headers=headers)
        await answer(scope, receive, send)


class _RefusedError(Exception):
    """Ends the reading of a body."""


class Count:
    """Counts and times all requests, refused ones too. It does little else, since a full server refuses many."""

    def __init__(self, app: ASGIApp, answered: Counter, seconds: Histogram) -> None:
        self.app, self.answered, self.seconds = app, answered, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered.labels(message["status"]).inc()
                self.seconds.observe(time.monotonic() - start)
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            with suppress(LocalProtocolError):  # the request was malformed, and its connection is closed already
                await send(message)

        await self.app(scope, receive, counted)
