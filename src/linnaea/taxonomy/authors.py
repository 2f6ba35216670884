"""Compare the authors of two names, as botanists and zoologists abbreviate them ("L.", "Linn.", "Linnaeus")."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")
_JOINTS = re.compile(r"\s*(?:,|&|;|\bet\b|\band\b|\bund\b|\by\b|\+)\s*")
_SHORT = {
    "l": "linnaeus",
    "linne": "linnaeus",
    "linn": "linnaeus",
    "dc": "decandolle",
    "adc": "decandolle",
    "candolle": "decandolle",
    "f": "fabricius",
    "fabr": "fabricius",
    "hbk": "kunth",
    "kunze": "kunze",
    "bsp": "britton",
    "mx": "michaux",
    "sibth": "sibthorp",
    "hb": "humboldt",
}
"""Abbreviations that are not made of the first letters of the surname."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Authorship:
    """The surnames of an authorship, folded: those who made the combination, those of the original name."""

    combination: tuple[str, ...]
    original: tuple[str, ...]
    year: int
    """0 if there is none."""


@lru_cache(maxsize=65_536)
def agreement(one: str, other: str) -> int:
    """Return how well two authorships agree: 2 all of them, 1 in part, 0 unknown, -1 not at all.

    Initials, "ex", "in", brackets and the notation of years make no difference.
    """
    a, b = read_authorship(one), read_authorship(other)
    if not (a.combination or a.original) or not (b.combination or b.original):
        return 0
    same_original = _overlap(a.original, b.original)
    same_combination = _overlap(a.combination, b.combination)
    crossed = _overlap(a.original or a.combination, b.original or b.combination)
    if a.year and b.year and abs(a.year - b.year) > 2:
        return 0 if crossed or same_combination else -1
    if same_combination and (same_original or not (a.original and b.original)):
        return 2 if bool(a.original) == bool(b.original) else 1
    if same_combination:
        return 1
    return 1 if crossed else -1


@lru_cache(maxsize=65_536)
def read_authorship(text: str) -> Authorship:
    """Return the surnames and the year of an authorship."""
    years = _YEAR.findall(text)
    folded = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ø", "o").replace("æ", "ae"))
    folded = "".join(c for c in folded if not unicodedata.combining(c))
    inside = re.match(r"\s*\(([^()]*)\)?", folded) if folded.lstrip().startswith("(") else None
    rest = folded[inside.end() :] if inside else folded
    original = _surnames(inside[1]) if inside else ()
    return Authorship(combination=_surnames(rest), original=original, year=int(years[-1]) if years else 0)


def _surnames(text: str) -> tuple[str, ...]:
    text = re.sub(r"\b(?:in|apud)\b.*$|:.*$|\[[^\]]*\]|[\d()?]", " ", text)
    before, joint, after = text.partition(" ex ")
    parts = [*_JOINTS.split(after if joint else before), *(_JOINTS.split(before) if joint else ())]
    return tuple(name for part in parts if (name := _surname(part)))


def _surname(author: str) -> str:
    """Return the folded surname: no initials, no particles, no mark of a son."""
    author = re.sub(
        r"\b(?:f|fil|filius|jr|sr|bis|ter|al|auct|hort|nom|emend)\b\.?", " ", f" {author} ", flags=re.IGNORECASE
    )
    author = re.sub(r"(?<=\.)(?=\S)", " ", author)
    words = [
        word
        for word in author.split()
        if not re.fullmatch(r"(?:von|van|de|der|den|du|la|le|del|da|dos|zu|d')", word.lower())
    ]
    long = [word for word in words if len(re.sub(r"[^A-Za-z]", "", word)) > 1]
    if not long and "".join(re.findall("[A-Za-z]", author)).lower() in _SHORT:
        return _SHORT["".join(re.findall("[A-Za-z]", author)).lower()].replace("ae", "a")
    if not long:
        return _SHORT.get(re.sub(r"[^a-z]", "", words[-1].lower()), "").replace("ae", "a") if words else ""
    name = re.sub(r"[^a-z.]", "", long[-1].lower())
    plain = name.rstrip(".").replace("ue", "u").replace("oe", "o").replace("ae", "a")
    return _SHORT.get(plain, plain + "." if name.endswith(".") else plain).replace("ae", "a")


def _overlap(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    return any(_same(a, b) for a in some for b in others)


def _same(one: str, other: str) -> bool:
    """Return whether two surnames are one, in full or abbreviated ("michx." is "michaux")."""
    a, b = one.rstrip("."), other.rstrip(".")
    if a == b:
        return True
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    if len(short) < 2 or short[0] != long[0]:
        return False
    abbreviated = one.endswith(".") if short == a else other.endswith(".")
    if not abbreviated:
        return len(short) > 4 and long.startswith(short) and len(long) - len(short) <= 2
    letters = iter(long)
    return all(letter in letters for letter in short)
