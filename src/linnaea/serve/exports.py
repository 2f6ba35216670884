"""Files of answers that the page asks for, made from the rows that it sends back.

No file of this machine is read for them: names are made such that no file has them, and pictures come with the request.
"""

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, Field

from linnaea.data.frames import is_video
from linnaea.errors import UsageError
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import NUMBERS, Row, make_empty_row
from linnaea.predict.outputs.write import write_rows
from linnaea.taxonomy.columns import ANSWER_COLUMNS

ENDINGS = {
    "csv": ".csv", "xlsx": ".xlsx", "json": ".json", "jsonl": ".jsonl", "parquet": ".parquet", "html": ".html",
    "megadetector": ".json", "speciesnet": ".json", "camtrapdp": ".csv", "dwca": ".zip",
}  # fmt: skip
"""The formats that need no more than rows, and their endings. A package of Camtrap DP needs places and times."""
TITLES = {
    "csv": "CSV", "xlsx": "Excel", "json": "JSON", "jsonl": "JSON lines", "parquet": "Parquet", "html": "web page",
    "megadetector": "MegaDetector", "speciesnet": "SpeciesNet", "camtrapdp": "Camtrap DP observations",
    "dwca": "Darwin Core Archive",
}  # fmt: skip
ROWS_AT_MOST = 20_000
JPEG = b"\xff\xd8\xff"


class Export(BaseModel):
    """Rows of answers, and the format of the file to make of them."""

    format: Literal[
        "csv", "xlsx", "json", "jsonl", "parquet", "html", "megadetector", "speciesnet", "camtrapdp", "dwca"
    ]
    rows: list[dict[str, str | float | None]] = Field(max_length=ROWS_AT_MOST)
    pictures: dict[str, str] = Field(default_factory=dict, max_length=ROWS_AT_MOST)
    """Small JPEGs (base64) by file name, for ``html``."""


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
    with TemporaryDirectory() as folder:
        output = Path(folder) / file
        write_rows(output, asked.format, rows, Context(pictures=pictures))
        return output.read_bytes(), file


def _read_row(given: dict[str, str | float | None], name: str) -> Row:
    """Return a row with all columns; what is not known is left out."""
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


def _jpeg(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith(JPEG):
        raise UsageError("pictures: must be JPEGs in base64")
    return data
