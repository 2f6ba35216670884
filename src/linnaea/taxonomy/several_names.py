"""Read labels of several taxa, and formulas of hybrids: the taxon is what they share."""

import re
from collections.abc import Sequence
from dataclasses import replace

from linnaea.taxonomy.label_words import AUTHOR_PARTICLES, ENGLISH_NOUNS, looks_latin
from linnaea.taxonomy.readings import LabelReading, Rejection, is_binomial, sentence_case

_AND = r"and|&|or|and ?/ ?or|und|oder|et|ou|y|e|och|og|eller|vs\.?"
_JOIN = re.compile(rf" (?:{_AND}) | ?[/;|] ?", re.IGNORECASE)
_SAME_GENUS = re.compile(r"^(\w[\w-]+) [a-z-]+(?:(?: (?:-|/|or) |/)(?:[A-Z]\. ?)?[a-z-]+)+$")


_INITIALED = re.compile(
    r"^([A-Z][a-z]?\. ?)(?:((?:cfr?|aff|nr|near)\.? ))?([a-zà-ÿ-]{3,})(?P<rest> ?[×/] ?.+| (?:[xX+]|"
    + _AND
    + r") .+)?$"
)


def read_initialed(text: str) -> LabelReading | None:
    """Read "Q. robur × Q. petraea", "Q. robur/petraea" and "Q. cf. robur": only the genus of the first is certain."""
    match = _INITIALED.match(text)
    if match is None or not (match[2] or match["rest"]):
        return None
    doubt = (match[2] or match["rest"]).strip()
    return LabelReading(text=text, scientific="", vernacular=f"{match[1]}{match[3]}", whole=text, doubt=doubt)


def read_several(text: str) -> LabelReading | Rejection | None:
    """Read "Corvus corax/corone" and "Pica pica and Pica hudsonia": the taxon is what they share."""
    if match := _SAME_GENUS.match(text):
        genus, note = match[1].capitalize(), ("names several species",)
        return LabelReading(text=text, scientific=genus, vernacular=text, qualifier="sp.", notes=note)
    if re.fullmatch(r"\S+ (?:or|and|/|&) \S+", text):
        return Rejection(text=text, reason="names several taxa")
    parts = [part.strip() for part in _JOIN.split(text)]
    if len(parts) == 1:
        return _after_comma(text)
    names = _names_together(parts) if all(parts) else ()
    return _together(text, names, f"names several taxa: {', '.join(names)}") if names else None


def _after_comma(text: str) -> LabelReading | None:
    """Read "Pica pica, Corvus corax"; after a comma only a whole name, or one with an initial, is another name."""
    parts = text.split(", ")
    if len(parts) < 2 or not all(is_binomial(part) or _INITIAL.match(part) for part in parts):
        return None
    names = _names_together(parts)
    together = _together(text, names, f"names several taxa: {', '.join(names)}") if names else None
    if together is None or together.scientific or len(parts) > 2:
        return together
    # "Ardea alba, Garza blanca" may be one species and its name in a language.
    first, second = names
    return replace(
        together, scientific=first, other_names=(second,), vernacular=parts[1], whole=text, qualifier="", is_pair=True
    )


_BESIDE = re.compile(
    r"^([A-Z][a-z]{2,} [a-z-]{3,})((?: [(A-Z&][^ ]*| (?:et|ex|in|\d{4}\)?),?)*),?((?: [a-z]+)*)"
    r" ([A-Z][a-z]{2,} [a-z-]{3,})\b"
)


def read_beside(text: str) -> LabelReading | None:
    """Read "Pica pica Pica hudsonia" as two names, and "Lepus europaeus eaten by Vulpes vulpes" as its first."""
    match = _BESIDE.match(text)
    if match is None or not is_binomial(match[4]):
        return None
    first, words, second = match[1], match[3].strip(), match[4]
    if not is_binomial(first) and first.split(" ")[0] != second.split(" ")[0]:
        return None
    if second.split(" ")[1] in ENGLISH_NOUNS | {"filius"}:
        return None
    if " " not in words and first.split(" ")[0] == second.split(" ")[0]:
        return _together(text, (first, second), f"names several taxa: {first}, {second}") if first != second else None
    # "Baobab tree Adansonia digitata" begins with an English name: the first must be looked up.
    return LabelReading(text=text, scientific=second, vernacular=text, title_cased=first, is_pair=True)


