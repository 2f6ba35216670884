"""docs/api.md is what the docstrings say, and its examples run."""

import doctest
import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

import linnaea

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^## (\w+)$|^```python\n(.*?)^```$", (ROOT / "docs/api.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_generated_from_the_docstrings(generator: ModuleType) -> None:
    written = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert written == generator.make_page(), "run `python docs/make_api.py` and commit docs/api.md"


def test_every_public_name_has_a_section() -> None:
    assert {name for name, _ in BLOCKS if name} == set(linnaea.__all__) - {"__version__"}


def test_markup_becomes_markdown(generator: ModuleType) -> None:
    text = "See :func:`linnaea.open`.\n\n>>> 1 + 1\n2\n\nArgs:\n    a: One ``thing``,\n        long.\n    b: Two.\n"
    assert generator.to_markdown(text) == (
        "See `open`.\n\n```python\n>>> 1 + 1\n2\n```\n\n**Args**\n\n- `a`: One `thing`, long.\n- `b`: Two.\n"
    )


def test_the_examples_run(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photographs, "class-folders", ignore=shutil.ignore_patterns("*.csv", ".*"))
    Path("photographs").mkdir()
    for number, path in enumerate(sorted(photographs.rglob("*.jpg"))[:3]):
        shutil.copy(path, Path("photographs") / f"{number}.jpg")
    examples = [code for _, code in BLOCKS if code]
    assert len(examples) >= 3
    for number, code in enumerate(examples):
        names = {"linnaea": linnaea, **{name: getattr(linnaea, name) for name in linnaea.__all__}}
        if ">>> " not in code:
            exec(compile(code, f"api.md example {number}", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(code, names, f"api.md example {number}", None, None)
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test)
        assert result.failed == 0, code
