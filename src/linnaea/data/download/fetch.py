"""The downloader: it fetches URLs with one queue and one gate per host, and every URL gets exactly one outcome."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, TypeAlias

import aiohttp
from yarl import URL

from linnaea import __version__
from linnaea.data.download.ledger import Ledger, State, UrlResult
from linnaea.data.download.politeness import (
    EVERYTHING_ALLOWED,
    MAX_ROBOTS_BYTES,
    MAX_ROBOTS_REDIRECTS,
    PRODUCT,
    HostGate,
    HostLimits,
    PrivateAddressError,
    PublicResolver,
    Robots,
    host_of,
    parse_robots,
    retry_after_s,
    why_no_url,
)
from linnaea.data.download.received import Body, BodyError, Checksums, why_no_connection
from linnaea.errors import LinnaeaError
from linnaea.storage import explain_os_errors

TRANSIENT = {408, 425, 500, 502, 504, 507, 509, 520, 521, 522, 523, 524, 529}
"""Statuses that are retried. With 429 and 503 the host asks for a pause. Any other status than 200 is final."""
NOT_NOW = {429, 503}
REDIRECTS = {301, 302, 303, 307, 308}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}  # the standard phrases; hosts send many variants
OPTED_OUT = {"noai", "noimageai"}
"""Values of the header X-Robots-Tag by which a host opts a picture out of machine learning."""


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """The options of a download."""

    url_column: str = "url"
    contact: str = ""
    """An e-mail address or web page of the person who runs this; part of the User-Agent."""
    max_connections: int = 128
    """Concurrent requests over all hosts."""
    host: HostLimits = field(default_factory=HostLimits)
    timeout_s: float = 120.0
    """Maximum time for one picture; within it, at most 15 s to connect and 30 s without data."""
    max_bytes: int = 100_000_000
    max_attempts: int = 5
    """Attempts per URL after temporary failures; waits that a host asks for count separately (at most ten)."""
    max_redirects: int = 5
    backoff_s: float = 1.0
    """Pause after the first failure; it doubles with every further failure, with jitter, up to 60 s."""
    max_wait_s: float = 900.0
    """Longest pause that a host may ask for; after a longer one it gets no more requests in this run."""
    ignore_robots: bool = False
    """Ignore robots.txt; only for your own servers."""
    allow_private: bool = False
    """Also fetch from loopback and private networks."""
    retry_failed: bool = False
    """Retry URLs that failed temporarily in an earlier run."""
    window: int = 50_000
    """Number of URLs in memory at a time."""
    part: tuple[int, int] = (1, 1)
    """The share of this machine: ``(2, 8)`` takes only the hosts of machine 2 of 8."""

    def __post_init__(self) -> None:
        number, n_parts = self.part
        if not 1 <= number <= n_parts:
            raise ValueError(f"part {number}/{n_parts}: must be between 1/{n_parts} and {n_parts}/{n_parts}")
        if min(self.max_connections, self.max_attempts, self.max_bytes, self.window) < 1 or self.timeout_s <= 0:
            raise ValueError("connections, attempts, bytes, window and time limit must be positive")

    @property
    def user_agent(self) -> str:
        contact = f"; +{self.contact}" if self.contact else ""
        return f"{PRODUCT}/{__version__} (biodiversity image download{contact})"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One URL to fetch."""

    key: bytes
    url: str
    checksums: Checksums = field(default_factory=Checksums)
    at: str = ""
    """The target of the last redirect; empty before the first one."""
    n_redirects: int = 0
    n_attempts: int = 0
    n_waits: int = 0

    @property
    def target(self) -> URL:
        return URL(self.at or self.url)


@dataclass(frozen=True, kw_only=True)
class _Again:
    """A temporary failure, to be retried. ``wait_s`` is set if the host asked for a wait."""

    reason: str
    status: int = 0
    wait_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Elsewhere:
    location: str


_Step: TypeAlias = UrlResult | _Again | _Elsewhere


