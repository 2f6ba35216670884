"""The ledger of a download: the outcome of every URL, exact even after kill -9.

The ledger is one SQLite file, or 16 for large tables; the hash of a URL selects its file. 200 million URLs make 16
files of about 3 GB. A row is written in one transaction before the picture's file is renamed into place. Files that
were between the two steps are repaired when the ledger is opened again:

- a row and its file: done;
- a row, and the file still under its temporary name: the file is renamed;
- a temporary file without a row: it is incomplete, so it is removed and the URL is fetched again.

A crash of the whole machine may also lose the last seconds of data that were not on disk yet. The files of a run that
did not end cleanly are therefore compared with the ledger by size, and files that differ are fetched again.
"""

import hashlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from linnaea.errors import LinnaeaError
from linnaea.jobs import hold_alone
from linnaea.storage import read_regular, sha256_of_file, write_atomically

MANY_SHARDS = 16
"""Number of SQLite files of a ledger for a large table."""
KEY_BYTES = 16
_ENDING = re.compile(r"(\.[a-z0-9]{1,8})?")
STORE, PARTIAL, LEDGER = "files", "partial", "ledger"

State: TypeAlias = Literal["done", "refused", "failed"]
"""``refused`` is final (404, not an image ...); ``failed`` may work later (timeouts, 5xx, host unreachable)."""


def url_key(url: str) -> bytes:
    """Return the key of a URL: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


@dataclass(frozen=True, kw_only=True)
class UrlResult:
    """The final state of a URL."""

    key: bytes
    state: State
    host: str = ""
    reason: str = ""
    status: int = 0
    """Last HTTP status; 0 if there was none."""
    n_attempts: int = 0
    n_bytes: int = 0
    sha256: str = ""
    md5: str = ""
    """Set only if the table has a column of that name."""
    content_type: str = ""
    """Detected from the first bytes; the host's header is not used."""
    ending: str = ""
    final_url: str = ""
    """The URL after redirects; empty if there were none."""

    @property
    def path(self) -> str:
        """The path of the picture's file, relative to the output folder."""
        name = self.key.hex()
        return f"{STORE}/{name[:3]}/{name}{self.ending}"


