"""Polite, resumable fetching of a table of image URLs.

``download(table, output, config)`` reads a table in pieces, keeps a bounded window of URLs in memory with one queue
per host, and writes to ``output``:

- ``files/<3 hex digits>/<hash of the URL>.<ending>``: the pictures, each complete or absent;
- ``ledger/``: the outcome of every URL (:mod:`linnaea.data.download.ledger`), exact after kill -9;
- ``images.parquet``: the rows of the table whose picture was fetched, with ``path, sha256, n_bytes, content_type,
  final_url``; ready for ``linnaea data build --table images.parquet --path-column path``;
- ``rejects.parquet``, and ``rejects.csv`` for people: the other rows, with ``reason`` and ``status``;
- ``hosts.parquet``: files, bytes, rejects, refusals and latency per host.

The same command resumes an interrupted download and fetches nothing twice; a URL that occurs in several rows is
fetched once. On several machines, ``part=(2, 8)`` takes the hosts whose hash belongs to machine 2 of 8, so the limits
per host hold without communication between machines.

Sizes: 200 million rows are read in batches of 10,000; ``window`` bounds the memory (50,000 URLs: about 100 MB). A
table sorted by host fills the window with one host: shuffle such a table to keep many hosts busy.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from linnaea.data.download.fetch import DownloadConfig, Downloader, Job
from linnaea.data.download.ledger import MANY_SHARDS, Ledger, UrlResult, url_key
from linnaea.data.download.politeness import belongs_to, host_of, why_no_url
from linnaea.data.download.received import Checksums
from linnaea.errors import LinnaeaError
from linnaea.storage import atomic_path
from linnaea.tables import explain_polars_errors, match_columns, need_columns, read_table, with_words
from linnaea.tables.formats import TableFormat, sniff

BATCH_ROWS = 10_000
LARGE_TABLE_BYTES = 100_000_000
IMAGES, REJECTS, HOSTS = "images.parquet", "rejects.parquet", "hosts.parquet"
CHECKSUM_COLUMNS = ("md5", "sha256")
"""Columns of the input that hold a file's hash in hex; a file must match each one that is filled."""

_IMAGE_COLUMNS = {"path": pl.String, "sha256": pl.String, "n_bytes": pl.Int64, "content_type": pl.String,
                  "final_url": pl.String}  # fmt: skip
_REJECT_COLUMNS = {"reason": pl.String, "status": pl.Int32}


class OnProgress(Protocol):
    """A callback for progress: the number of completed URLs, the number of rows if known, and a note on the rate."""

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None: ...


@dataclass(frozen=True, kw_only=True)
class DownloadSummary:
    """The counts of a download; ``n_in == n_out + n_rejected`` always holds."""

    n_in: int
    n_out: int
    n_rejected: int
    n_files: int
    """Distinct URLs with a file; fewer than ``n_out`` if rows share a URL."""
    n_bytes: int
    n_fetched: int
    """URLs completed by this run; earlier runs completed the rest."""
    reasons: Mapping[str, int]
    """Number of rows per reason, most frequent first."""
    hosts: pl.DataFrame
    """One row per host, most bytes first; also in ``hosts.parquet``."""


def download(
    table: Path, output: Path, config: DownloadConfig | None = None, on_progress: OnProgress | None = None
) -> DownloadSummary:
    """Fetch every URL of ``table`` (CSV, TSV or Parquet) into ``output`` and account for every row.

    Raises:
        UsageError: the table has no such column.
        LinnaeaError: the table cannot be read, the disk is full, or another download writes to ``output``.
        KeyboardInterrupt: Ctrl-C; fetched files stay, and the same command resumes.
    """
    config = config or DownloadConfig()
    source = _Table.open(table, config.url_column)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LinnaeaError(f"{output}: {error.strerror}; choose another folder") from error
    with Ledger(output, MANY_SHARDS if table.stat().st_size > LARGE_TABLE_BYTES else 1) as ledger:
        if config.retry_failed:
            ledger.forget("failed")
        run = _Run(ledger, config, source, on_progress)
        downloader = asyncio.run(run.fetch())
        return _write_tables(source, ledger, config, run.n_fetched, _host_table(ledger, downloader))