def _names_together(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parts, each written out, or nothing if one of them is not a name."""
    first = parts[0]
    uninomials = all(re.fullmatch(r"[A-Z][a-z]{3,}", part) for part in parts)
    if uninomials:
        return tuple(parts)
    if not is_binomial(first):
        return ()
    genus, bare = first.split(" ")[0], first.count(" ") == 1
    names = [" ".join(first.split(" ")[:2])]
    for part in parts[1:]:
        words = part.split(" ")
        if is_binomial(part):
            names.append(" ".join(words[:2]))
        elif (rest := _epithet_after_initial(part, genus)) or (bare and len(words) == 1 and is_epithet(part)):
            names.append(f"{genus} {rest or part}")
        else:
            return ()
    return tuple(names)


_INITIAL = re.compile(r"([A-Z])[a-z]?\. ?([a-zà-ÿ-]{3,})")


def _epithet_after_initial(part: str, genus: str) -> str:
    match = _INITIAL.match(part)
    return match[2] if match and match[1] == genus[0] else ""


def is_epithet(word: str) -> bool:
    return word.islower() and len(word) > 2 and looks_latin(word) and word not in AUTHOR_PARTICLES


def _together(text: str, names: tuple[str, ...], note: str, *, hybrid: bool = False) -> LabelReading:
    genera = {name.split(" ")[0] for name in names}
    genus = genera.pop() if len(genera) == 1 else ""
    return LabelReading(
        text=text,
        scientific=genus,
        vernacular=text,
        qualifier="hybrid" if hybrid else "sp.",
        notes=(note,),
        together=names,
        hybrid=hybrid,
    )


_SIGN = re.compile(r" (?:[x×X+]|crossed with|hybrid with) ")
LONE_SIGN = re.compile(r"^(.+?) [x×]$", re.IGNORECASE)


def read_formula(text: str) -> LabelReading | None:
    """Read the formula of a hybrid; a named hybrid ("Mentha × piperita") is not a formula."""
    parts = [part.strip() for part in _SIGN.split(f" {text.replace('(', '').replace(')', '')} ".strip())]
    parts = [part.removeprefix("× ") for part in parts if part]
    if len(parts) < 2:
        return None
    left, right = sentence_case(parts[0])[0].split(" "), parts[-1].split(" ")
    if not re.fullmatch(r"[A-Z][a-zà-ÿ-]+", left[0]) or not re.fullmatch(r"[^\W\d_][\w'-]*\.?", right[0]):
        return None
    has_epithet = len(left) > 1 and bool(re.fullmatch(r"[a-zà-ÿ-]{3,}", left[1]))
    if not has_epithet and len(parts) == 2:
        two_genera = re.search(r" [×+] ", text) and re.fullmatch(r"[A-Z][a-z]{2,}", right[0])
        if not two_genera or (len(left) > 1 and not re.search(r"[.\d]", left[1])):
            return None
    if has_epithet and not looks_latin(left[1]) and not looks_latin(right[-1]):
        return None
    first = f"{left[0]} {left[1]}" if has_epithet else left[0]
    second = _second_parent(left[0], right, lower=parts[0][:1].islower())
    return _together(text, (first, second), f"a hybrid of {first} and {second}", hybrid=True)


def _second_parent(genus: str, words: Sequence[str], *, lower: bool) -> str:
    initial = re.fullmatch(r"([A-Z])[a-z]?\.", words[0])
    if len(words) > 1 and (words[0].lower() == genus.lower() or (initial and initial[1] == genus[0])):
        return f"{genus} {words[1].lower()}"
    if words[0][:1].isupper():
        return " ".join(words[:2]) if len(words) > 1 and words[1].islower() else words[0]
    if lower and len(words) == 2 and looks_latin(words[1]):
        return f"{words[0].capitalize()} {words[1]}"
    return f"{genus} {words[0]}"
