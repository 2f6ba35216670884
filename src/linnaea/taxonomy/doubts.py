"""Find the words of a label that say that the organism is not, or not surely, the one named."""

import re
from dataclasses import dataclass

from linnaea.taxonomy.readings import is_binomial, is_name_word, sentence_case

_MARKS = ("cf", "cfr", "conf", "c.f", "c. f", "aff", "nr", "prob", "poss")
_WORDS = re.split(
    r",\s+",
    """maybe, perhaps, possible, possibly, probable, probably, likely, unlikely, presumed, presumably, apparently,
    suspected, tentative, tentatively, unsure, uncertain, unconfirmed, unverified, tbc, doubtful, questionable,
    not sure, not certain, not confirmed, not verified, to be confirmed, to be verified, to be checked,
    vielleicht, vermutlich, wahrscheinlich, möglicherweise, unsicher, fraglich, peut-être, probablement,
    douteux, incertain, à confirmer, quizá, quizás, posible, posiblemente, dudoso, dudosa, probabile, possibile,
    forse, provável, possível, talvez, mogelijk, waarschijnlijk, hybrid, hybrids, hyb""",
)
_SAID = "|".join(re.escape(word) for word in sorted((*_MARKS, *_WORDS), key=len, reverse=True))
_LAST = frozenset(("id", "identification", *(word.split(" ")[-1] for word in (*_MARKS, *_WORDS))))
SAID = rf"(?:{_SAID}|mimics?|look-?alikes?|like)"
"""Words that a label of plain words may have besides a name."""
_BEFORE = re.compile(rf"^(?:\?|(?:{_SAID})\b\.? ?)(?=[^\W\d_])", re.IGNORECASE)
_AFTER = re.compile(
    rf"(?:[ ,;:]+-? ?|(?=[(\[]))[(\[]?((?:id(?:entification)?:? )?(?:{_SAID})\.?(?: id(?:entification)?)?)[)\]]?$",
    re.IGNORECASE,
)
DOUBT_AT_END = rf"(?i)[ ,(\[](?:{_SAID})\.?[)\]]?$"
"""A pattern for the names of checklists."""
_QUESTION = re.compile(r" ?\(\?\)|(?<!\d) ?\?+(?!\])")
_NOT = re.compile(
    r"^(?:not|no|never|isn'?t|(?:it )?(?:looks?|looking) like|like|similar to|resembl(?:es|ing)|mimics?(?: of)?|"
    r"reminds (?:me )?of|lookalike of) ",
    re.IGNORECASE,
)
_ALIKE = re.compile(r"[ -](?:mimics?|look-?alikes?|like)$", re.IGNORECASE)
_AUCT = re.compile(
    r"[ ,(]+((?:auct(?:t|orum)?\b\.?|sensu\b(?! (?:lat|str))|non\b(?!-)|nec\b|nicht\b|p\. ?p\.|pro parte\b|"
    r"misapplied\b|misident\w*\b\.?|not of\b).*)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A label without the words that doubt it."""

    name: str
    words: str
    is_whole: bool = False
    """True if a vernacular name may begin or end with the words ("questionable Stropharia")."""


def cut_doubt(text: str) -> Doubt | None:
    """Read "Pica pica?", "probably Pica pica", "Pica pica (cf.)": only the genus is certain."""
    if match := _BEFORE.match(text):
        return Doubt(name=text[match.end() :].strip(), words=match[0].strip(), is_whole=match[0] != "?")
    if "?" in text and _QUESTION.search(text):
        return Doubt(name=" ".join(_QUESTION.sub(" ", text).split()), words="?")
    last = text.rpartition(" ")[2].strip("([.)]").lower()
    if last in _LAST and (match := _AFTER.search(text)):
        return Doubt(name=text[: match.start()].strip(" ,;:"), words=match[1], is_whole=True)
    return None


def cut_misapplied(text: str) -> Doubt | None:
    """Read "Trifolium repens auct. non L.": the name is said to be used for another taxon."""
    match = _AUCT.search(text)
    name = text[: match.start()].strip(" ,(") if match else ""
    return Doubt(name=name, words=match[1].strip("() ")) if match and is_binomial(sentence_case(name)[0]) else None


def says_what_it_is_not(text: str) -> bool:
    """Return whether a label names what an organism is not, or only looks like ("not Pica pica", "Vespa-like")."""
    if match := _NOT.match(text):
        rest = text[match.end() :]
        return bool(rest) and (match[0].strip().lower() in ("not", "never") or _names_a_species(rest))
    if match := _ALIKE.search(text):
        name = text[: match.start()]
        is_genus = is_name_word(name) and name[0].isupper() and match[0].lower().endswith("like")
        return is_genus or is_binomial(name)
    return False


def _names_a_species(text: str) -> bool:
    return any(is_binomial(name) for name in sentence_case(text) if name)
