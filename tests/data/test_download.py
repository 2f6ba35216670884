"""A download accounts for every row, is polite, and is exact after kill -9, whatever the server does."""

import asyncio
import errno
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import misbehaving_server as bad
import polars as pl
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.cli.data import Download
from linnaea.cli.data import download as run_command
from linnaea.data.download import fetch as fetch_module
from linnaea.data.download import received
from linnaea.data.download.fetch import DownloadConfig
from linnaea.data.download.ledger import Ledger, UrlResult, url_key
from linnaea.data.download.politeness import HostLimits
from linnaea.data.download.url_table import DownloadSummary, download
from linnaea.errors import LinnaeaError, UsageError

HOST = HostLimits(max_spacing_s=0.01, max_own_wait_s=0.02)
QUICK = DownloadConfig(
    allow_private=True, backoff_s=0.01, timeout_s=5, max_attempts=3, contact="me@example.org", host=HOST
)


@pytest.fixture
def server() -> Iterator[bad.MisbehavingServer]:
    with bad.running_server() as running:
        yield running


def fetch(tmp_path: Path, rows: list[str] | dict[str, list[Any]], **changes: Any) -> DownloadSummary:
    table = tmp_path / "table.parquet"
    pl.DataFrame(rows if isinstance(rows, dict) else {"url": rows}).write_parquet(table)
    summary = download(table, tmp_path / "out", replace(QUICK, **changes))
    assert_exact(tmp_path / "out", summary)
    return summary


def assert_exact(output: Path, summary: DownloadSummary) -> None:
    """Every row is out or rejected; every file is complete, and there is no file besides."""
    images, rejects = pl.read_parquet(output / "images.parquet"), pl.read_parquet(output / "rejects.parquet")
    assert summary.n_in == summary.n_out + summary.n_rejected
    assert (images.height, rejects.height) == (summary.n_out, summary.n_rejected)
    for path, sha256, n_bytes in images.select("path", "sha256", "n_bytes").iter_rows():
        data = (output / path).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, n_bytes)
    files = {p.relative_to(output).as_posix() for p in (output / "files").rglob("*") if p.is_file()}
    assert files >= set(images["path"])
    assert len(files) == summary.n_files
    assert not list((output / "partial").iterdir())
    assert all(rejects["reason"].str.len_chars() > 0)
    for_people = pl.read_csv(output / "rejects.csv", infer_schema=False)
    assert for_people["reason"].to_list() == rejects["reason"].to_list()


def reasons(tmp_path: Path) -> dict[str, str]:
    rejects = pl.read_parquet(tmp_path / "out" / "rejects.parquet")
    return dict(rejects.select("url", "reason").iter_rows())


