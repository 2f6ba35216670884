"""Politeness towards hosts: concurrency and rate of requests per host, robots.txt, and private addresses.

This module fetches nothing; :mod:`linnaea.data.download.fetch` asks it before each request.
"""

import asyncio
import hashlib
import ipaddress
import math
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from protego import Protego
from yarl import URL

PRODUCT = "linnaea"
"""The name by which robots.txt files address this crawler."""

MAX_ROBOTS_BYTES = 500 * 1024
"""Bytes of a robots.txt that are read, the minimum of RFC 9309 (section 2.5); the rest is cut off."""


MAX_ROBOTS_REDIRECTS = 5
"""Redirects of a robots.txt that are followed (RFC 9309, section 2.3.1.2)."""


@dataclass(frozen=True, kw_only=True)
class HostLimits:
    """The limits of the load on one host."""

    max_connections: int = 8
    """Maximum of concurrent requests; the gate starts at 2 and increases step by step."""
    slow_s: float = 1.0
    """Latency above which the gate reduces concurrency, if it is also three times the host's usual latency."""
    max_spacing_s: float = 60.0
    """Longest pause between two requests that the gate itself chooses (a crawl-delay may ask for more)."""
    max_own_wait_s: float = 300.0
    """Longest wait after a 429 or 503 without Retry-After; the wait doubles with every one in a row."""
    max_crawl_delay_s: float = 120.0
    """Longest pause between two requests that robots.txt may ask for; a host that asks for more gets none."""
    max_waits_s: float = 3600.0
    """Seconds of pauses that a host may ask for in a run, besides a minute for every answer; then it gets no more."""
    give_up_after: int = 20
    """Failed connections, or rounds of refusals, in a row after which a host gets no more requests in this run."""

    def __post_init__(self) -> None:
        if self.max_connections < 1 or self.give_up_after < 1:
            raise ValueError("a host needs at least one connection and one failure")


