"""Limit what comes in before it is read (each request's bytes, all requests' bytes and number), and count requests."""

import asyncio
import time

from fastapi.responses import JSONResponse
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linnaea.serve.service import Limits

BUSY = "too many photographs are waiting; try again"
COME_BACK = {"Retry-After": "2"}
LINGER_S = 10
"""The seconds that a refused request has to send its body."""
TOO_LONG = "the request is longer than {limit} bytes; send fewer or smaller photographs"


class LimitBody:
    """Refuses requests that are too large (413) or too many at once (429), by their header or while they come in.

    The memory of all requests together is bounded, regardless of the number of callers, the size of their photographs
    and the speed of their connections.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self._n_requests = self._n_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        limits, n_bytes, more, begun = self.limits, 0, True, False
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        too_long = length.isdigit() and (len(length) > 18 or int(length) > limits.request_bytes)
        refused = TOO_LONG if too_long else BUSY if self._n_requests >= limits.waiting else ""

        async def counted() -> Message:
            nonlocal n_bytes, more, refused
            message = await receive()
            more = message.get("more_body", False)
            n_more = len(message.get("body", b""))
            n_bytes += n_more
            self._n_bytes += n_more
            if n_bytes > limits.request_bytes:
                refused = TOO_LONG
            elif n_more and n_bytes < self._n_bytes > limits.bytes_under_way:
                refused = BUSY
            if refused:
                raise _RefusedError
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal begun
            if not refused:  # after a refusal, the application's own error answer would be misleading
                begun = True
                await send(message)

        if not refused:
            self._n_requests += 1
            try:
                await self.app(scope, counted, unless_refused)
            except _RefusedError:
                pass
            finally:
                self._n_requests -= 1
                self._n_bytes -= n_bytes
        if refused and not begun:
            await self._refuse(refused, more, scope, receive, send)

    async def _refuse(self, why: str, more: bool, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and discard the rest of the body first, since most callers read no answer before they have sent it."""
        headers = dict(COME_BACK) if why == BUSY else {}
        try:
            async with asyncio.timeout(LINGER_S):
                while more:
                    more = (await receive()).get("more_body", False)
        except TimeoutError:
            headers["Connection"] = "close"
        detail = why.format(limit=f"{self.limits.request_bytes:,}")
        answer = JSONResponse({"detail": detail}, status_code=429 if why == BUSY else 413, headers=headers)
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
            await send(message)

        await self.app(scope, receive, counted)
