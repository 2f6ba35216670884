"""A number has its noun in the form that goes with it, in every message."""

import doctest
import re
from pathlib import Path

import pytest

import linnaea
from linnaea import counting
from linnaea.counting import agree, count

NOUNS = ("photographs", "images", "labels", "events")
"""Nouns that many messages count."""
MANY = re.compile(r"[A-Z_]{4,}|len\(pixels\)|len\(first_B\)|^n:,$|:\.\d%|'test'")
"""Expressions that are never 1: constants, the photographs of a form in 8 bits, those of a large index; and shares."""
WRITTEN = re.compile(r"\{([^{}]*)\} (?:(?:reviewed|listed|near) )?(?:" + "|".join(NOUNS) + r")\b")


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [
        (1, "photograph", "1 photograph"),
        (0, "photograph", "0 photographs"),
        (1234, "reviewed photograph", "1,234 reviewed photographs"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "taxon", "2 taxa"),
        (2, "genus", "2 genera"),
        (1, "species", "1 species"),
        (2, "species", "2 species"),
        (3, "family", "3 families"),
        (3, "near copy", "3 near copies"),
        (3, "box", "3 boxes"),
        (3, "day", "3 days"),
    ],
)
def test_a_noun_has_the_form_of_its_number(n: int, noun: str, text: str) -> None:
    assert count(n, noun) == text


def test_a_number_may_be_without_separators() -> None:
    assert count(10000, "row", "") == "10000 rows"
    assert (agree(1, "is", "are"), agree(2, "is", "are")) == ("is", "are")
    assert doctest.testmod(counting).failed == 0


def uncounted(code: str) -> list[str]:
    """Return the numbers in f-strings whose noun is a plural whatever they are."""
    lines = (line for line in code.splitlines() if "records in =" not in line)  # a line that scripts read
    return [found[0] for line in lines for found in WRITTEN.finditer(line) if not MANY.search(found[1])]


def test_no_message_says_1_photographs() -> None:
    assert uncounted('say(f"{len(names)} photographs")') == ["{len(names)} photographs"]
    source = Path(linnaea.__file__).parent
    assert [(path.name, line) for path in source.rglob("*.py") for line in uncounted(path.read_text())] == []
