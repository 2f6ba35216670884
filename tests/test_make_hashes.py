"""Pins with hashes come from pip's report, without hosts."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "docs" / "make_hashes.py"


def test_pins_hold_name_version_and_hash_only() -> None:
    spec = importlib.util.spec_from_file_location("make_hashes", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    archive = {"url": "https://host/b.whl", "archive_info": {"hashes": {"sha256": "0a"}}}
    packages = [
        {"metadata": {"name": "Zed", "version": "2"}, "download_info": archive},
        {"metadata": {"name": "abc", "version": "1.0"}, "download_info": archive},
        {"metadata": {"name": "linnaea", "version": "0"}, "download_info": {"dir_info": {}, "url": "file:///x"}},
    ]
    assert module.make_pins({"install": packages}) == "abc==1.0 --hash=sha256:0a\nzed==2 --hash=sha256:0a\n"
