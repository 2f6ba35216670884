"""The reference on the site has every public name and every command, and the examples of docstrings run."""

import doctest
import importlib.util
import inspect
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import linnaea
from linnaea.cli import VERBS

ROOT = Path(__file__).parent.parent
NAMES = [name for name in linnaea.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_a_section_functions_first(hooks: ModuleType) -> None:
    headings = [line.removeprefix("      heading: ") for line in hooks.list_names().splitlines() if "heading: " in line]
    assert sorted(headings) == sorted(NAMES)
    are_classes = [isinstance(getattr(linnaea, name), type) for name in headings]
    assert are_classes == sorted(are_classes)
    assert all(getattr(linnaea, name).__doc__ for name in NAMES)


def test_every_command_has_a_section(hooks: ModuleType) -> None:
    page = hooks.list_commands()
    assert all(f"\n## linnaea {verb}" in page for verb in VERBS)
    assert "| `--confidence` |" in page


def test_links_to_folders_lead_to_the_repository(hooks: ModuleType) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    for folder in ("docs/sources/", "notebooks/"):
        assert (ROOT / folder).is_dir()
        moved = hooks._move_links(f"[there]({folder})", "")
        assert hooks.on_page_markdown(moved, page) == f"[there]({hooks.SOURCE}{folder})"


def test_roles_of_docstrings_are_names_on_the_page(hooks: ModuleType) -> None:
    html = "See :func:<code>~linnaea.predict.session.open_model</code> and <code>rank</code>."
    assert hooks.on_page_content(html, None) == "See <code>open_model</code> and <code>rank</code>."


def test_the_examples_run(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photographs, "class-folders", ignore=shutil.ignore_patterns("*.csv", ".*"))
    Path("photographs").mkdir()
    for number, path in enumerate(sorted(photographs.rglob("*.jpg"))[:3]):
        shutil.copy(path, Path("photographs") / f"{number}.jpg")
    known = {"linnaea": linnaea, **{name: getattr(linnaea, name) for name in NAMES}}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for name in NAMES:
        value = inspect.unwrap(known[name])
        for test in doctest.DocTestFinder().find(value, name, module=inspect.getmodule(value), globs=dict(known)):
            runner.run(test)
    assert runner.tries >= 6
    assert runner.failures == 0