@dataclass
class HostGate:
    """The limit of concurrent requests to one host: additive increase, multiplicative decrease (AIMD).

    As in TCP, the limit grows by one per answer until the first sign of trouble, then by one per round. It is halved
    on 429 and 503, and reduced a little while answers are slow. At one connection, further refusals put a growing
    pause between requests. The class is not thread-safe: an instance belongs to one event loop.
    """

    limits: HostLimits = field(default_factory=HostLimits)
    clock: Callable[[], float] = time.monotonic
    limit: float = 2.0
    running: int = 0
    crawl_delay_s: float = 0.0
    spacing_s: float = 0.0
    closed: str = ""
    """Why the host gets no more requests in this run; empty while the gate is open."""
    counts: Counter[str] = field(default_factory=Counter)
    usual_latency_s: float = 0.0
    recent_latency_s: float = 0.0
    _not_before: float = 0.0
    _slowed_at: float = float("-inf")
    _careful: bool = False
    _waited_s: float = 0.0
    _n_answers: int = 0
    _refusals_in_row: int = 0
    _failures_in_row: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.limit = min(self.limit, float(self.limits.max_connections))

    async def acquire(self) -> None:
        """Wait for a free slot, the end of a pause and the crawl-delay; :meth:`release` frees the slot."""
        while not self.closed:
            wait_s = self._not_before - self.clock()
            if self.running < int(self.limit) and wait_s <= 0:
                break
            self._changed.clear()
            try:
                async with asyncio.timeout(wait_s if wait_s > 0 else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
        self.running += 1
        self.counts["requests"] += 1
        self._not_before = max(self._not_before, self.clock() + max(self.spacing_s, self.crawl_delay_s))

    def release(self) -> None:
        self.running -= 1
        self._changed.set()

    def answered(self, latency_s: float) -> None:
        """Record a normal answer (any status but 429 and 5xx) after ``latency_s`` seconds."""
        self._refusals_in_row = self._failures_in_row = 0
        self._n_answers += 1
        first = self.recent_latency_s == 0.0
        self.recent_latency_s = latency_s if first else 0.8 * self.recent_latency_s + 0.2 * latency_s
        # The usual latency falls at once and rises slowly, so that a host that recovers does not stay marked as slow.
        rises = latency_s > self.usual_latency_s
        self.usual_latency_s = latency_s if first or not rises else self.usual_latency_s * 0.99 + latency_s * 0.01
        self.spacing_s = 0.0 if self.spacing_s < 0.05 else self.spacing_s * 0.9
        if self.recent_latency_s > max(self.limits.slow_s, 3 * self.usual_latency_s):
            self._careful = True
            self.limit = max(1.0, self.limit * 0.95)
            self.counts["slow_answers"] += 1
            return
        step = 1 / self.limit if self._careful else 1.0
        self.limit = min(self.limit + step, float(self.limits.max_connections))

    def refused(self, wait_s: float, asked_at: float) -> None:
        """Record a 429 or 503: requests pause for ``wait_s`` seconds and then continue with a lower limit.

        ``asked_at`` is the start of the refused request; requests that were under way together halve the limit once.
        """
        self.counts["refusals"] += 1
        now = self.clock()
        self._not_before = max(self._not_before, now + wait_s)
        self._careful = True
        if asked_at < self._slowed_at:
            return
        self._slowed_at = now
        self._waited_s += wait_s
        self._refusals_in_row += 1
        if self.limit <= 1.0:
            self.spacing_s = min(max(2 * self.spacing_s, 0.25), self.limits.max_spacing_s)
        self.limit = max(1.0, self.limit / 2)
        if self._refusals_in_row >= self.limits.give_up_after:
            self.close(f"host skipped after {self._refusals_in_row} refusals (429, 503) in a row")
        elif self._waited_s > self.limits.max_waits_s + 60 * self._n_answers:
            self.close(f"host skipped after it asked for {self._waited_s:,.0f} s of pauses")

    def own_wait_s(self, base_s: float) -> float:
        """Return the wait in seconds after a refusal without Retry-After; it doubles with every one in a row."""
        return min(base_s * 2.0 ** min(self._refusals_in_row, 20), self.limits.max_own_wait_s)

    def failed(self, reason: str) -> None:
        """Record a failed connection (no address, refused, reset, timeout); enough in a row close the gate."""
        self.counts["failures"] += 1
        self._failures_in_row += 1
        self._careful = True
        self.limit = max(1.0, self.limit * 0.75)
        if self._failures_in_row >= self.limits.give_up_after:
            self.close(f"host skipped after {self._failures_in_row} failures in a row ({reason})")

    def stumbled(self) -> None:
        """Record a server error (500, 502 ...)."""
        self.counts["server_errors"] += 1
        self._failures_in_row = 0
        self._careful = True
        self.limit = max(1.0, self.limit * 0.75)

    def is_open(self) -> bool:
        return not self.closed

    def close(self, reason: str) -> None:
        """Stop all requests to this host in this run."""
        self.closed = self.closed or reason
        self._changed.set()


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Return the seconds to wait by a ``Retry-After`` header: a number, or an HTTP date relative to ``Date``.

    Returns ``None`` if there is no such header or it cannot be read (RFC 9110, 10.2.3).
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until = _http_date(text)
    if until is None:
        return None
    now = (_http_date(date) if date else None) or datetime.now(UTC)
    return max((until - now).total_seconds(), 0.0)


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Robots:
    """The rules of one robots.txt for this crawler (RFC 9309: the longest match wins, allow wins a tie)."""

    parsed: Protego

    def allows(self, path: str) -> bool:
        """Return whether ``path`` (with its query) may be fetched."""
        return self.parsed.can_fetch(f"https://host/{path.removeprefix('/')}", PRODUCT)

    @property
    def crawl_delay_s(self) -> float:
        """The pause in seconds that the host asks for between two requests; 0 if it asks for none."""
        delay = self.parsed.crawl_delay(PRODUCT) or 0.0
        return 0.0 if math.isnan(delay) else max(0.0, delay)


def parse_robots(text: str) -> Robots:
    """Return the rules for this crawler: those of its own groups if there are any, otherwise those for ``*``."""
    # Protego reads a byte order mark as part of the first word, and a version as part of the agent's name.
    return Robots(parsed=Protego.parse(_VERSION.sub(r"\1", text.removeprefix("\ufeff"))))


_VERSION = re.compile(r"^(\s*user-agent\s*:[^/#\r\n]*)/[^#\r\n]*", re.IGNORECASE | re.MULTILINE)

EVERYTHING_ALLOWED = parse_robots("")


class PrivateAddressError(Exception):
    """Raised for a host name or address in a private network."""


def is_public(address: str) -> bool:
    """Return whether an IP address is public (not loopback, private, link-local, multicast ...)."""
    try:
        parsed = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in network for network in _NEVER_PUBLIC):
            return False
        embedded = _embedded(parsed)
        return all(map(_is_public, embedded)) if embedded else _is_public(parsed)
    return _is_public(parsed)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


