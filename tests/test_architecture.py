"""The tree is the pipeline: imports point one way, and the command line stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "linnaea"

KNOWN_CYCLES: set[frozenset[str]] = set()
"""Import cycles that are still to be cut; this set only ever shrinks."""

LINES_AT_MOST = 60
"""Lines of a function from its ``def`` on, docstring included."""

KNOWN_LONG: set[str] = set()
"""Functions that are still to be split; this set only ever shrinks."""

BELOW_ALL = {
    "arrays",
    "counting",
    "errors",
    "progress",
    "storage",
    "parquet",
    "archives",
    "exchange",
    "tables",
    "jobs",
    "page",
}
"""What every part may import."""

OF_THE_PACKAGE = {"__version__", "VerbPackage"}
"""What every part may import from ``linnaea`` itself."""

MAY_IMPORT = {
    "counting": set(),
    "errors": set(),
    "progress": set(),
    "storage": {"errors"},
    "parquet": {"errors", "storage"},
    "arrays": {"errors", "storage"},
    "archives": {"errors", "storage"},
    "exchange": {"errors", "storage"},
    "tables": {"errors", "storage", "parquet", "archives"},
    "jobs": {"errors", "storage", "tables"},
    "page": {"counting", "errors", "storage"},
    "taxonomy": BELOW_ALL,
    "data": BELOW_ALL | {"taxonomy"},
    "model": BELOW_ALL | {"taxonomy", "data"},
    "predict": BELOW_ALL | {"taxonomy", "data", "model"},
    "train": BELOW_ALL | {"taxonomy", "data", "model", "predict"},
    "evaluate": BELOW_ALL | {"taxonomy", "data", "model", "predict"},
    "serve": BELOW_ALL | {"taxonomy", "data", "model", "predict"},
    "compat": BELOW_ALL | {"taxonomy", "data", "model", "predict"},
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
                else [f"linnaea.{alias.name}" for alias in node.names if alias.name not in OF_THE_PACKAGE]
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


def module_names(files: dict[str, str]) -> dict[str, str]:
    """Name each file of ``files`` (path below src -> code) as Python does."""
    dotted = {path: path.removesuffix(".py").replace("/", ".") for path in files}
    return {path: name.removesuffix(".__init__") for path, name in dotted.items()}


def imported_names(code: str, package: str) -> set[str]:
    """Return every dotted name that ``code`` imports, inside functions too; ``package`` resolves relative imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def import_graph(files: dict[str, str]) -> dict[str, set[str]]:
    """Map each module to the modules that it imports, its own packages left out."""
    names = module_names(files)
    graph: dict[str, set[str]] = {}
    for path, code in files.items():
        module = names[path]
        package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        imported = imported_names(code, package) & set(names.values())
        graph[module] = {name for name in imported if name != module and not module.startswith(f"{name}.")}
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return every module that ``start`` imports, directly or through others."""
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        if (module := waiting.pop()) not in seen:
            seen.add(module)
            waiting.extend(graph[module])
    return seen


def import_cycles(files: dict[str, str]) -> set[frozenset[str]]:
    """Return the largest sets of modules in which each module imports each other one, directly or through others."""
    graph = import_graph(files)
    below = {module: reachable(graph, module) for module in graph}
    groups = {frozenset(other for other in below[module] if module in below[other]) for module in graph}
    return groups - {frozenset()}


def source_files() -> dict[str, str]:
    return {path.relative_to(SOURCE.parent).as_posix(): path.read_text() for path in sorted(SOURCE.rglob("*.py"))}


def test_no_new_import_cycle() -> None:
    found = import_cycles(source_files())
    new, gone = (sorted(map(sorted, cycles)) for cycles in (found - KNOWN_CYCLES, KNOWN_CYCLES - found))
    assert not new, f"new import cycles, to be cut: {new}"
    assert not gone, f"cycles that are gone, to be removed from KNOWN_CYCLES: {gone}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("import linnaea.a.two", "from linnaea.a.one import x"),
        ("from linnaea.a import two", "def late():\n    from linnaea.a import one"),
        ("from . import two", "from .one import x"),
        ("from linnaea.a.two import x", "from linnaea.a.three import x"),
    ],
)
def test_the_cycle_rule_can_fail(first: str, second: str) -> None:
    files = {
        "linnaea/__init__.py": "",
        "linnaea/a/__init__.py": "",
        "linnaea/a/one.py": first,
        "linnaea/a/two.py": second,
        "linnaea/a/three.py": "import linnaea.a.one, linnaea.b",
        "linnaea/b.py": "from linnaea import a",
    }
    (cycle,) = import_cycles(files)
    assert {"linnaea.a.one", "linnaea.a.two"} <= cycle
    assert not import_cycles({**files, "linnaea/a/two.py": "import os"})


def long_functions(path: str, code: str) -> set[str]:
    """Return ``path:name`` of each function in ``code`` that is longer than it may be."""
    return {
        f"{path}:{node.name}"
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > LINES_AT_MOST
    }


def test_functions_are_short() -> None:
    found = {name for path, code in source_files().items() for name in long_functions(path, code)}
    assert not found - KNOWN_LONG, f"functions above {LINES_AT_MOST} lines, to be split: {found - KNOWN_LONG}"
    assert not KNOWN_LONG - found, f"functions that are gone or short, to be unlisted: {KNOWN_LONG - found}"


@pytest.mark.parametrize("head", ["def f():", "async def f():", "class C:\n  def f(self):"])
def test_the_length_rule_can_fail(head: str) -> None:
    body = [f"{head}\n", *["    x = 1\n"] * (LINES_AT_MOST - 1)]
    assert not long_functions("a.py", "".join(body))
    assert long_functions("a.py", "".join([*body, "    x = 1\n"])) == {"a.py:f"}


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
