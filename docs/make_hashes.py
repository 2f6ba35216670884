"""Write pins with hashes from pip's report: ``python docs/make_hashes.py REPORT > constraints.sha256.txt``.

The report is that of ``pip install --dry-run --ignore-installed --report REPORT ...`` (``make hashes``).
"""

import json
import sys
from pathlib import Path
from typing import Any


def make_pins(report: dict[str, Any]) -> str:
    """Return a line ``name==version --hash=sha256:...`` for every package that comes from an archive."""
    lines = []
    for package in report["install"]:
        digest = package["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest:
            metadata = package["metadata"]
            lines.append(f"{metadata['name'].lower()}=={metadata['version']} --hash=sha256:{digest}\n")
    return "".join(sorted(lines))


if __name__ == "__main__":
    sys.stdout.write(make_pins(json.loads(Path(sys.argv[1]).read_text())))
