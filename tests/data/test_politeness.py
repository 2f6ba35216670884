"""What hosts say about themselves is read right, and the gate closes and opens as it should."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnaea.data.download.politeness import (
    HostGate,
    HostLimits,
    belongs_to,
    host_of,
    is_public,
    parse_robots,
    retry_after_s,
    why_no_url,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        (format_datetime(NOON + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOON - timedelta(days=1), usegmt=True), 0),
        ("Monday, 23-Nov-26 12:01:00 GMT", 60),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, format_datetime(NOON, usegmt=True)) == seconds


@given(st.text())
def test_retry_after_never_breaks(value: str) -> None:
    seconds = retry_after_s(value, value)
    assert seconds is None or seconds >= 0


RULES = """
User-agent: Googlebot
User-agent: GPTBot # both
Disallow: /

User-agent: *
Crawl-delay: 2
Disallow: /private/
Allow: /private/open
Disallow: /*.gif$
Disallow: /search?q=
Disallow: /ä
Disallow:
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", True),
        ("/a.jpg", True),
        ("/private", True),
        ("/private/a.jpg", False),
        ("/private/open/a.jpg", True),
        ("/x/y.gif", False),
        ("/x/y.gif?size=2", True),
        ("/search?q=owl", False),
        ("/search?p=1&q=owl", True),
        ("/%C3%A4.jpg", False),
        ("/%70rivate/a.jpg", False),
    ],
)
def test_robots_rules(path: str, allowed: bool) -> None:
    robots = parse_robots(RULES)
    assert robots.allows(path) is allowed
    assert robots.crawl_delay_s == 2


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("User-agent: linnaea\nDisallow: /\n\nUser-agent: *\nAllow: /", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: LINNAEA/1.0\nDisallow: /b", True),
        ("User-agent: other\nDisallow: /", True),
        ("User-agent: linnaea\nAllow: /a\nUser-agent: linnaea\nDisallow: /", True),
        ("Disallow: /", True),
        ("\ufeffUser-agent: *\r\nDisallow: /a\r\n", False),
        ("user-agent:*\nDISALLOW:/a", False),
        ("User-agent: *\nDisallow: /a\nAllow: /a", True),
        ("<html><body>not found</body></html>", True),
        ("User-agent: *\nDisallow: *.jpg", False),
    ],
)
def test_which_group_counts(text: str, allowed: bool) -> None:
    assert parse_robots(text).allows("/a.jpg") is allowed


@given(st.text(max_size=60), st.text(max_size=60))
def test_robots_never_break(text: str, path: str) -> None:
    parse_robots(f"User-agent: *\nDisallow: {text}\nCrawl-delay: {text}").allows(path)


def test_patterns_full_of_stars_take_no_time() -> None:
    robots = parse_robots("User-agent: *\nDisallow: /" + "*a" * 2000 + "$")
    assert robots.allows("/" + "a" * 1999)
    assert not robots.allows("/" + "a" * 2000)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808", "2002:808:808::"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::", "no address", "64:ff9b::7f00:1", "64:ff9b:1::808:808",
     "2002:7f00:1::", "2002:a9fe:a9fe::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "2001::1",
     "2001:4860::5efe:10.0.0.1", "2001:4860::200:5efe:a00:1", "0x7f.1", "2130706433", "127.1", "0177.0.0.1"],
)  # fmt: skip
def test_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    ["", "  ", "a.jpg", "/a.jpg", "ftp://a.org/b", "file:///etc/passwd", "http://", "http://[1", "javascript:x",
     "http://127.0.0.1/a.jpg", "http://[::1]/a.jpg", "data:image/png;base64,xx", "http://a..b/x", "http://.org/",
     f"http://{'a' * 64}.com/", f"http://{'a.' * 130}com/", "http://xn--a.com/", "http://a b.org/", "http://a|b.org/x",
     "http://a.org:99999/", "http://127.1/", "http://2130706433/", "http://127.0.0.1./", "http://\udcff.org/"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    assert why_no_url(url, allow_private=False)


@given(st.text())
def test_any_cell_is_judged_without_breaking(cell: str) -> None:
    if not why_no_url(cell, allow_private=True):
        assert host_of(cell)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Example.ORG/a.jpg", "example.org"),
        ("https://example.org:443/a.jpg", "example.org"),
        ("https://example.org:8443/a.jpg", "example.org:8443"),
        ("https://me:secret@example.org/a.jpg", "example.org"),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert host_of(url) == host


@given(st.text(min_size=1), st.integers(1, 20))
def test_a_host_belongs_to_exactly_one_machine(host: str, n_parts: int) -> None:
    assert sum(belongs_to((number, n_parts), host) for number in range(1, n_parts + 1)) == 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def gate(**limits: float) -> tuple[HostGate, Clock]:
    clock = Clock()
    return HostGate(limits=HostLimits(**{"max_connections": 16, **limits}), clock=clock), clock  # type: ignore[arg-type]


def test_the_gate_opens_with_answers_up_to_its_limit() -> None:
    one, _ = gate()
    assert one.limit == 2
    for _ in range(100):
        one.answered(0.1)
    assert one.limit == 16


def test_requests_refused_together_halve_the_limit_once() -> None:
    one, clock = gate()
    one.limit = 16.0
    clock.now = 10
    for _ in range(16):
        one.refused(0.0, asked_at=9.0)
    assert one.limit == 8
    clock.now = 12
    one.refused(0.0, asked_at=11.0)
    assert one.limit == 4


def test_after_trouble_the_gate_opens_slowly() -> None:
    one, _ = gate()
    one.limit = 16.0
    one.refused(0.0, asked_at=0.0)
    for _ in range(8):
        one.answered(0.1)
    assert 8.5 < one.limit <= 9


def test_at_one_connection_refusals_space_requests_and_answers_close_up_again() -> None:
    one, clock = gate(max_spacing_s=5)
    one.limit = 1.0
    for k in range(10):
        clock.now += 1
        one.refused(0.0, asked_at=clock.now - 0.5)
        assert one.spacing_s == min(0.25 * 2**k, 5)
    for _ in range(100):
        one.answered(0.1)
    assert one.spacing_s == 0


def test_slow_answers_narrow_the_gate_and_fast_ones_widen_it_again() -> None:
    one, _ = gate()
    for _ in range(30):
        one.answered(0.1)
    for _ in range(30):
        one.answered(4.0)
    assert one.limit < 8
    for _ in range(500):
        one.answered(0.1)
    assert one.limit == 16


def test_a_host_that_is_always_slow_is_not_punished() -> None:
    one, _ = gate()
    for _ in range(100):
        one.answered(4.0)
    assert one.limit == 16


def test_failures_in_a_row_close_the_gate_and_an_answer_in_between_does_not() -> None:
    one, _ = gate(give_up_after=5)
    for _ in range(4):
        one.failed("timeout")
    one.answered(0.1)
    for _ in range(4):
        one.failed("timeout")
    assert one.is_open()
    one.failed("timeout")
    assert not one.is_open() and "5 failures in a row (timeout)" in one.closed


def test_those_who_wait_are_let_go_when_the_gate_closes() -> None:
    async def wait() -> None:
        one = HostGate(limit=1.0)
        await one.acquire()
        waiting = asyncio.create_task(one.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        one.close("gone")
        await asyncio.wait_for(waiting, 1)

    asyncio.run(wait())


def test_refusals_in_row_close_the_gate_and_an_answer_in_between_does_not() -> None:
    one, clock = gate(give_up_after=5)
    for k in range(9):
        clock.now += 1
        one.refused(0.0, asked_at=clock.now)
        if k == 3:
            one.answered(0.1)
        assert one.is_open() is (k < 8)
    assert "5 refusals" in one.closed


@pytest.mark.parametrize("refusals", [0, 1, 5, 1000])
def test_own_waits_grow_and_end(refusals: int) -> None:
    one, clock = gate()
    for _ in range(refusals):
        clock.now += 1
        one.refused(0.0, asked_at=clock.now)
    assert one.own_wait_s(1.0) == min(2.0 ** min(refusals, 20), 300)


def test_pauses_that_a_host_asks_for_have_a_ceiling() -> None:
    one, clock = gate(max_waits_s=100.0)
    for _ in range(3):
        one.refused(40, asked_at=clock.now)
        clock.now += 50
    assert "asked for 120 s of pauses" in one.closed
    patient, clock = gate(max_waits_s=100.0)
    for _ in range(10):
        patient.refused(40, asked_at=clock.now)
        clock.now += 50
        patient.answered(0.1)
    assert not patient.closed, "a minute for every answer"


@pytest.mark.parametrize("delay", ["nan", "-3", "soon"])
def test_a_crawl_delay_that_is_none_is_none(delay: str) -> None:
    assert parse_robots(f"User-agent: *\nCrawl-delay: {delay}").crawl_delay_s == 0
