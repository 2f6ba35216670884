"""Fetch one picture from an address that a person typed, with the downloader's checks and deadlines."""

import asyncio
import socket
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from linnaea import __version__
from linnaea.data.download.fetch import REDIRECTS
from linnaea.data.download.politeness import PrivateAddressError, PublicResolver, why_no_url
from linnaea.data.images import ImageError

TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=15, sock_read=30)
"""The downloader's deadlines in seconds, the total over all redirects."""
MAX_REDIRECTS = 5


class _TypedOrPublic(PublicResolver):
    """A resolver that returns any address of the host that was typed, and public addresses of others."""

    def __init__(self, typed: str) -> None:
        super().__init__()
        self._typed = typed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host == self._typed:
            return await self._inner.resolve(host, port, family)
        return await super().resolve(host, port, family)


def fetch_picture(url: str, max_bytes: int) -> bytes:
    """Return the bytes at an http(s) address. A redirect may lead to public addresses and to the typed host itself.

    Raises:
        ImageError: it cannot be fetched in time, is longer than ``max_bytes``, or leads into a private network.
    """
    if wrong := why_no_url(url, allow_private=True):
        raise ImageError(wrong)
    try:
        return asyncio.run(_fetch(URL(url), max_bytes))
    except PrivateAddressError as error:
        raise ImageError(f"leads into a private network ({error})") from error
    except TimeoutError:
        raise ImageError("cannot be fetched: timeout") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ImageError(f"cannot be fetched: {' '.join(str(error).split()) or type(error).__name__}") from error


async def _fetch(url: URL, max_bytes: int) -> bytes:
    headers = {"User-Agent": f"linnaea/{__version__}"}
    connector = aiohttp.TCPConnector(resolver=_TypedOrPublic(url.raw_host or ""))
    async with (
        asyncio.timeout(TIMEOUT.total),
        aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, headers=headers) as session,
    ):
        at = url
        for _ in range(MAX_REDIRECTS + 1):
            async with session.get(at, allow_redirects=False, proxy=_proxy(at)) as answer:
                if answer.status in REDIRECTS and (location := answer.headers.get("Location")):
                    at = at.join(URL(location))
                    is_typed = (at.raw_host, at.port) == (url.raw_host, url.port)
                    if wrong := why_no_url(str(at), allow_private=is_typed):
                        raise ImageError(f"redirect refused ({wrong})")
                    continue
                if answer.status != 200:
                    raise ImageError(f"the server answers {answer.status} {answer.reason}")
                return await _read(answer, max_bytes)
        raise ImageError(f"more than {MAX_REDIRECTS} redirects")


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment names for an address."""
    return None if proxy_bypass(url.host or "") else getproxies().get(url.scheme)


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise ImageError(f"too large: more than {max_bytes:,} bytes")
    return bytes(content)