_COLUMNS = [field.name for field in fields(UrlResult)]
_INSERT = f"INSERT OR REPLACE INTO urls (run, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)})"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY, started REAL NOT NULL, clean INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS urls (
    key BLOB PRIMARY KEY, run INTEGER NOT NULL, state TEXT NOT NULL, host TEXT NOT NULL, reason TEXT NOT NULL,
    status INTEGER NOT NULL, n_attempts INTEGER NOT NULL, n_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    md5 TEXT NOT NULL, content_type TEXT NOT NULL, ending TEXT NOT NULL, final_url TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class HostTotal:
    """The totals of one host over all runs."""

    host: str
    n_files: int
    n_bytes: int
    n_rejected: int


class Ledger:
    """The ledger of one output folder, for one process at a time and any number of threads.

    ``n_shards`` applies to a new ledger only; an existing one keeps its number of files.

    Raises:
        LinnaeaError: another process has it open, or it cannot be written (disk full).
    """

    def __init__(self, directory: Path, n_shards: int = 1) -> None:
        self.directory = directory
        for name in (LEDGER, PARTIAL, STORE):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self._held = ExitStack()
        self._held.enter_context(hold_alone(directory, f"{LEDGER}/lock", kind="download"))
        try:
            paths = _shard_paths(directory / LEDGER, n_shards)
            self._locks = [threading.Lock() for _ in paths]
            self._shards = [_open_shard(path) for path in paths]
            self._run = self._begin_run()
        except sqlite3.Error as error:
            self._held.close()
            raise self._explained(error) from error
        except LinnaeaError:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the run cleanly; everything recorded is on disk already."""
        try:
            self._finish_renames()
            with self._shards[0] as shard:
                shard.execute("UPDATE runs SET clean = 1 WHERE run = ?", (self._run,))
        except (OSError, sqlite3.Error):
            pass  # disk full: the next run checks the files of this run
        for connection in self._shards:
            connection.close()
        self._held.close()

    def record(self, outcome: UrlResult) -> None:
        """Write the outcome of a URL in one transaction; its file is renamed into place only after this."""
        shard = outcome.key[0] % len(self._shards)
        try:
            with self._locks[shard], self._shards[shard] as connection:
                connection.execute(_INSERT, (self._run, *astuple(outcome)))
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def look_up(self, keys: Iterable[bytes]) -> dict[bytes, UrlResult]:
        """Return the recorded outcomes of ``keys``."""
        by_shard: dict[int, list[bytes]] = {}
        for key in keys:
            by_shard.setdefault(key[0] % len(self._shards), []).append(key)
        found: dict[bytes, UrlResult] = {}
        for shard, wanted in by_shard.items():
            with self._locks[shard]:
                for some in _in_groups(wanted, 500):
                    marks = ", ".join("?" * len(some))
                    rows = self._shards[shard].execute(
                        f"SELECT {', '.join(_COLUMNS)} FROM urls WHERE key IN ({marks})", some
                    )
                    for row in rows:
                        found[row[0]] = self._result(row)
        return found

    def forget(self, state: State) -> int:
        """Delete every outcome of one state, so that those URLs are fetched again, and return their number."""
        n_forgotten = 0
        for lock, connection in zip(self._locks, self._shards, strict=True):
            with lock, connection:
                n_forgotten += connection.execute("DELETE FROM urls WHERE state = ?", (state,)).rowcount
        return n_forgotten

    def host_totals(self) -> list[HostTotal]:
        """Return files, bytes and rejects per host over all runs, most bytes first."""
        totals: dict[str, list[int]] = {}
        query = "SELECT host, sum(state = 'done'), sum(n_bytes), sum(state != 'done') FROM urls GROUP BY host"
        for lock, connection in zip(self._locks, self._shards, strict=True):
            with lock:
                for host, *values in connection.execute(query):
                    before = totals.get(host, [0, 0, 0])
                    totals[host] = [a + b for a, b in zip(before, values, strict=True)]
        made = [HostTotal(host=host, n_files=f, n_bytes=b, n_rejected=r) for host, (f, b, r) in totals.items()]
        return sorted(made, key=lambda total: (-total.n_bytes, total.host))

    def partial_path(self, key: bytes) -> Path:
        """Return the path of a URL's file until it is complete."""
        return self.directory / PARTIAL / key.hex()

    def _begin_run(self) -> int:
        unclean = [run for (run,) in self._shards[0].execute("SELECT run FROM runs WHERE clean = 0")]
        self._finish_renames()
        for run in unclean:
            self._compare_files(run)
        with self._shards[0] as shard:
            shard.execute("UPDATE runs SET clean = 1 WHERE clean = 0")
            cursor = shard.execute("INSERT INTO runs (started, clean) VALUES (?, 0)", (time.time(),))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _finish_renames(self) -> None:
        for path in sorted((self.directory / PARTIAL).iterdir()):
            try:
                key = bytes.fromhex(path.name)
            except ValueError:
                key = b""
            outcome = self.look_up([key]).get(key) if len(key) == KEY_BYTES else None
            if outcome and outcome.state == "done" and sha256_of_file(path) == outcome.sha256:
                final = self.directory / outcome.path
                final.parent.mkdir(exist_ok=True)
                path.replace(final)
            else:
                path.unlink()

    def _compare_files(self, run: int) -> None:
        for connection in self._shards:
            rows = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM urls WHERE run = ? AND state = 'done'", (run,)
            )
            outcomes = map(self._result, rows)
            wrong = [(o.key,) for o in outcomes if _file_size(self.directory / o.path) != o.n_bytes]
            with connection:
                connection.executemany("DELETE FROM urls WHERE key = ?", wrong)

    def _result(self, row: Sequence[Any]) -> UrlResult:
        """Return the outcome in a row; a file's ending becomes part of a path, so that only an ending may be there.

        Raises:
            LinnaeaError: no download has written it.
        """
        result = UrlResult(**dict(zip(_COLUMNS, row, strict=True)))
        texts = (result.reason, result.sha256, result.md5, result.content_type, result.final_url)
        is_key = isinstance(result.key, bytes) and len(result.key) == KEY_BYTES
        if not is_key or not _ENDING.fullmatch(str(result.ending)) or not all(isinstance(text, str) for text in texts):
            raise LinnaeaError(f"{self.directory / LEDGER}: holds what no download wrote; remove it to begin anew")
        return result

    def _explained(self, error: sqlite3.Error) -> LinnaeaError:
        where = self.directory / LEDGER
        if "full" in str(error):
            return LinnaeaError(f"{where}: the disk is full; free some space and run the same command again")
        return LinnaeaError(f"{where}: the ledger cannot be used ({error}); remove it to begin anew")


def _shard_paths(folder: Path, n_shards: int) -> list[Path]:
    """Return the files of the ledger; one rename creates all of them, so a kill leaves either all or none."""
    count = folder / "shards"
    if not count.exists():
        write_atomically(count, f"{n_shards}\n")
    stated = read_regular(count)[:10].strip()
    if not stated.isdigit() or not 1 <= int(stated) <= MANY_SHARDS:
        raise LinnaeaError(f"{count}: not the number of the ledger's files; remove {folder} to begin anew")
    return [folder / f"{shard:02x}.sqlite" for shard in range(int(stated))]


def _open_shard(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(_SCHEMA)
    return connection


def _in_groups(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
