"""Where answers come from: one JSON line per run, enough to ask the same again and to see what has changed since."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from linnaea import __version__
from linnaea.storage import explain_os_errors

PACKAGES = ("torch", "open-clip-torch", "numpy", "pillow", "simplejpeg")
"""Whose versions can change an answer's last digits."""


def append_run(path: Path, facts: Mapping[str, Any], started: datetime) -> None:
    """Append a run to ``path`` (JSON lines, UTF-8): when, with what versions, and ``facts``.

    Raises:
        LinnaeaError: the file cannot be written.
    """
    ended = datetime.now(UTC)
    line = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((ended - started).total_seconds(), 3),
        "linnaea": __version__,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": platform.node(),
        "folder": str(Path.cwd()),
        "command": sys.argv,
        **facts,
    }
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
