"""The tree is the pipeline: imports point one way, and the command line stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "linnaea"

MAY_IMPORT = {
    "errors": set(),
    "storage": {"errors"},
    "page": {"errors", "storage"},
    "taxonomy": {"errors", "storage", "page"},
    "data": {"errors", "storage", "page", "taxonomy"},
    "model": {"errors", "storage", "page", "taxonomy", "data"},
    "predict": {"errors", "storage", "page", "taxonomy", "data", "model"},
    "train": {"errors", "storage", "page", "taxonomy", "data", "model", "predict"},
    "evaluate": {"errors", "storage", "page", "taxonomy", "data", "model", "predict"},
    "serve": {"errors", "storage", "page", "taxonomy", "data", "model", "predict"},
}
"""What each part may import besides itself; ``cli`` wires everything and is free."""


def wrong_imports(part: str, code: str) -> list[str]:
    """The imports of our own modules in ``code`` that a module of ``part`` must not have."""
    allowed = MAY_IMPORT[part] | {part}
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            names = (
                [f"{'.' * node.level}{node.module or ''}"]
                if node.module != "linnaea"
                else [f"linnaea.{alias.name}" for alias in node.names if alias.name != "__version__"]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("."):
                found.append(f"relative import {name}")
            elif name.split(".")[0] == "linnaea" and name.split(".")[1:2] != [] and name.split(".")[1] not in allowed:
                found.append(name)
    return found


def modules() -> list[tuple[str, Path]]:
    return [
        (part, path)
        for path in sorted(SOURCE.rglob("*.py"))
        if (part := path.relative_to(SOURCE).with_suffix("").parts[0]) in MAY_IMPORT
    ]


def test_imports_point_one_way() -> None:
    wrong = {
        str(path.relative_to(SOURCE)): found
        for part, path in modules()
        if (found := wrong_imports(part, path.read_text()))
    }
    assert not wrong


def test_every_part_has_a_rule() -> None:
    parts = {path.relative_to(SOURCE).with_suffix("").parts[0] for path in SOURCE.rglob("*.py")}
    assert parts - set(MAY_IMPORT) == {"__init__", "__main__", "cli"}


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("taxonomy", "from linnaea.data.shards import DataSet"),
        ("train", "import linnaea.evaluate.zero_shot"),
        ("evaluate", "from linnaea.train import fit"),
        ("data", "from linnaea import model"),
        ("predict", "def late():\n    from linnaea.cli.console import say"),
        ("model", "from .load import load_model"),
    ],
)
def test_the_import_rule_can_fail(part: str, code: str) -> None:
    assert wrong_imports(part, code)


def test_taxonomy_never_imports_torch() -> None:
    for path in (SOURCE / "taxonomy").rglob("*.py"):
        assert "import torch" not in path.read_text(), path


HEAVY = ("torch", "polars", "numpy", "open_clip", "cv2", "matplotlib")


@pytest.mark.parametrize("statement", ["import linnaea", "from linnaea.cli import main; main(['--help'])"])
def test_import_and_help_stay_light(statement: str) -> None:
    check = f"import sys; {statement}; sys.exit(' '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc", "tools"}
    assert not [path for path in SOURCE.rglob("*.py") if path.stem in drawers or path.parent.name in drawers]
