"""Find the words of a label that say that the organism is not, or not surely, the one named."""

import re
from dataclasses import dataclass

from linnaea.taxonomy.readings import is_binomial, is_name_word, sentence_case

_MARK = r"(?:cf|cfr|conf|c\. ?f|aff|nr|prob|poss)\b\.?"
_WORD = (
    r"(?:maybe|perhaps|possibl[ey]|probabl[ey]|(?:un)?likely|presumabl[ey]|presumed|apparently|suspected|tentative(?:ly)?|"
    r"unsure|uncertain|unconfirmed|unverified|doubtful|questionable|not (?:sure|certain|confirmed|verified)|"
    r"to be (?:confirmed|verified|checked)|tbc|vielleicht|vermutlich|wahrscheinlich|möglicherweise|unsicher|fraglich|"
    r"peut-être|probablement|douteux|incertain|à confirmer|quizás?|posible(?:mente)?|dudos[oa]|probabile|possibile|"
    r"forse|provável|possível|talvez|mogelijk|waarschijnlijk|hybrids?|hyb\.?)"
)
SAID = rf"(?:{_MARK}|{_WORD}|mimics?|look-?alikes?|like)"
"""Words that a label of plain words may have besides a name."""
_BEFORE = re.compile(rf"^(?:\?|(?:{_MARK}|{_WORD}) ?)(?=[^\W\d_])", re.IGNORECASE)
_AFTER = re.compile(
    rf"(?:[ ,;:]+-? ?|(?=[(\[]))[(\[]?((?:id(?:entification)?:? )?(?:{_MARK}|{_WORD})(?: id(?:entification)?)?)[)\]]?$",
    re.IGNORECASE,
)
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
    if _QUESTION.search(text):
        return Doubt(name=" ".join(_QUESTION.sub(" ", text).split()), words="?")
    if match := _AFTER.search(text):
        return Doubt(name=text[: match.start()].strip(" ,;:"), words=match[1], is_whole=True)
    return None


def cut_misapplied(text: str) -> Doubt | None:
    """Read "Trifolium repens auct. non L.": the name is said to be used for another taxon."""
    match = _AUCT.search(text)
    name = text[: match.start()].strip(" ,(") if match else ""
    return Doubt(name=name, words=match[1].strip("() ")) if match and is_binomial(sentence_case(name)[0]) else None


def says_what_it_is_not(text: str) -> bool:
    """Return whether a label tells what an organism is not, or what it looks like ("not Pica pica", "Vespa-like")."""
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
