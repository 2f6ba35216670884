"""Files of answers that the page asks for, made from the rows that it sends back.

No file of this machine is read for them: names are made such that no file has them, and pictures come with the request.
"""

import base64
import binascii
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, Field

from linnaea.data.frames import is_video
from linnaea.errors import UsageError
from linnaea.predict.outputs.camtrapdp import parse_zone
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import NUMBERS, Row, make_empty_row
from linnaea.predict.outputs.write import write_rows
from linnaea.taxonomy.columns import ANSWER_COLUMNS

ENDINGS = {
    "csv": ".csv", "xlsx": ".xlsx", "json": ".json", "jsonl": ".jsonl", "parquet": ".parquet", "html": ".html",
    "megadetector": ".json", "speciesnet": ".json", "camtrapdp": ".csv", "camtrapdp-package": ".zip", "dwca": ".zip",
}  # fmt: skip
"""The formats, and the endings of their files. All but the package of Camtrap DP need no more than rows."""
TITLES = {
    "csv": "CSV", "xlsx": "Excel", "json": "JSON", "jsonl": "JSON lines", "parquet": "Parquet", "html": "web page",
    "megadetector": "MegaDetector", "speciesnet": "SpeciesNet", "camtrapdp": "Camtrap DP observations",
    "camtrapdp-package": "Camtrap DP package", "dwca": "Darwin Core Archive",
}  # fmt: skip
PACKAGE: Literal["camtrapdp-package"] = "camtrapdp-package"
DEPLOYMENT = "photographs"
"""The deployment of photographs that come without folders."""
ROWS_AT_MOST = 20_000
JPEG = b"\xff\xd8\xff"


class Export(BaseModel):
    """Rows of answers, and the format of the file to make of them."""

    format: Literal[
        "csv", "xlsx", "json", "jsonl", "parquet", "html", "megadetector", "speciesnet", "camtrapdp",
        "camtrapdp-package", "dwca",
    ]  # fmt: skip
    rows: list[dict[str, str | float | None]] = Field(max_length=ROWS_AT_MOST)
    pictures: dict[str, str] = Field(default_factory=dict, max_length=ROWS_AT_MOST)
    """Small JPEGs (base64) by file name, for ``html``."""
    heads: dict[str, str] = Field(default_factory=dict, max_length=ROWS_AT_MOST)
    """The first bytes of JPEGs (base64) by file name, for ``camtrapdp-package``: their EXIF states time and place."""
    timezone: str = Field(default="", max_length=100)
    """The time zone of cameras that write no offset, such as Europe/Berlin, for ``camtrapdp-package``."""
    lat: float | None = Field(default=None, ge=-90, le=90)
    """The camera's latitude, for ``camtrapdp-package``; by default that of the photographs."""
    lon: float | None = Field(default=None, ge=-180, le=180)


def export(asked: Export) -> tuple[bytes, str]:
    """Return the bytes of a file and its name.

    Raises:
        UsageError: a row is not one of answers.
        LinnaeaError: the format cannot be written from these rows.
    """
    names = _safe_names([str(row.get("file_name") or "") for row in asked.rows])
    rows = [_read_row(row, names[str(row.get("file_name") or "")]) for row in asked.rows]
    pictures = {names[name]: _jpeg(text) for name, text in asked.pictures.items() if name in names}
    file = f"taxa{ENDINGS[asked.format]}"
    if asked.format == PACKAGE:
        return _package(asked, rows, names), file
    return write_bytes(
        asked.format, lambda path: write_rows(path, asked.format, rows, Context(pictures=pictures))
    ), file


def write_bytes(form: str, write: Callable[[Path], None]) -> bytes:
    """Return the file of a format that ``write`` writes to a path; a package, which is a folder, becomes a zip."""
    with TemporaryDirectory(prefix="linnaea") as folder:
        path = Path(folder) / "taxa"
        write(path)
        return _zip(path) if form == PACKAGE else path.read_bytes()


def _zip(package: Path) -> bytes:
    return Path(shutil.make_archive(str(package), "zip", root_dir=package)).read_bytes()


def _package(asked: Export, rows: Sequence[Row], names: Mapping[str, str]) -> bytes:
    """Return a zip with a package of Camtrap DP; its ``notes.txt`` lists the photographs and facts that it lacks.

    The beginnings of the photographs are written to a folder of their own, and nothing else is read.
    """
    notes: list[str] = []
    with TemporaryDirectory() as folder:
        photographs, package = Path(folder) / DEPLOYMENT, Path(folder) / "taxa"
        photographs.mkdir()
        for name, text in asked.heads.items():
            if name in names:
                (photographs / names[name]).write_bytes(_jpeg(text, "heads"))
        deployments = None
        if asked.lat is not None and asked.lon is not None:
            deployments = Path(folder) / "deployments.csv"
            deployments.write_text(f"deploymentID,latitude,longitude\n{DEPLOYMENT},{asked.lat},{asked.lon}\n")
        zone = parse_zone(asked.timezone) if asked.timezone else None
        placed = [row | {"file_name": str(photographs / row["file_name"])} for row in rows]
        write_rows(package, PACKAGE, placed, Context(zone=zone, deployments=deployments, tell=notes.append))
        (package / "notes.txt").write_text("\n".join([*notes, ""]), encoding="utf-8")
        return _zip(package)


def _read_row(given: dict[str, str | float | None], name: str) -> Row:
    """Return a row with all columns; other keys are left out."""
    row = make_empty_row(name, "", "")
    for column in ANSWER_COLUMNS[1:]:
        value = given.get(column)
        if column in NUMBERS:
            row[column] = None if value in (None, "") else _number(column, value)
        elif column not in ("bbox", "event"):  # of photographs that the page cannot have
            row[column] = "" if value is None else str(value)
    return row


def _number(column: str, value: str | float | None) -> float:
    try:
        return float(value or 0)
    except ValueError:
        raise UsageError(f"{column}: {str(value)[:40]!r} is not a number") from None


def _safe_names(names: Sequence[str]) -> dict[str, str]:
    """Return for each name its last part, changed until no file of this machine has it."""
    safe = {}
    for name in names:
        base = (
            name.replace("\\", "/").rpartition("/")[2].replace(":", "_").replace("#", "_").replace("\0", "") or "photo"
        )
        while Path(base).exists() or is_video(base):
            base = f"{base}_"
        safe[name] = base
    return safe


def _jpeg(text: str, where: str = "pictures") -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(JPEG):
        raise UsageError(f"{where}: must be JPEGs in base64")
    return data