@dataclass
class Host:
    """One origin (scheme, name, port) with its rules and its queue; http and https share the gate of their name."""

    name: str
    origin: URL
    gate: HostGate
    robots: Robots = EVERYTHING_ALLOWED
    knows_robots: bool = False
    queue: deque[Job] = field(default_factory=deque)
    is_served: bool = False
    n_files: int = 0
    n_bytes: int = 0


class Downloader:
    """The fetcher of jobs; every job gets exactly one :class:`UrlResult` in the ledger."""

    def __init__(self, ledger: Ledger, config: DownloadConfig, on_done: Callable[[UrlResult], None]) -> None:
        self.ledger, self.config = ledger, config
        self.hosts: dict[str, Host] = {}
        self._gates: dict[str, HostGate] = {}
        self._on_done = on_done
        self._slots = asyncio.Semaphore(config.max_connections)
        self._window = asyncio.Semaphore(config.window)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="download")

    async def run(self, jobs: Iterator[list[Job]]) -> None:
        """Fetch all jobs; ``jobs`` yields lists and is advanced in a thread.

        Raises:
            LinnaeaError: the disk is full or the table cannot be read.
        """
        connector = aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=300, resolver=None if self.config.allow_private else PublicResolver()
        )
        timeout = aiohttp.ClientTimeout(total=self.config.timeout_s, sock_connect=15, sock_read=30)
        headers = {"User-Agent": self.config.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, timeout=timeout, headers=headers, cookie_jar=aiohttp.DummyCookieJar()
                ) as self._session,
                asyncio.TaskGroup() as self._tasks,
            ):
                await self._feed(jobs)
        except BaseExceptionGroup as group:
            known, _ = group.split(LinnaeaError)
            raise (known or group).exceptions[0] from None
        finally:
            self._pool.shutdown(wait=True)

    async def _feed(self, jobs: Iterator[list[Job]]) -> None:
        while (some := await self._in_thread(next, jobs, None)) is not None:
            for job in some:
                await self._window.acquire()
                self._put(job)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _put(self, job: Job) -> None:
        host = self._host(job.target)
        host.queue.append(job)
        if not host.is_served:
            host.is_served = True
            self._tasks.create_task(self._serve(host))

    def _host(self, url: URL) -> Host:
        origin = url.origin()
        key = str(origin)
        if key not in self.hosts:
            name = host_of(key)
            gate = self._gates.setdefault(name, HostGate(limits=self.config.host))
            self.hosts[key] = Host(name=name, origin=origin, gate=gate)
        return self.hosts[key]

    async def _serve(self, host: Host) -> None:
        """Start the requests of one host as fast as its gate allows."""
        if not self.config.ignore_robots and not host.knows_robots:
            await self._read_robots(host)
        while host.queue:
            if host.gate.closed:
                await self._finish(host.queue.popleft(), self._failed(host.gate.closed))
                continue
            await host.gate.acquire()
            await self._slots.acquire()
            if not host.gate.is_open():
                host.gate.release()
                self._slots.release()
                continue
            self._tasks.create_task(self._fetch(host, host.queue.popleft()))
        host.is_served = False

    async def _fetch(self, host: Host, job: Job) -> None:
        job = replace(job, n_attempts=job.n_attempts + 1)
        try:
            step = await self._request(host, job)
        finally:
            host.gate.release()
            self._slots.release()
        match step:
            case UrlResult():
                await self._finish(job, step)
            case _Elsewhere():
                await self._follow(job, step.location)
            case _Again(wait_s=None):
                if job.n_attempts - job.n_waits >= self.config.max_attempts:
                    await self._finish(job, self._failed(step.reason, step.status))
                    return
                tries = job.n_attempts - job.n_waits
                await asyncio.sleep(min(self.config.backoff_s * 2 ** (tries - 1), 60) * random.uniform(0.5, 1.5))
                self._put(replace(job, at="", n_redirects=0))
            case _Again():
                if job.n_waits >= 10 or host.gate.closed:
                    await self._finish(job, self._failed(step.reason, step.status))
                    return
                self._put(replace(job, n_waits=job.n_waits + 1))

    async def _follow(self, job: Job, location: str) -> None:
        if job.n_redirects >= self.config.max_redirects:
            await self._finish(job, self._refused(f"more than {self.config.max_redirects} redirects"))
            return
        try:
            at = str(job.target.join(URL(location)))
        except ValueError:
            at = ""
        if wrong := why_no_url(at, self.config.allow_private):
            await self._finish(job, self._refused(f"redirect refused ({wrong})" if at else "redirect without a URL"))
            return
        self._put(replace(job, at=at, n_redirects=job.n_redirects + 1, n_attempts=job.n_attempts - 1))

    async def _request(self, host: Host, job: Job) -> _Step:
        if not host.robots.allows(job.target.raw_path_qs):
            return self._refused("robots.txt does not allow it")
        asked_at = host.gate.clock()
        try:
            async with self._session.get(job.target, allow_redirects=False) as response:
                verdict = self._judge_status(host, response, asked_at) or self._judge_headers(response)
                return await self._receive(host, job, response) if verdict is None else verdict
        except (BodyError, PrivateAddressError, aiohttp.ClientError, OSError, ValueError) as error:
            return self._explain(host, error)

    def _explain(self, host: Host, error: Exception) -> _Step:
        """Return what an exception means for the URL, and tell the gate of its host."""
        step: _Step
        match error:
            case BodyError(is_final=True):
                step = self._refused(str(error), 200)
            case BodyError():
                step = _Again(reason=str(error), status=200)
            case PrivateAddressError():
                step = self._refused(f"leads into a private network ({error})")
            case aiohttp.InvalidURL() | ValueError():
                step = self._refused("not a URL")
            case aiohttp.ClientPayloadError():
                step = _Again(reason="truncated: the connection ended before the picture did", status=200)
            case _:
                reason = why_no_connection(error)
                host.gate.failed(reason)
                step = _Again(reason=reason)
        return step

    def _judge_status(self, host: Host, response: aiohttp.ClientResponse, asked_at: float) -> _Step | None:
        """Return what the status means for the URL, and tell the host's gate; ``None`` if a picture may follow."""
        status = response.status
        said = f"HTTP {status} {_PHRASES.get(status, '')}".strip()
        if status in NOT_NOW:
            wait_s = retry_after_s(response.headers.get("Retry-After"), response.headers.get("Date"))
            if wait_s is None:
                wait_s = host.gate.own_wait_s(self.config.backoff_s)
            if wait_s > self.config.max_wait_s:
                host.gate.close(f"{said}; host asks to come back in {wait_s:,.0f} s")
            host.gate.refused(wait_s, asked_at)
            return _Again(reason=host.gate.closed or said, status=status, wait_s=wait_s)
        if status in TRANSIENT:
            host.gate.stumbled()
            return _Again(reason=said, status=status)
        host.gate.answered(host.gate.clock() - asked_at)
        if status in REDIRECTS and (location := response.headers.get("Location")):
            return _Elsewhere(location=location)
        return None if status == 200 else self._refused(said, status)

    def _judge_headers(self, response: aiohttp.ClientResponse) -> UrlResult | None:
        tags = {word.strip().lower() for word in response.headers.get("X-Robots-Tag", "").split(",")}
        if (hit := sorted(tags & OPTED_OUT)) and not self.config.ignore_robots:
            return self._refused(f"host opted out of machine learning (X-Robots-Tag: {hit[0]})", 200)
        if (response.content_length or 0) > self.config.max_bytes:
            return self._refused(f"larger than {self.config.max_bytes:,} bytes", 200)
        return None

    async def _receive(self, host: Host, job: Job, response: aiohttp.ClientResponse) -> UrlResult:
        body = Body(self.ledger.partial_path(job.key), self.config.max_bytes, wants_md5=bool(job.checksums.md5))
        try:
            async for chunk in response.content.iter_any():
                if body.add(chunk):
                    await self._in_thread(body.flush)
            has_known_end = response.content_length is not None or "Transfer-Encoding" in response.headers
            draft = UrlResult(key=job.key, state="done", status=200, final_url=str(response.url) if job.at else "")
            outcome: UrlResult = await self._in_thread(self._keep, body, job, draft, has_known_end)
        except Exception:
            # Not on cancellation: a thread may be about to rename the file. Closing the ledger tidies up.
            body.discard()
            raise
        host.n_files += 1
        host.n_bytes += outcome.n_bytes
        return outcome

    def _keep(self, body: Body, job: Job, outcome: UrlResult, has_known_end: bool) -> UrlResult:
        """Complete the file, write its row in the ledger, then rename the file.

        This runs in a thread. Only a kill can interrupt it, and the ledger repairs that when it is opened again.
        """
        received = body.complete(job.checksums, has_known_end)
        outcome = replace(
            outcome,
            host=host_of(job.url),
            n_attempts=job.n_attempts,
            n_bytes=received.n_bytes,
            sha256=received.sha256,
            md5=received.md5,
            content_type=received.content_type,
            ending=received.ending,
        )
        final = self.ledger.directory / outcome.path
        with explain_os_errors(final):
            final.parent.mkdir(exist_ok=True)
            self.ledger.record(outcome)
            body.partial.replace(final)
        return outcome

    async def _finish(self, job: Job, outcome: UrlResult) -> None:
        if outcome.state != "done":  # the row of a picture was written together with its file
            outcome = replace(outcome, key=job.key, host=host_of(job.url), n_attempts=job.n_attempts)
            await self._in_thread(self.ledger.record, outcome)
        self._window.release()
        self._on_done(outcome)

    def _refused(self, reason: str, status: int = 0) -> UrlResult:
        return _verdict("refused", reason, status)

    def _failed(self, reason: str, status: int = 0) -> UrlResult:
        return _verdict("failed", reason, status)

    async def _read_robots(self, host: Host) -> None:
        """Read robots.txt: a missing one (4xx) allows everything, a failing one (5xx) nothing (RFC 9309, 2.3.1)."""
        host.knows_robots = True
        for attempt in range(3):
            try:
                status, text = await self._fetch_robots(host)
                if status == 200:
                    host.robots = parse_robots(text)
                    host.gate.crawl_delay_s = delay = host.robots.crawl_delay_s
                    if delay > self.config.host.max_crawl_delay_s:
                        host.gate.close(f"robots.txt asks for {delay:,.0f} s between two requests")
                    return
                if 400 <= status < 500 and status != 429:
                    return
                reason = f"robots.txt cannot be read (HTTP {status})"
            except PrivateAddressError:
                return  # every URL of the host reports this itself
            except (aiohttp.ClientError, OSError, ValueError) as error:
                reason = f"robots.txt cannot be read: {why_no_connection(error)}"
            await asyncio.sleep(self.config.backoff_s * 2**attempt * random.uniform(0.5, 1.5))
        host.gate.close(reason)

    async def _fetch_robots(self, host: Host) -> tuple[int, str]:
        """Return status and text of a robots.txt; redirects are checked as those of pictures are."""
        at = host.origin / "robots.txt"
        for _ in range(MAX_ROBOTS_REDIRECTS + 1):
            async with self._slots, self._session.get(at, allow_redirects=False) as response:
                if response.status in REDIRECTS and (location := response.headers.get("Location")):
                    at = at.join(URL(location))
                    if why_no_url(str(at), self.config.allow_private):
                        return 404, ""  # RFC 9309, 2.3.1.2: as if there were none
                    continue
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) >= MAX_ROBOTS_BYTES:
                        break
                return response.status, content[:MAX_ROBOTS_BYTES].decode("utf-8", "replace")
        return 404, ""


def _verdict(state: State, reason: str, status: int) -> UrlResult:
    return UrlResult(key=b"", state=state, reason=reason, status=status)
