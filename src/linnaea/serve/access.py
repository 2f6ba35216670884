"""Who may ask a server: the names it answers to, a token, and no page of another site."""

import hmac
import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY_HOST = "*"
OPEN_PATHS = ("/", "/health", "/review", "/review/")
"""Paths that need no token: the pages ask for it, and a health check has none."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask."""

    hosts: tuple[str, ...] = (ANY_HOST,)
    """Names that a request may be addressed to, besides IP addresses, ``localhost`` and this machine's own name; a page
    elsewhere could otherwise reach the server under a name of its own (DNS rebinding). ``*`` allows all."""
    token: str = field(default="", repr=False)
    """What a caller must send as ``Authorization: Bearer TOKEN``; empty for no token."""

    def allows_host(self, host: str) -> bool:
        """Return whether a header ``Host`` is a name of this server."""
        name = _name_of(host)
        known = _own_names() | {_name_of(one) for one in self.hosts} - {""}
        return ANY_HOST in self.hosts or name in known or _is_address(name)

    def allows_token(self, header: str) -> bool:
        """Return whether a header ``Authorization`` has the token."""
        scheme, _, given = header.partition(" ")
        return not self.token or (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())
        )


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _own_names() -> set[str]:
    own = socket.gethostname().lower()
    return {"localhost", own, own.partition(".")[0]}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a server on this address is reached from its own machine only."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


class CheckCaller:
    """Refuses requests to a foreign name (421), from a page of another site (403), and without the token (401)."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._why_refused(scope)):
            code, why = refused
            headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
            await JSONResponse({"detail": why}, status_code=code, headers=headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _why_refused(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self.access.allows_host(host):
            return 421, f"this server does not answer to {host[:100]!r}; start it with --allowed-host {host[:100]}"
        if scope["method"] not in ("GET", "HEAD") and _is_of_other_site(headers, host):
            return 403, "a page of another site may not ask this server"
        if scope["path"] not in OPEN_PATHS and not self.access.allows_token(headers.get("authorization", "")):
            return 401, "this server asks for its token: send the header Authorization: Bearer TOKEN"
        return None


def _is_of_other_site(headers: dict[str, str], host: str) -> bool:
    """Return whether a browser says that a page of another origin sends this request."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    try:
        parts, asked = urlsplit(origin), urlsplit(f"//{host}")
        ports = parts.port, asked.port
    except ValueError:
        return True
    default = {"http": 80, "https": 443}.get(parts.scheme)
    origin_port, host_port = (port or default for port in ports)  # the scheme of Host is unknown behind a proxy
    return (parts.hostname, origin_port) != (asked.hostname, host_port)
