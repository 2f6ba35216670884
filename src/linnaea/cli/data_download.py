"""``linnaea data download``: fetch a table of image URLs politely."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands
from linnaea.cli.console import say, warn

if TYPE_CHECKING:
    from linnaea.data.download.url_table import DownloadSummary


@dataclass(frozen=True, kw_only=True)
class Download:
    """Fetch the images of a table of URLs; the same command goes on with an interrupted download."""

    table: tyro.conf.Positional[Path]
    """CSV, TSV or Parquet table with a column of URLs; columns md5 or sha256 are checked where present."""
    output: Path
    """Folder for files, ledger, images.parquet, rejects.parquet and hosts.parquet."""
    url_column: str = "url"
    """Column that holds the URL."""
    contact: str = ""
    """Your mail address or web page, told to every host in the User-Agent."""
    connections: int = 128
    """Requests at once over all hosts."""
    per_host: int = 8
    """Requests at once to one host at most; starts at 2 and follows what the host bears."""
    timeout: float = 120.0
    """Seconds that one picture may take."""
    max_megabytes: float = 100.0
    """Largest file that is kept."""
    attempts: int = 5
    """Tries per URL for errors that may pass."""
    retry_failed: bool = False
    """Try again what earlier runs gave up for errors that may pass (timeouts, 5xx, hosts that were gone)."""
    part: str = "1/1"
    """"2/8": this is machine 2 of 8; each takes its own hosts. Give every machine its own output folder."""
    ignore_robots: bool = False
    """Do not read robots.txt and X-Robots-Tag. Only for servers of your own."""
    allow_private: bool = False
    """Also fetch from this machine and from private networks."""


def download(options: Download) -> int:
    """Fetch, then account for every row."""
    from linnaea.data.verbs import download

    if not options.contact:
        warn("no --contact given: hosts cannot tell you when something is wrong, and some (Wikimedia) refuse you")
    chosen = dict(vars(options))
    return _account(download(chosen.pop("table"), chosen.pop("output"), **chosen), options.output)


def _account(summary: "DownloadSummary", output: Path) -> int:
    for host in summary.hosts.head(10).iter_rows(named=True):
        gave_up = f" - {host['gave_up']}" if host["gave_up"] else ""
        say(
            f"  {host['host']}: {host['n_files']:,} files, {host['n_bytes'] / 1e6:,.1f} MB,"
            f" {host['n_rejected']:,} rejected, {host['n_refusals']:,} refusals{gave_up}"
        )
    if summary.hosts.height > 10:
        say(f"  and {summary.hosts.height - 10:,} more hosts, in {output / 'hosts.parquet'}")
    for reason, count in list(summary.reasons.items())[:20]:
        warn(f"{count:,} rejected: {reason}")
    if summary.n_rejected:
        warn(f"every reject with its reason is in {output / 'rejects.parquet'}")
    say(f"{summary.n_files:,} files, {summary.n_bytes / 1e6:,.1f} MB; {summary.n_fetched:,} URLs settled by this run")
    print(f"{summary.n_in} records in = {summary.n_out} files out + {summary.n_rejected} rejected", flush=True)
    return SOME_FAILED if summary.n_rejected else DONE


COMMANDS: Commands = {"download": (Download, download)}
