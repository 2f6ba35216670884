"""Connections of a server: how many there are, and how long they may take to send the head of a request."""

import asyncio
import errno
import resource
import socket
from collections import Counter
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from linnaea.errors import LinnaeaError
from linnaea.serve.service import Limits

OWN_DESCRIPTORS = 40
"""Files, pipes and sockets that the server itself has open."""
CONNECTIONS_AT_MOST = 4096


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that has this address, so that a server which cannot have it says so before it loads a model.

    Raises:
        LinnaeaError: Another program listens there, or the address is not one of this machine.
    """
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "another program listens there; give another --port, or 0 for any that is free"
        raise LinnaeaError(f"--host {host} --port {port}: {why}") from error
    return taken


def make_config(app: ASGIApp, limits: Limits, *, host: str, port: int) -> uvicorn.Config:
    """Return the configuration of a server that waits for no caller without end."""
    n_connections = _count_room()
    return uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=10,
        http=_make_protocol(Crowd(n_connections), limits.head_s), backlog=min(2048, max(8, n_connections // 2)),
    )  # fmt: skip


def _count_room() -> int:
    """Return how many connections fit the limit on open files, which is raised as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass
    n_files = CONNECTIONS_AT_MOST if soft == resource.RLIM_INFINITY else soft - OWN_DESCRIPTORS
    return min(CONNECTIONS_AT_MOST, max(8, n_files))


class Crowd:
    """The open connections. In a full house the next caller takes the place of one who makes the others wait."""

    def __init__(self, n_most: int) -> None:
        self.n_most = n_most
        self._open: dict[Any, str] = {}
        """Each connection and its client, oldest first."""

    def add(self, connection: Any, client: str) -> None:
        """Add a connection, and close another one if there are too many: the oldest of the greediest idle client."""
        self._open[connection] = client
        if len(self._open) <= self.n_most:
            return
        counts = Counter(self._open.values())
        idle = [one for one in self._open if not one.is_busy]
        idle.sort(key=lambda one: -counts[self._open[one]])  # a stable sort: the oldest first
        (idle or [connection])[0].give_up()

    def remove(self, connection: Any) -> None:
        self._open.pop(connection, None)


def _make_protocol(crowd: Crowd, head_s: float) -> type[asyncio.Protocol]:
    base: Any = AutoHTTPProtocol

    class Impatient(base):  # type: ignore[misc]
        """uvicorn's protocol, which ends a connection whose next request has no complete head in time."""

        _ends: asyncio.TimerHandle | None = None

        @property
        def is_busy(self) -> bool:
            """Return whether a request is being answered."""
            return self.cycle is not None and not self.cycle.response_complete

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._await_head()
            crowd.add(self, self.client[0] if self.client else "")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.is_busy:
                self._stop_waiting()
            else:
                self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            crowd.remove(self)
            super().connection_lost(exc)

        def give_up(self) -> None:
            self._stop_waiting()
            crowd.remove(self)
            self.transport.abort()

        def _await_head(self) -> None:
            if self._ends is None:
                self._ends = self.loop.call_later(head_s, self.give_up)

        def _stop_waiting(self) -> None:
            if self._ends is not None:
                self._ends.cancel()
                self._ends = None

    return Impatient