class _Run:
    """One pass over the table: jobs for the URLs that the ledger does not have yet, and the running counts."""

    def __init__(self, ledger: Ledger, config: DownloadConfig, source: "_Table", on_progress: OnProgress | None):
        self.n_fetched = 0
        self._ledger, self._config, self._source, self._on_progress = ledger, config, source, on_progress
        self._under_way: set[bytes] = set()
        self._n_passed = self._n_bytes = self._n_rejected = 0
        self._start = self._last_shown = time.monotonic()

    async def fetch(self) -> Downloader:
        downloader = Downloader(self._ledger, self._config, self._count)
        await downloader.run(self._iter_new_jobs())
        self._show(force=True)
        return downloader

    def _iter_new_jobs(self) -> Iterator[list[Job]]:
        for batch in self._source.batches():
            jobs: dict[bytes, Job] = {}
            for url, checksums in _urls_of(batch, self._config):
                key = url_key(url)
                if key not in jobs and key not in self._under_way:
                    jobs[key] = Job(key=key, url=url, checksums=checksums)
            # The look-up follows the check above: a URL leaves the set only after its outcome is recorded.
            known = self._ledger.look_up(jobs)
            new = [job for key, job in jobs.items() if key not in known]
            self._n_passed += batch.height - len(new)
            self._under_way.update(job.key for job in new)
            yield new

    def _count(self, outcome: UrlResult) -> None:
        self._under_way.discard(outcome.key)
        self.n_fetched += 1
        self._n_bytes += outcome.n_bytes
        self._n_rejected += outcome.state != "done"
        self._show()

    def _show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is None or (now - self._last_shown < 0.2 and not force):
            return
        self._last_shown = now
        rate = self._n_bytes / max(now - self._start, 1e-6) / 1e6
        note = f"{self._n_bytes / 1e6:,.1f} MB, {rate:,.1f} MB/s, {self._n_rejected:,} rejected"
        self._on_progress(self._n_passed + self.n_fetched, self._source.n_rows, note)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A table that is read in pieces, with every CSV column as text."""

    path: Path
    form: TableFormat
    n_rows: int | None
    columns: tuple[str, ...]
    """The column names of the file, except that the column of URLs has the requested name."""
    rows: pl.DataFrame | None = None
    """The whole table, for a format that cannot be read in pieces (Excel)."""

    @classmethod
    def open(cls, path: Path, url_column: str) -> "_Table":
        form = sniff(path)
        n_rows, rows = None, None
        with _explain(path):
            if form.kind == "parquet":
                with pa.parquet.ParquetFile(path) as file:
                    n_rows, columns = file.metadata.num_rows, list(file.schema_arrow.names)
            elif form.kind == "text":
                with _open_csv(path, form) as reader:
                    columns = list(reader.schema.names)
            else:
                rows = read_table(path).rows
                n_rows, columns = rows.height, rows.columns
        spelled = match_columns(columns, [url_column])
        columns = [spelled.get(column, column) for column in columns]
        need_columns(columns, path, url_column)
        return cls(path=path, form=form, n_rows=n_rows, columns=tuple(columns), rows=rows)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, about ``BATCH_ROWS`` at a time."""
        with _explain(self.path):
            for batch in self._iter_batches():
                table = batch.rename(dict(zip(batch.columns, self.columns, strict=True)))
                yield from table.iter_slices(BATCH_ROWS)

    def _iter_batches(self) -> Iterator[pl.DataFrame]:
        if self.form.kind == "parquet":
            with pa.parquet.ParquetFile(self.path) as file:
                yield from map(_as_frame, file.iter_batches(BATCH_ROWS))
        elif self.rows is not None:
            yield self.rows
        else:
            with _open_csv(self.path, self.form) as reader:
                names = reader.schema.names
            with _open_csv(self.path, self.form, names) as reader:
                yield from map(_as_frame, reader)


