"""The page about security states how many ways its tests try, and names tests that are there."""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "security.md"
REFERENCE = re.compile(r"`(test_\w+)(?:\[(\w+)\])?`")
"""A test, and in brackets the list in its module that it goes through."""


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the ways and the tests of each row of the page's tables."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[1].strip("-: ") and cells[0] != "kind":
            yield cells[0], cells[1], cells[3]


@cache
def module_of(test: str) -> ModuleType:
    places = [path for path in TESTS.rglob("test_*.py") if re.search(rf"^def {test}\(", path.read_text(), re.MULTILINE)]
    assert len(places) == 1, f"{test} is in {places}"
    pytest.importorskip("fastapi")
    return importlib.import_module(".".join(places[0].relative_to(TESTS.parent).with_suffix("").parts))


def count_ways(test: str, entries: str) -> int:
    """Return the number of parametrised cases of a test, times the entries of the list that it goes through."""
    module = module_of(test)
    n_ways = len(getattr(module, entries)) if entries else 1
    for mark in getattr(getattr(module, test), "pytestmark", ()):
        n_ways *= len(list(mark.args[1])) if mark.name == "parametrize" else 1
    return n_ways


@pytest.mark.parametrize(("kind", "ways", "tests"), list(rows()), ids=lambda cell: cell[:30])
def test_the_ways_of_a_kind_are_those_that_its_tests_try(kind: str, ways: str, tests: str) -> None:
    found = REFERENCE.findall(tests)
    assert found, f"{kind}: names no test"
    n_ways = sum(count_ways(test, entries) for test, entries in found)
    if not ways.startswith("every"):
        assert int(ways) == n_ways, f"{kind}: {', '.join(test for test, _ in found)} try {n_ways}"


def test_the_page_has_many_kinds() -> None:
    assert len(list(rows())) > 30