_NEVER_PUBLIC = tuple(ipaddress.IPv6Network(text) for text in ("fec0::/10", "64:ff9b:1::/48", "2001::/32"))
"""Site-local addresses, NAT64 of a local network, and Teredo."""
_ENDS_IN_IPV4 = tuple(
    ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
"""IPv4-compatible, IPv4-mapped, IPv4-translated (RFC 7915) and NAT64 (RFC 6052) addresses."""
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The third quarter of an address whose last quarter is an IPv4 address (RFC 5214)."""


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that packets to an IPv6 address are sent on to."""
    number = int(address)
    if any(address in network for network in _ENDS_IN_IPV4) or (number >> 32 & 0xFFFFFFFF) in _ISATAP:
        return [ipaddress.IPv4Address(number & 0xFFFFFFFF)]
    return [] if address.sixtofour is None else [address.sixtofour]


def why_no_url(url: str, allow_private: bool) -> str:
    """Return why a cell of the URL column can never be fetched, or ``""`` if it can."""
    if not url.strip():
        return "row has no URL"
    try:
        parsed = URL(url)
        scheme, host = parsed.scheme, parsed.host
        str(parsed).encode()
    except ValueError as error:
        return f"not a URL ({' '.join(str(error).split())[:200]})"
    if scheme not in ("http", "https") or not host:
        return "not an http or https URL"
    if wrong := _why_no_host(parsed.raw_host or ""):
        return f"not a URL ({wrong})"
    if not allow_private and _is_private_literal(host):
        return f"leads into a private network ({host})"
    return ""


def _why_no_host(host: str) -> str:
    """Return what is wrong with the name of a host (RFC 1035, section 2.3.4), or ``""``."""
    if ":" in host:
        return ""
    labels = host.removesuffix(".").split(".")
    if not all(labels):
        return "its host has an empty part between two dots"
    if max(map(len, labels)) > 63 or len(host) > 253:
        return "its host has a part of more than 63 letters, or more than 253 in all"
    if not host.isascii() or any(letter <= " " or letter in _NOT_IN_HOSTS for letter in host):
        return "its host has characters that no host has"
    return ""


_NOT_IN_HOSTS = set('"#%/<>?@[\\]^`{|}\x7f')


def host_of(url: str) -> str:
    """Return the host of a valid URL, with its port if that is not the default."""
    parsed = URL(url)
    name = (parsed.host_subcomponent or "").lower()
    return name if parsed.is_default_port() else f"{name}:{parsed.port}"


def belongs_to(part: tuple[int, int], host: str) -> bool:
    """Return whether ``host`` belongs to this machine's ``part``."""
    number, n_parts = part
    return int.from_bytes(hashlib.sha256(host.encode()).digest()[:8]) % n_parts == number - 1


def _is_private_literal(host: str) -> bool:
    return (":" in host or host.replace(".", "").isdigit()) and not is_public(host.removesuffix("."))


class PublicResolver(AbstractResolver):
    """A resolver that returns public addresses only.

    The connection uses the checked addresses; there is no second look-up.
    """

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        public = [address for address in found if is_public(address["host"])]
        if not public:
            raise PrivateAddressError(host)
        return public

    async def close(self) -> None:
        await self._inner.close()