def _as_frame(batch: Any) -> pl.DataFrame:
    table = pl.from_arrow(batch)
    assert isinstance(table, pl.DataFrame)
    return table


def _open_csv(path: Path, form: TableFormat, texts: Sequence[str] = ()) -> Any:
    """Open a text table with Arrow's reader; the columns in ``texts`` are read as text."""
    read = pa.csv.ReadOptions(encoding="utf8" if form.encoding == "utf-8" else form.encoding)
    parse = pa.csv.ParseOptions(
        delimiter=form.separator, quote_char=form.quote or False, newlines_in_values=form.quote is not None
    )
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string()))
    return pa.csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert)


@contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        with explain_polars_errors(path):
            yield
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        why = lines[0] if lines[0].startswith("CSV") else "it is damaged"
        raise LinnaeaError(f"{path}: cannot be read as a table ({why})") from error


def _urls_of(batch: pl.DataFrame, config: DownloadConfig) -> Iterator[tuple[str, Checksums]]:
    """Yield (URL, checksums) of the rows that can be fetched and belong to this machine."""
    for url, checksums in _cells(batch, config):
        if not why_no_url(url, config.allow_private) and belongs_to(config.part, host_of(url)):
            yield url, checksums


def _cells(batch: pl.DataFrame, config: DownloadConfig) -> Iterator[tuple[str, Checksums]]:
    batch = with_words(batch.select(name for name in (config.url_column, *CHECKSUM_COLUMNS) if name in batch.columns))
    columns = [
        batch[name].cast(pl.String).fill_null("").str.strip_chars()
        if name in batch.columns
        else pl.Series(name, [""] * batch.height, pl.String)
        for name in (config.url_column, *CHECKSUM_COLUMNS)
    ]
    for url, md5, sha256 in zip(*columns, strict=True):
        yield url, Checksums(md5=md5.lower(), sha256=sha256.lower())


def _write_tables(
    source: _Table, ledger: Ledger, config: DownloadConfig, n_fetched: int, hosts: pl.DataFrame
) -> DownloadSummary:
    """Join the table with the ledger in pieces and write the result tables."""
    n_in = n_out = 0
    reasons: Counter[str] = Counter()
    output = ledger.directory
    with ExitStack() as stack:
        images = _Writer(stack.enter_context(atomic_path(output / IMAGES)))
        rejects = _Writer(stack.enter_context(atomic_path(output / REJECTS)))
        stack.callback(images.close)
        stack.callback(rejects.close)
        for batch in source.batches():
            settled = _settle(batch, ledger, config)
            mine = pl.Series([one is not None for one in settled], dtype=pl.Boolean)
            outcomes = [one for one in settled if one is not None]
            n_in += len(outcomes)
            is_done = pl.Series([one.state == "done" for one in outcomes], dtype=pl.Boolean)
            n_out += int(is_done.sum())
            reasons.update(one.reason for one in outcomes if one.state != "done")
            rows = _renamed(batch.filter(mine))
            images.write(_with_facts(rows.filter(is_done), [o for o in outcomes if o.state == "done"], _IMAGE_COLUMNS))
            rejects.write(
                _with_facts(rows.filter(~is_done), [o for o in outcomes if o.state != "done"], _REJECT_COLUMNS)
            )
    _write_csv(output / REJECTS)
    with atomic_path(output / HOSTS) as path:
        hosts.write_parquet(path)
    return DownloadSummary(
        n_in=n_in,
        n_out=n_out,
        n_rejected=n_in - n_out,
        n_files=int(hosts["n_files"].sum()),
        n_bytes=int(hosts["n_bytes"].sum()),
        n_fetched=n_fetched,
        reasons=dict(reasons.most_common()),
        hosts=hosts,
    )