def test_files_and_columns_come_out(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    urls = [server.serve(f"/{n}.jpg", bad.picture(n)) for n in range(30)]
    summary = fetch(tmp_path, {"url": urls, "species": [f"sp{n}" for n in range(30)], "path": ["theirs"] * 30})
    images = pl.read_parquet(tmp_path / "out" / "images.parquet")
    assert (summary.n_in, summary.n_out, summary.n_files) == (30, 30, 30)
    assert images["species"].to_list() == [f"sp{n}" for n in range(30)]
    assert set(images["input_path"]) == {"theirs"}
    assert (tmp_path / "out" / images["path"][7]).read_bytes() == bad.jpeg(7)
    assert set(images["content_type"]) == {"image/jpeg"}
    assert {one.user_agent for one in server.seen} == {QUICK.user_agent}
    assert "linnaea/" in QUICK.user_agent and "+me@example.org" in QUICK.user_agent


def test_a_url_in_several_rows_is_fetched_once(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    url = server.serve("/a.jpg", bad.picture())
    summary = fetch(tmp_path, [url] * 5 + [""])
    assert server.count("/a.jpg") == 1
    assert (summary.n_in, summary.n_out, summary.n_rejected, summary.n_files) == (6, 5, 1, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 204, 304])
def test_a_permanent_error_is_asked_once(tmp_path: Path, server: bad.MisbehavingServer, status: int) -> None:
    url = server.serve("/gone.jpg", bad.answer(status=status))
    summary = fetch(tmp_path, [url])
    assert server.count("/gone.jpg") == 1
    assert f"HTTP {status}" in next(iter(summary.reasons))
    assert pl.read_parquet(tmp_path / "out" / "rejects.parquet")["status"].to_list() == [status]


PASSING = {
    "500": bad.answer(status=500),
    "502": bad.answer(status=502),
    "503 without a word": bad.answer(status=503),
    "429 without a word": bad.answer(status=429),
    "reset": bad.reset(),
    "truncated": bad.truncated(says_length=True),
    "truncated without length": bad.truncated(says_length=False),
}


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_is_tried_again(tmp_path: Path, server: bad.MisbehavingServer, trouble: str) -> None:
    url = server.serve("/a.jpg", PASSING[trouble], PASSING[trouble], bad.picture())
    summary = fetch(tmp_path, [url])
    assert server.count("/a.jpg") == 3
    assert summary.n_out == 1


@pytest.mark.parametrize("trouble", [name for name in PASSING if not name.startswith(("429", "503"))])
def test_tries_end(tmp_path: Path, server: bad.MisbehavingServer, trouble: str) -> None:
    url = server.serve("/a.jpg", PASSING[trouble])
    summary = fetch(tmp_path, [url])
    # On a connection that was open already, aiohttp itself asks once more (RFC 9110, 9.2.2).
    assert server.count("/a.jpg") in ((3, 6) if trouble == "reset" else (3,))
    assert summary.n_rejected == 1


def test_waits_that_a_host_asks_for_end_too(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    url = server.serve("/a.jpg", bad.answer(status=429, Retry_After="0"))
    assert fetch(tmp_path, [url]).reasons == {"HTTP 429 Too Many Requests": 1}
    assert server.count("/a.jpg") == 11


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_by_all_requests_to_the_host(
    tmp_path: Path, server: bad.MisbehavingServer, form: str, status: int
) -> None:
    # An HTTP date has whole seconds: 2 s from now is between 1 and 2 s away.
    later = format_datetime(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2), usegmt=True)
    value = "1" if form == "seconds" else later
    server.serve("/first.jpg", bad.answer(status=status, Retry_After=value), bad.picture())
    urls = [server.url + "/first.jpg", *(server.serve(f"/{n}.jpg", bad.picture(n)) for n in range(20))]
    assert fetch(tmp_path, urls, host=replace(HOST, max_connections=1)).n_out == 21
    refused_at = server.times("/first.jpg")[0]
    later_ones = [one.at - refused_at for one in server.seen if one.at > refused_at]
    assert min(later_ones) >= (0.99 if form == "seconds" else 0.9)


def test_a_host_that_only_refuses_is_given_up(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.answer(status=429)
    summary = fetch(tmp_path, [f"{server.url}/{n}.jpg" for n in range(100)], ignore_robots=True)
    assert summary.n_rejected == 100
    assert any("20 refusals (429, 503) in a row" in reason for reason in summary.reasons)
    assert len(server.seen) < 60


def test_other_hosts_go_on_while_one_asks_to_wait(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/slow.jpg", bad.answer(status=429, Retry_After="1"), bad.picture())
    server.default = bad.picture()
    others = [f"{server.other_name}/{n}.jpg" for n in range(20)]
    assert fetch(tmp_path, [server.url + "/slow.jpg", *others]).n_out == 21
    assert max(server.times("/1")) < server.times("/slow.jpg")[-1]


def test_a_host_that_asks_for_too_long_a_pause_is_left_alone(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.answer(status=503, Retry_After="86400")
    summary = fetch(tmp_path, [f"{server.url}/{n}.jpg" for n in range(50)], ignore_robots=True)
    assert summary.n_rejected == 50
    assert all("come back in 86,400 s" in reason for reason in summary.reasons)
    assert len(server.seen) <= 2


def test_a_host_is_asked_no_more_than_allowed_at_once(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.picture(delay_s=0.01)
    fetch(tmp_path, [f"{server.url}/{n}.jpg" for n in range(100)], host=HostLimits(max_connections=3))
    assert server.most_at_once == 3


def test_a_host_that_bears_four_at_once_gets_about_four(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    """The gate finds a limit nobody told it: the server refuses whatever comes while four are running."""

    async def crowded(request: Any) -> Any:
        if server._running > 4:
            return await bad.answer(status=429, Retry_After="0")(request)
        return await bad.picture(delay_s=0.01)(request)

    server.default = crowded
    urls = [f"{server.url}/{n}.jpg" for n in range(300)]
    summary = fetch(tmp_path, urls, host=replace(HOST, max_connections=64), ignore_robots=True)
    assert summary.n_out == 300
    assert len(server.seen) - 300 < 100  # one in four was one too many, not all


def test_robots_are_asked_first_and_obeyed(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: Linnaea\nDisallow: /private\nAllow: /private/ours\n"
    server.serve("/robots.txt", bad.answer(rules))
    server.default = bad.picture()
    urls = [server.url + path for path in ("/a.jpg", "/private/b.jpg", "/private/ours/c.jpg")]
    assert fetch(tmp_path, urls).n_out == 2
    assert server.seen[0].path == "/robots.txt"
    assert reasons(tmp_path) == {urls[1]: "robots.txt does not allow it"}
    assert server.count("/private/b.jpg") == 0


def test_robots_are_ignored_on_ones_own_server_only_when_asked(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/robots.txt", bad.answer(b"User-agent: *\nDisallow: /"))
    url = server.serve("/a.jpg", bad.picture(X_Robots_Tag="noai"))
    assert fetch(tmp_path, [url], ignore_robots=True).n_out == 1
    assert server.count("/robots.txt") == 0


def test_crawl_delay_is_kept(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/robots.txt", bad.answer(b"User-agent: *\nCrawl-delay: 1"))
    server.default = bad.picture()
    fetch(tmp_path, [f"{server.url}/{n}.jpg" for n in range(4)])
    times = sorted(server.times("/"))[1:]
    assert len(times) == 4
    assert min(b - a for a, b in pairwise(times)) > 0.95, (
        "a request may arrive late on a busy machine, and the next not"
    )


def test_long_robots_are_read_to_their_end(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    """They come in many segments, the rule that counts in the last."""
    filler = b"# nothing\n" * 34_000

    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b"User-agent: *\n", filler, b"Disallow: /private/\n"):
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    server.serve("/robots.txt", slowly)
    urls = [server.serve("/private/a.jpg", bad.picture()), server.serve("/b.jpg", bad.picture())]
    fetch(tmp_path, urls)
    assert reasons(tmp_path) == {urls[0]: "robots.txt does not allow it"}


def test_robots_lead_nowhere_that_pictures_may_not(
    tmp_path: Path, server: bad.MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = fetch_module.why_no_url
    monkeypatch.setattr(
        fetch_module, "why_no_url", lambda url, allowed: "no" if "secret" in url else judge(url, allowed)
    )
    server.serve("/robots.txt", bad.redirect("/moved.txt"))
    server.serve("/moved.txt", bad.redirect("/secret"))
    server.serve("/secret", bad.answer(b"User-agent: *\nDisallow: /"))
    assert fetch(tmp_path, [server.serve("/a.jpg", bad.picture())]).n_out == 1
    assert server.count("/moved.txt") == 1
    assert server.count("/secret") == 0


def test_a_crawl_delay_has_a_ceiling(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/robots.txt", bad.answer(b"User-agent: *\nCrawl-delay: 1000000"))
    urls = [server.serve(f"/{n}.jpg", bad.picture()) for n in range(3)]
    summary = fetch(tmp_path, urls)
    assert summary.reasons == {"robots.txt asks for 1,000,000 s between two requests": 3}


BAD_HOSTS = ("http://a..org/a.jpg", "http://.org/", f"http://{'a' * 64}.org/a.jpg", "http://xn--a.com/", "http://a b/c")


def test_an_address_without_a_possible_host_is_one_reject(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    good = [server.serve("/a.jpg", bad.picture(1)), server.serve("/b.jpg", bad.picture(2))]
    away = [server.serve(f"/to{n}.jpg", bad.redirect(to)) for n, to in enumerate(BAD_HOSTS)]
    summary = fetch(tmp_path, [BAD_HOSTS[0], good[0], *BAD_HOSTS[1:], *away, good[1]])
    assert (summary.n_out, summary.n_rejected) == (2, 2 * len(BAD_HOSTS))
    why = reasons(tmp_path)
    assert all("not a URL" in why[url] for url in BAD_HOSTS)
    assert all(why[url].startswith("redirect") for url in away)


def test_unreadable_robots_forbid_everything_for_now(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/robots.txt", bad.answer(status=500))
    url = server.serve("/a.jpg", bad.picture())
    assert fetch(tmp_path, [url]).reasons == {"robots.txt cannot be read (HTTP 500)": 1}
    assert server.count("/a.jpg") == 0
    server.serve("/robots.txt", bad.answer(status=404))
    assert fetch(tmp_path, [url], retry_failed=True).n_out == 1


def test_a_picture_kept_out_of_machine_learning_is_not_taken(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    url = server.serve("/a.jpg", bad.picture(X_Robots_Tag="noindex, noai"))
    assert "opted out" in next(iter(fetch(tmp_path, [url]).reasons))


def test_redirects_are_followed_and_end(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/b.jpg", bad.picture())
    good = server.serve("/a.jpg", bad.redirect(f"{server.other_name}/b.jpg"))
    relative = server.serve("/dir/a.jpg", bad.redirect("../b.jpg", status=308))
    loop = server.serve("/loop", bad.redirect("/loop"))
    file = server.serve("/file", bad.redirect("file:///etc/passwd"))
    nowhere = server.serve("/nowhere", bad.redirect("http://[broken"))
    summary = fetch(tmp_path, [good, relative, loop, file, nowhere])
    assert summary.n_out == 2
    final = dict(pl.read_parquet(tmp_path / "out" / "images.parquet").select("url", "final_url").iter_rows())
    assert final == {good: f"{server.other_name}/b.jpg", relative: f"{server.url}/b.jpg"}
    assert server.count("/loop") == QUICK.max_redirects + 1
    assert reasons(tmp_path)[loop] == "more than 5 redirects"
    assert "not an http or https" in reasons(tmp_path)[file]
    assert reasons(tmp_path)[nowhere] == "redirect without a URL"


def test_private_networks_are_not_reached(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.picture()
    urls = [f"{server.url}/a.jpg", f"{server.other_name}/b.jpg", "http://169.254.169.254/latest", "http://[::1]/c.jpg",
            "http://2130706433/d.jpg", "http://0/e.jpg", "http://[::ffff:10.0.0.1]/f.jpg"]  # fmt: skip
    summary = fetch(tmp_path, urls, allow_private=False)
    assert summary.n_rejected == len(urls)
    assert all("private network" in reason for reason in reasons(tmp_path).values()), reasons(tmp_path)
    assert not server.seen


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (bad.page(), "not an image (HTML)"),
        (bad.answer(b'{"error": "not found", "status": 404, "detail": ""}'), "not an image (JSON)"),
        (
            bad.answer(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"),
            "not an image (HTML or XML)",
        ),
        (bad.answer(b"%PDF-1.7 ..........................................."), "not an image (PDF)"),
        (bad.answer(b"\x00\x01\x02\x03" * 20), "not an image (unknown format)"),
        (bad.answer(b"tiny"), "not an image (unknown format)"),
        (bad.answer(b"x" * 100, Content_Type="image/png", Content_Length="100"), "not an image (unknown format)"),
    ],
)
def test_what_is_no_picture_is_refused_whatever_its_headers_say(
    tmp_path: Path, server: bad.MisbehavingServer, behaviour: bad.Behaviour, reason: str
) -> None:
    url = server.serve("/a.jpg", behaviour)
    assert fetch(tmp_path, [url]).reasons == {reason: 1}
    assert server.count("/a.jpg") == 1


def test_an_endless_body_is_cut_off(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    url = server.serve("/a.jpg", bad.endless())
    assert fetch(tmp_path, [url], max_bytes=3_000_000).reasons == {"larger than 3,000,000 bytes": 1}


def test_a_body_that_says_it_is_too_large_is_not_read(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    url = server.serve("/a.jpg", bad.answer(bad.jpeg(0, 512)))
    assert fetch(tmp_path, [url], max_bytes=1000).reasons == {"larger than 1,000 bytes": 1}


def test_a_body_that_drips_for_ever_times_out(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    url = server.serve("/a.jpg", bad.endless(b"\0", pause_s=0.05), bad.picture())
    assert fetch(tmp_path, [url], timeout_s=0.5).n_out == 1


def test_a_body_of_many_megabytes_goes_through_the_disk(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    data = bad.jpeg() + os.urandom(5_000_000)
    url = server.serve("/a.jpg", bad.answer(data))
    assert fetch(tmp_path, {"url": [url], "md5": [hashlib.md5(data).hexdigest()]}).n_bytes == len(data)


def test_checksums_of_the_table_are_checked(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.picture()
    md5, sha256 = hashlib.md5(bad.jpeg()).hexdigest(), hashlib.sha256(bad.jpeg()).hexdigest()
    names = ["good", "upper", "no_md5", "bad_md5", "bad_sha"]
    urls = [f"{server.url}/{name}.jpg" for name in names] + [f"{server.url}/good.jpg"]
    rows = {
        "url": urls,
        "md5": [md5, md5.upper(), None, "0" * 32, md5, "f" * 32],
        "sha256": [sha256, sha256.upper(), "", None, "0" * 64, ""],
    }
    summary = fetch(tmp_path, rows)
    assert summary.n_out == 3
    # Rows that share a URL are judged each by its own checksum.
    assert summary.reasons == {"md5 differs from the table": 2, "sha256 differs from the table": 1}


def test_a_host_that_is_gone_is_given_up(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    good = server.serve("/a.jpg", bad.picture())
    summary = fetch(tmp_path, [*(f"{gone}/{n}.jpg" for n in range(200)), good], ignore_robots=True)
    assert summary.n_out == 1
    assert sum(n for reason, n in summary.reasons.items() if "in a row" in reason) > 150


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_names_without_address_and_cells_that_are_no_urls(tmp_path: Path) -> None:
    urls = ["http://no-such-host.invalid/a.jpg", "", "ftp://example.org/a.jpg", "not a url", "http://"]
    summary = fetch(tmp_path, urls, max_attempts=2, ignore_robots=True)
    assert summary.n_rejected == 5
    assert reasons(tmp_path)[urls[0]] == "host has no address"


def test_a_second_run_fetches_nothing_and_gives_the_same_tables(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    urls = [server.serve(f"/{n}.jpg", bad.picture(n)) for n in range(20)] + [f"{server.url}/404.jpg"]
    first = fetch(tmp_path, urls)
    tables = [(tmp_path / "out" / name).read_bytes() for name in ("images.parquet", "rejects.parquet")]
    n_seen = len(server.seen)
    second = fetch(tmp_path, urls)
    assert len(server.seen) == n_seen
    assert tables == [(tmp_path / "out" / name).read_bytes() for name in ("images.parquet", "rejects.parquet")]
    assert (second.n_in, second.n_out, second.n_fetched) == (first.n_in, first.n_out, 0)


def test_failed_ones_are_tried_again_only_when_asked(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    urls = [server.serve("/a.jpg", bad.answer(status=500)), f"{server.url}/404.jpg"]
    assert fetch(tmp_path, urls).n_rejected == 2
    server.serve("/a.jpg", bad.picture())
    assert fetch(tmp_path, urls).n_rejected == 2
    assert fetch(tmp_path, urls, retry_failed=True).n_out == 1
    assert server.count("/404.jpg") == 1


def test_parts_are_disjoint_and_complete(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.picture()
    urls = [f"{name}/{n}.jpg" for name in (server.url, server.other_name) for n in range(3)] + ["", "nonsense"]
    n_in = 0
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
        n_in += fetch(tmp_path / str(number), urls, part=(number, 3)).n_in
    assert n_in == len(urls)
    assert len([one for one in server.seen if one.path != "/robots.txt"]) == 6


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_every_row_is_accounted_for_whatever_happens(data: st.DataObject) -> None:
    """Random tables against random misbehaviour: rows in = files out + rejects, and a second run changes nothing."""
    troubles = [*PASSING.values(), bad.page(), bad.answer(status=404), bad.redirect("/loop"), bad.redirect("/good.jpg")]
    with bad.running_server() as server, tempfile.TemporaryDirectory() as folder:
        server.serve("/loop", bad.redirect("/loop"))
        server.serve("/good.jpg", bad.picture())
        for n in range(8):
            script = data.draw(
                st.lists(st.sampled_from([*troubles, bad.picture(n), bad.picture(n)]), min_size=1, max_size=4)
            )
            server.serve(f"/{n}.jpg", *script)
        cells = st.sampled_from([f"{server.url}/{n}.jpg" for n in range(8)] + ["", "nonsense", "ftp://a.org/b"])
        rows = data.draw(st.lists(cells, min_size=1, max_size=20))
        quick = {"max_attempts": 2, "backoff_s": 0.001}
        first = fetch(Path(folder), rows, **quick)
        assert first.n_in == len(rows)
        n_seen = len(server.seen)
        second = fetch(Path(folder), rows, **quick)
        assert (second.n_out, second.n_rejected, second.reasons) == (first.n_out, first.n_rejected, first.reasons)
        assert len(server.seen) == n_seen


def test_hosts_are_counted(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.serve("/0.jpg", bad.answer(status=429, Retry_After="0"), bad.picture())
    server.serve("/1.jpg", bad.answer(status=500), bad.picture())
    server.default = bad.picture()
    server.serve("/gone.jpg", bad.answer(status=404))
    urls = [f"{server.url}/{n}.jpg" for n in range(4)] + [f"{server.url}/gone.jpg", f"{server.other_name}/x.jpg"]
    hosts = {row["host"]: row for row in fetch(tmp_path, urls).hosts.iter_rows(named=True)}
    ours = hosts[f"127.0.0.1:{server.port}"]
    assert (ours["n_files"], ours["n_rejected"], ours["n_bytes"]) == (4, 1, 4 * len(bad.jpeg()))
    assert (ours["n_refusals"], ours["n_server_errors"], ours["n_requests"]) == (1, 1, 7)
    assert hosts[f"localhost:{server.port}"]["n_files"] == 1


def test_csv_and_a_small_window(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.picture()
    lines = [f'{n:03d},"{server.url}/{n}.jpg","a, b"' for n in range(500)]
    (tmp_path / "t.csv").write_text("\ufeffid,link,note\n" + "\n".join(lines) + "\n", encoding="utf-8")
    shown: list[tuple[int, int | None, str]] = []
    config = replace(QUICK, url_column="link", window=7)
    summary = download(tmp_path / "t.csv", tmp_path / "out", config, lambda *progress: shown.append(progress))
    assert_exact(tmp_path / "out", summary)
    images = pl.read_parquet(tmp_path / "out" / "images.parquet")
    assert images["id"].to_list() == [f"{n:03d}" for n in range(500)]
    assert set(images["note"]) == {"a, b"}
    assert shown[-1][0] == 500 and "MB/s" in shown[-1][2]


def test_wrong_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("link\nhttp://example.org/a.jpg\n")
    with pytest.raises(UsageError, match=r"no column 'url'.*it has link"):
        download(tmp_path / "t.csv", tmp_path / "out")
    with pytest.raises(LinnaeaError, match="no such file"):
        download(tmp_path / "no.csv", tmp_path / "out")
    (tmp_path / "ragged.csv").write_text("url,b\nhttp://example.invalid/a.jpg,1,2,3\n")
    with pytest.raises(LinnaeaError, match="cannot be read as a table"):
        download(tmp_path / "ragged.csv", tmp_path / "out", QUICK)


def test_a_full_disk_stops_with_one_line_and_the_ledger_stays_right(
    tmp_path: Path, server: bad.MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [server.serve(f"/{n}.jpg", bad.picture(n)) for n in range(40)]
    flush, n_flushed = received.Body.flush, iter(range(10_000))

    def flush_until_full(self: received.Body) -> None:
        if next(n_flushed) >= 15:
            self.partial.write_bytes(b"a bit of it")
            raise_like_the_disk(self.partial)
        flush(self)

    def raise_like_the_disk(path: Path) -> None:
        with received.explain_os_errors(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(received.Body, "flush", flush_until_full)
        with pytest.raises(LinnaeaError, match="disk is full; free some space"):
            fetch(tmp_path, urls)
    assert not (tmp_path / "out" / "images.parquet").exists()
    summary = fetch(tmp_path, urls)
    assert summary.n_out == 40
    assert summary.n_fetched <= 25  # the 15 that were there were not fetched again


def test_only_one_process_writes(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(LinnaeaError, match="another download"):
        Ledger(tmp_path)


class TestLedgerAfterACrash:
    """Each moment at which a kill can fall, made by hand."""

    @staticmethod
    def crash(ledger: Ledger) -> None:
        for connection in ledger._shards:
            connection.close()
        ledger._held.close()

    @staticmethod
    def outcome(data: bytes) -> UrlResult:
        return UrlResult(key=url_key("u"), state="done", sha256=hashlib.sha256(data).hexdigest(), n_bytes=len(data),
                       ending=".jpg")  # fmt: skip

    def test_before_the_row(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path)
        ledger.partial_path(url_key("u")).write_bytes(b"half")
        self.crash(ledger)
        with Ledger(tmp_path) as ledger:
            assert not ledger.look_up([url_key("u")])
            assert not list((tmp_path / "partial").iterdir())

    def test_between_row_and_rename(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path)
        ledger.partial_path(url_key("u")).write_bytes(b"whole")
        ledger.record(self.outcome(b"whole"))
        self.crash(ledger)
        with Ledger(tmp_path) as ledger:
            assert ledger.look_up([url_key("u")])[url_key("u")] == self.outcome(b"whole")
            assert (tmp_path / self.outcome(b"whole").path).read_bytes() == b"whole"

    @pytest.mark.parametrize("left", [None, b"", b"who"])
    def test_the_machine_lost_the_files_data(self, tmp_path: Path, left: bytes | None) -> None:
        ledger = Ledger(tmp_path)
        ledger.record(self.outcome(b"whole"))
        if left is not None:
            path = tmp_path / self.outcome(b"whole").path
            path.parent.mkdir()
            path.write_bytes(left)
        self.crash(ledger)
        with Ledger(tmp_path) as ledger:
            assert not ledger.look_up([url_key("u")])


def test_the_command_accounts_on_standard_output(
    tmp_path: Path, server: bad.MisbehavingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    urls = [server.serve("/a.jpg", bad.picture()), f"{server.url}/404.jpg"]
    pl.DataFrame({"url": urls}).write_csv(tmp_path / "t.csv")
    code = run_command(Download(table=tmp_path / "t.csv", output=tmp_path / "out", allow_private=True))
    shown = capsys.readouterr()
    assert code == 3
    assert shown.out == "2 records in = 1 files out + 1 rejected\n"
    assert "HTTP 404" in shown.err and "--contact" in shown.err
    assert run_command(Download(table=write(tmp_path, urls[:1]), output=tmp_path / "out", allow_private=True)) == 0


def write(tmp_path: Path, urls: list[str]) -> Path:
    pl.DataFrame({"url": urls}).write_csv(tmp_path / "table.csv")
    return tmp_path / "table.csv"


SCRIPT = """
import signal
import sqlite3
import sys
from pathlib import Path
from linnaea.data.download.url_table import download
from linnaea.data.download.fetch import DownloadConfig
from linnaea.data.download.politeness import HostLimits
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
config = DownloadConfig(allow_private=True, backoff_s=0.01, host=HostLimits(max_connections=16))
summary = download(Path(sys.argv[1]), Path(sys.argv[2]), config)
print(summary.n_in, summary.n_out, summary.n_rejected, summary.n_files, summary.n_fetched)
"""


def start(table: Path, output: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCRIPT, str(table), str(output)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_is_clean(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    server.default = bad.picture(delay_s=0.02)
    table = write(tmp_path, [f"{server.url}/{n}.jpg" for n in range(20_000)])
    process = start(table, tmp_path / "out")
    wait_for(lambda: len(server.seen) > 50)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode not in (0, -9)
    assert not list((tmp_path / "out" / "partial").iterdir())
    with Ledger(tmp_path / "out") as ledger:
        # Asked for: robots.txt and at least 50 pictures, of which at most 16 were under way.
        assert ledger.host_totals()[0].n_files >= 50 - 16


def wait_for(condition: Any, at_most_s: float = 20) -> None:
    end = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.long
def test_kill_9_at_random_moments(tmp_path: Path, server: bad.MisbehavingServer) -> None:
    """20 kills; afterwards every URL has one state, every file is whole, and what was recorded was not asked again."""
    server.serve("/robots.txt", bad.answer(status=404))
    n = 8000

    async def gone(_: Any) -> Any:
        return web.Response(status=404)

    async def mixed(request: Any) -> Any:
        number = int(request.path.strip("/").split(".")[0])
        behaviour = {7: gone, 8: bad.page()}.get(number % 10, bad.picture(number % 50, delay_s=0.005))
        return await behaviour(request)

    server.default = mixed
    table, output = write(tmp_path, [f"{server.url}/{k}.jpg" for k in range(n)]), tmp_path / "out"
    moments = random.Random(4)
    for _ in range(20):
        process = start(table, output)
        before = len(server.seen)
        wait_for(lambda before=before: len(server.seen) > before + 20)
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        with Ledger(output) as ledger:
            keys = {url_key(f"{server.url}/{k}.jpg"): k for k in range(n)}
            settled = {keys[key] for key in ledger.look_up(keys)}
        server.seen.clear()
        asked = settled  # none of these may be asked for again, checked below after the next run
        process = start(table, output)
        wait_for(lambda: len(server.seen) > 20)
        process.kill()
        process.communicate()
        again = {int(one.path[1:-4]) for one in server.seen if one.path != "/robots.txt"}
        assert not again & asked
    out, _ = start(table, output).communicate(timeout=60)
    assert out.split()[:4] == [str(n), str(n * 8 // 10), str(n * 2 // 10), str(n * 8 // 10)]
    images = pl.read_parquet(output / "images.parquet")
    for path, sha256 in images.select("path", "sha256").iter_rows():
        assert hashlib.sha256((output / path).read_bytes()).hexdigest() == sha256
    assert sum(1 for p in (output / "files").rglob("*") if p.is_file()) == n * 8 // 10


@pytest.mark.parametrize("ending", ["/../../../outside.jpg", "/etc/passwd", ".jpg/..", "\0"])
def test_a_ledger_names_only_files_of_its_download(ending: str, tmp_path: Path, server: bad.MisbehavingServer) -> None:
    urls = [server.serve("/a.jpg", bad.picture())]
    fetch(tmp_path, urls)
    (ledger,) = tmp_path.rglob("00.sqlite")
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("UPDATE urls SET ending = ?", [ending])
    with pytest.raises(LinnaeaError, match="holds what no download wrote"):
        fetch(tmp_path, urls)
