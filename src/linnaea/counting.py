"""Say a number with its noun: "1 photograph", "1,200 taxa"."""

_PLURALS = {"taxon": "taxa", "genus": "genera", "phylum": "phyla", "species": "species"}
_AS_BOXES = ("s", "x", "ch", "sh")
"""Endings that take "es"."""


def plural(n: float, noun: str) -> str:
    """Return the form of a noun, or of words that end in one, that goes with a number.

    >>> plural(1, "image"), plural(2, "class"), plural(0, "family"), plural(5, "taxon"), plural(2, "vernacular name")
    ('image', 'classes', 'families', 'taxa', 'vernacular names')
    """
    if n == 1:
        return noun
    before, space, last = noun.rpartition(" ")
    if last in _PLURALS:
        form = _PLURALS[last]
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        form = f"{last[:-1]}ies"
    else:
        form = f"{last}es" if last.endswith(_AS_BOXES) else f"{last}s"
    return before + space + form


def count(n: float, noun: str, form: str = ",") -> str:
    """Return a number with its noun; ``form`` is the format of the number, by default with separated thousands.

    >>> count(1, "row"), count(1200, "row"), count(1200, "row", "")
    ('1 row', '1,200 rows', '1200 rows')
    """
    return f"{n:{form}} {plural(n, noun)}"


def agree(n: float, one: str, many: str) -> str:
    """Return the word that goes with a number: "is" or "are"."""
    return one if n == 1 else many