def _settle(batch: pl.DataFrame, ledger: Ledger, config: DownloadConfig) -> list[UrlResult | None]:
    """Return the outcome of every row; ``None`` for a row of another machine."""
    cells = list(_cells(batch, config))
    known = ledger.look_up({url_key(url) for url, _ in cells if url})
    settled: list[UrlResult | None] = []
    for url, expected in cells:
        wrong = why_no_url(url, config.allow_private)
        key = url_key(url)
        if wrong:
            # A row without a host belongs to the first machine, so that it is counted once.
            settled.append(UrlResult(key=key, state="refused", reason=wrong) if config.part[0] == 1 else None)
        elif not belongs_to(config.part, host_of(url)):
            settled.append(None)
        else:
            settled.append(_checked(known[key], expected))
    return settled


def _checked(outcome: UrlResult, expected: Checksums) -> UrlResult:
    """Return the outcome of a row checked against its own hashes; rows that share a URL may state different ones."""
    if outcome.state == "done":
        for name in CHECKSUM_COLUMNS:
            wanted, found = getattr(expected, name), getattr(outcome, name)
            if wanted and found and wanted != found:
                return UrlResult(key=outcome.key, state="refused", reason=f"{name} differs from the table", status=200)
    return outcome


def _renamed(batch: pl.DataFrame) -> pl.DataFrame:
    """Return the input's columns; a column with the name of an output column gets the prefix ``input_``."""
    ours = {*_IMAGE_COLUMNS, *_REJECT_COLUMNS}
    return batch.rename({name: f"input_{name}" for name in batch.columns if name in ours})


def _with_facts(rows: pl.DataFrame, outcomes: list[UrlResult], columns: Mapping[str, Any]) -> pl.DataFrame:
    return rows.with_columns(
        pl.Series(name, [getattr(outcome, name) for outcome in outcomes], kind) for name, kind in columns.items()
    )


class _Writer:
    """A Parquet file that is written in pieces; the first piece, even if empty, defines the columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, rows: pl.DataFrame) -> None:
        table = rows.to_arrow()
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(self._path, table.schema, compression="zstd")
        if rows.height:
            self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is None:
            pl.DataFrame().write_parquet(self._path)
        else:
            self._writer.close()


def _write_csv(table: Path) -> None:
    """Write a Parquet table once more as CSV, for people, without columns that CSV cannot hold."""
    rows = pl.scan_parquet(table, glob=False)
    plain = [name for name, kind in rows.collect_schema().items() if not (kind.is_nested() or kind == pl.Binary)]
    with atomic_path(table.with_suffix(".csv")) as path:
        rows.select(plain).sink_csv(path)


def _host_table(ledger: Ledger, downloader: Downloader) -> pl.DataFrame:
    """Return the totals per host over all runs, with the refusals and latency of this run."""
    gates = {host.name: host.gate for host in downloader.hosts.values()}
    rows = []
    for total in ledger.host_totals():
        gate = gates.get(total.host)
        counts = gate.counts if gate else Counter[str]()
        rows.append(
            {
                "host": total.host,
                "n_files": total.n_files,
                "n_bytes": total.n_bytes,
                "n_rejected": total.n_rejected,
                "n_requests": counts["requests"],
                "n_refusals": counts["refusals"],
                "n_server_errors": counts["server_errors"],
                "n_connection_errors": counts["failures"],
                "connections": round(gate.limit, 1) if gate else None,
                "latency_ms": round(1000 * gate.recent_latency_s, 1) if gate else None,
                "gave_up": gate.closed if gate else "",
            }
        )
    kinds: dict[str, Any] = dict.fromkeys(("host", "gave_up"), pl.String)
    names = ("host", "n_files", "n_bytes", "n_rejected", "n_requests", "n_refusals", "n_server_errors",
             "n_connection_errors", "connections", "latency_ms", "gave_up")  # fmt: skip
    floats = dict.fromkeys(("connections", "latency_ms"), pl.Float64)
    return pl.DataFrame(rows, schema={name: kinds.get(name) or floats.get(name) or pl.Int64 for name in names})
