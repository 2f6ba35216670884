"""Read a label by its form: one name, a pair of names, several names, a lineage, a hybrid formula, a host, a doubt."""

import re
from collections.abc import Callable
from dataclasses import replace

from linnaea.taxonomy.doubts import SAID, cut_doubt, cut_misapplied, says_what_it_is_not
from linnaea.taxonomy.label_words import AUTHOR_WORDS, ENGLISH_NOUNS, STAGES, binomial_of_words, looks_latin
from linnaea.taxonomy.lineage_cells import read_lineage
from linnaea.taxonomy.readings import (
    PLACEHOLDER,
    LabelReading,
    Rejection,
    is_binomial,
    is_name_word,
    sentence_case,
    split_words,
    tidy,
)
from linnaea.taxonomy.several_names import (
    LONE_SIGN,
    is_epithet,
    read_beside,
    read_formula,
    read_initialed,
    read_several,
)

_IDENTIFIER = re.compile(r"(?:BOLD[: ][A-Z]{3}\d+|SH\d+\.\d+FU|OTU[ _-]?\d+|[A-Z]{1,4}\d{4,}|\d+)", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Z][a-z]{2,} ([a-z]{3,})(?: [a-z]{3,})?")
_FORM_WORDS = re.compile(
    r"\b(?:from|with|near|not|and|spec|species|indet|group|agg|complex|non|nec|sensu|auct|spp|var|ssp|subsp|"
    r"gen|nov|aggr|ined|visiting|inside|under|virus|phage|viroid|on|unknown|unidentified|undetermined|forma|"
    rf"subspecies|convar|cultivar|misapplied|incertae|family|order|{SAID}|{STAGES})\b"
)


def read_label(label: str) -> LabelReading | Rejection:
    """Return the likeliest reading of a label, or the reason why it names nothing."""
    if _PLAIN.fullmatch(label) and not _FORM_WORDS.search(label):  # most labels, at a fifth of the time
        return LabelReading(text=label, scientific=label, vernacular=label)
    text = tidy(label)
    if not text:
        return Rejection(text=text, reason="the label is empty")
    cells = read_lineage(text)
    if isinstance(cells, LabelReading):
        return _open_lineage(cells)
    return cells or _underscored_pair(text) or _read_words(split_words(_first_field(text)))


def _open_lineage(cells: LabelReading) -> LabelReading:
    """Read the deepest name of a lineage as a label, where it is a formula, in doubt, or several names."""
    deepest = _read_text(cells.scientific)
    if isinstance(deepest, Rejection) or not (deepest.qualifier or deepest.doubt or deepest.together):
        return cells
    return replace(deepest, text=cells.text, ancestors=cells.ancestors, ranks=cells.ranks)


def _read_words(text: str) -> LabelReading | Rejection:
    if not text or PLACEHOLDER.fullmatch(text):
        return Rejection(text=text, reason="a placeholder for an unknown name")
    if _IDENTIFIER.fullmatch(text):
        return Rejection(text=text, reason="an identifier, not a name")
    return _read_text(text)


def _read_text(text: str) -> LabelReading | Rejection:
    text = _PARENTS.sub(r"\1", _STAGE_AFTER.sub(r"\1", _RANK_AFTER.sub(r"\1\2", _RANK_BEFORE.sub("", text))))
    if binomial_of_words(text) is not None:
        return LabelReading(text=text, scientific=text, vernacular="")
    for read in _READERS:
        if (reading := read(text)) is not None:
            return reading
    return _plain(text)


_RANK = (
    "(?:sub|super)?(?:kingdom|phylum|class|order|family|tribe|genus)|species|ordnung|familie|gattung|ordre|famille|genre|"
    "orden|familia|género|ordem|família|ordine|famiglia|genere"
)
_RANK_BEFORE = re.compile(
    rf"^(?:(?:{_RANK})(?: |: ?|=)|(?:ord|(?:sub)?fam|trib|gen)[.:] ?)(?=[A-Z][a-z]{{2}})", re.IGNORECASE
)
_RANK_AFTER = re.compile(
    rf"^(\S+(?: [a-z-]+)?) [(\[](?:{_RANK})[)\]]$|^(\S+(?:idae|ales|aceae)) (?:{_RANK})$", re.IGNORECASE
)
_PARENTS = re.compile(r"(?<= [x×] )([a-z-]{3,}[^()]*) \([^()]* [x×] [^()]*\)$")
"""The formula behind a named hybrid: "Mentha × piperita (M. aquatica × M. spicata)"."""
_STAGE_AFTER = re.compile(rf"^([A-Z][a-z]+(?:a|ae|us|um|is|es|os|i)(?: [a-z-]+)?),? (?:{STAGES})$")
"""A life stage or a sex after a name: "Carabidae larvae", "Pica pica female"."""


def _first_field(text: str) -> str:
    """Return the first of the fields of a class folder ("Tomato___Late_blight")."""
    fields = re.split(r"_{2,}", text)
    if len(fields) < 2 or len(fields[0]) < 3:
        return text
    joined = f"{fields[0]} {fields[1]}"
    return joined if "___" not in text and is_binomial(joined) and " " not in fields[0] else fields[0]


# A scientific and a vernacular name.


def _underscored_pair(text: str) -> LabelReading | None:
    """Read "Turdus merula_Merle noir": a scientific name and a name in any language, cut at the one underscore.

    BirdNET's lists are written so; a sound that is not a species has one name twice ("Dog_Dog").
    """
    match = re.fullmatch(r"([^_]+)_([^_]+)", text)
    if match is None:
        return None
    left, right = match[1].strip(), match[2].strip()
    if left == right and left.split(" ")[-1][1:].islower() and left[:1].isupper():
        return LabelReading(text=left, scientific="" if " " in left else left, vernacular=left)
    if " " not in text or PLACEHOLDER.fullmatch(right):
        return None
    if is_binomial(left) and " " in left and not (right.islower() and looks_latin(right)):
        return LabelReading(text=f"{left} {right}", scientific=left, vernacular=right, is_pair=True)
    if is_binomial(right):
        return LabelReading(text=f"{left} {right}", scientific=right, vernacular=left, is_pair=True)
    return None


_OPEN_NAME = re.compile(r"[A-Z][a-z]{2,}(?: .*[x×].*| (?:spp?|cf|aff|agg)\b.*| [×x] .*)|[A-Z]\. ?[a-z-]{3,}")


def _in_last_brackets(text: str) -> LabelReading | Rejection | None:
    """Read "Oak (Quercus robur × Q. petraea)" and "Thrushes (Turdus spp.)": the brackets hold no plain name."""
    match = _BRACKETED.match(text)
    if match is None or not _OPEN_NAME.fullmatch(match[2]) or _binomial_of(match[1]):
        return None
    reading = _read_text(match[2])
    return reading if isinstance(reading, Rejection) else replace(reading, whole=match[1])


_BRACKETED = re.compile(r"^([^()\[\]]+?) ?(?:\([^()]*\) )?[(\[]([^()\[\]]+(?:\([^()]*\)[^()]*)?)[)\]]$")
_SEPARATED = re.compile(r"^([^,;]+?)(?:, | (?:-|=|\|) |: |(?P<slash> ?/ ?))(?P<right>[^,;]+)$")


def _pair(text: str) -> LabelReading | None:
    """Read a scientific and a vernacular name: one in brackets, or both apart by a comma or a dash."""
    match = _BRACKETED.match(text)
    if match is not None and not (_is_remark(match[2]) and _SEPARATED.match(match[1])):
        return _in_brackets(text, match[1].strip(" ,"), match[2].strip())
    if (match := _SEPARATED.match(text)) is None:
        return None
    left, right = match[1].strip(), match["right"].strip()
    named = (is_binomial(left), is_binomial(right))
    if match["slash"] and not any(part.rsplit(" ", 1)[-1].lower() in ENGLISH_NOUNS for part in (left, right)):
        return None
    if named == (True, False) and not _is_remark(right):
        return LabelReading(text=text, scientific=left, vernacular=right, whole=text, is_pair=True)
    if named == (False, True):
        others = (other,) if (other := _binomial_of(left)) else ()
        return LabelReading(text=text, scientific=right, vernacular=left, whole=text, other_names=others, is_pair=True)
    return None


def _is_remark(text: str) -> bool:
    """Return whether the second part of a label is an author, a year or an epithet, and no vernacular name."""
    one_word = " " not in text and text.lower() in AUTHOR_WORDS
    one_word = one_word or _SEX_WORDS.issuperset(text.lower().split())
    return one_word or bool(re.search(r"[.&\d]", text)) or (" " not in text and text.islower() and looks_latin(text))


def _in_brackets(text: str, outer: str, inner: str) -> LabelReading | None:
    if not any(c.isalnum() for c in inner):
        return None
    named, inside = _binomial_of(outer), _binomial_of(inner)
    certain = is_binomial(outer)
    spoken = outer.rsplit(" ", maxsplit=1)[-1].lower() in ENGLISH_NOUNS
    if inside and certain and is_binomial(inner) and not spoken:
        # "Triangle cactus (Acanthocereus tetragonus)", or an organism and its host: the first must be looked up.
        return LabelReading(text=text, scientific=inner, vernacular=outer, title_cased=named, is_pair=True)
    if inside and (spoken or not (named and certain)):
        others = (named,) if named and not spoken else ()
        note = ("scientific name in brackets",)
        return LabelReading(
            text=text, scientific=inside, vernacular=outer, other_names=others, notes=note, is_pair=True
        )
    if not named:
        return _vernacular_in_front(text, outer, inner)
    is_spoken = " " in inner or inner[:1].islower() or outer != named or certain
    if _is_remark(inner) or inner.lower() in AUTHOR_WORDS or not is_spoken:
        return None
    odd = _ODD_BINOMIAL.fullmatch(inner)
    return LabelReading(
        text=text,
        scientific=named,
        vernacular=inner,
        whole="" if certain or odd else outer,
        other_names=(inner,) if odd and not certain else (),
        notes=("vernacular name in brackets",),
        is_pair=True,
    )


_ODD_BINOMIAL = re.compile(r"[A-Z][a-z]{2,} [a-z-]{3,}(?: [a-z-]{3,})?")
"""An epithet of unusual form, or a remark."""


def _vernacular_in_front(text: str, outer: str, inner: str) -> LabelReading | None:
    """Read "Les Syrittes (Syritta)": the brackets may hold a genus, or a remark ("Juvenile")."""
    scientific = sentence_case(outer)[0]
    if _ODD_BINOMIAL.fullmatch(inner):
        return LabelReading(text=text, scientific=scientific, vernacular=outer, other_names=(inner,), is_pair=True)
    if re.fullmatch(r"[A-Z][a-z]{3,}", inner) and inner.lower() not in AUTHOR_WORDS:
        if " " in outer:
            return LabelReading(text=text, scientific=scientific, vernacular=outer, other_names=(inner,), is_pair=True)
        return LabelReading(text=text, scientific=text, vernacular=outer, other_names=(inner,))
    if " " in outer and not re.search(r"\d{4}", inner):
        return LabelReading(text=text, scientific=scientific, vernacular=outer, notes=(f"without ({inner})",))
    return None


def _binomial_of(text: str) -> str:
    """Return a text as a scientific name if its second word looks like an epithet, whatever its capitals; else ""."""
    cased, title_cased = sentence_case(text)
    for name in (cased, title_cased):
        if name and is_binomial(name):
            return name
    return ""


# Hosts and doubts.

_STAGE = re.compile(rf"{STAGES}|(?:leaf[ -]?)?mines?|damage|signs?|remains", re.IGNORECASE)
_HOST = re.compile(
    r"^(.+?),? (on|from|ex\.?|of|in|at|under|with|inside|near|off|visiting|feeding on|eating|parasiti[sz]ing|infecting|"
    r"attacking|host:?|sur|auf|aus|bei|an|chez|sobre|sur) (.+)$"
)


def _hosted(text: str) -> LabelReading | Rejection | None:
    """Read "Syrphidae on Achillea millefolium": the organism is named first, its host or substrate after it."""
    match = _HOST.match(text)
    if match is None:
        return None
    organism, joint, rest = match[1].strip(" ,;"), match[2], match[3]
    words = rest.split(" ")
    host = is_binomial(rest) and words[1] not in ("and", "von", "des")
    lower_host = len(words) > 1 and words[0].islower() and all(is_epithet(word) for word in words[:2])
    named = _HIGHER_NAME.fullmatch(organism) or is_binomial(organism)
    if joint == "of" and _STAGE.fullmatch(organism):
        return _read_text(rest) if host else None
    needs_host = joint in ("of", "in", "ex", "ex.", "an", "at") or not named
    if needs_host and not host and not (lower_host and joint not in ("of", "in")):
        return None
    reading = _read_text(organism)
    if isinstance(reading, Rejection):
        return reading
    notes = (*reading.notes, f"{joint} {rest}")
    return replace(reading, whole=text, other_names=(), notes=notes)


_HIGHER_NAME = re.compile(r"[A-Z][a-z]{3,}(?:a|ae|us|um|is|on|es|os|i)")


def _negated(text: str) -> Rejection | None:
    if not says_what_it_is_not(text):
        return None
    return Rejection(text=text, reason="says what the organism is not, or what it looks like")


def _misapplied(text: str) -> LabelReading | None:
    misapplied = cut_misapplied(text)
    reading = _plain(misapplied.name) if misapplied else None
    if misapplied is None or not isinstance(reading, LabelReading):
        return None
    scientific = sentence_case(text)[0]
    return replace(reading, text=text, scientific=scientific, doubt=misapplied.words, other_names=(), notes=())


def _doubted(text: str) -> LabelReading | Rejection | None:
    found = cut_doubt(text)
    if found is None:
        return None
    if not any(c.isalpha() for c in found.name):
        return Rejection(text=text, reason="a placeholder for an unknown name")
    reading = _read_text(found.name)
    if isinstance(reading, Rejection) or reading.qualifier:
        return reading
    whole = text if found.is_whole and not is_binomial(found.name) else ""
    return replace(reading, text=text, doubt=found.words, whole=whole)


# One name.

_QUALIFIER = re.compile(
    r"^(\S+)((?: [a-zà-ÿ-]{3,})?) [(\[]?((?:cfr?|conf|c\. ?f|aff|nr|near|prob|probably|poss|possibly|spp?|spec|species|"
    r"morphosp|morphospecies|msp|n\. ?sp|nov|indet|undet|gen|(?:ex\.? )?gr|grp|group|hybrids?|x hybrid|complex|"
    r"superspecies|sect|section|ssp|subsp|subspecies|var|bacterium|clade|unidentified|unknown|undetermined|"
    r"indeterminata|incertae sedis|inc(?:ert)?\. ?sed|ined|agg|aggr|aggregate)\b\.?)[)\]]?,? ?(.*)$",
    re.IGNORECASE,
)
_TAIL_WORDS = frozenset(
    [
        *("sp", "spp", "spec", "species", "indet", "undet", "unidentified", "unknown", "undetermined", "indeterminata"),
        *("ined", "gen", "ssp", "subsp", "subspecies", "var"),
    ]
)
_GENUS_WORDS = frozenset(
    [
        *("cf", "cfr", "conf", "c.f", "c. f", "aff", "nr", "near", "prob", "probably", "poss", "possibly"),
        *("sp", "spp", "spec", "species", "morphosp", "morphospecies", "msp", "nov", "indet", "undet", "gen"),
        *("gr", "ex gr", "ex. gr", "grp", "incertae sedis", "inc. sed"),
        *("group", "hybrid", "hybrids", "complex", "superspecies", "bacterium", "unidentified", "unknown"),
        *("undetermined", "indeterminata", "ined", "x hybrid", "n. sp", "n.sp", "incert. sed"),
    ]
)


def _plain(text: str) -> LabelReading | Rejection:
    text = _SENSE.sub("", text)
    cased, title_cased = sentence_case(text)
    quoted = re.sub(r' "([A-Z][^"]*)"$', r" '\1'", cased)  # a cultivar
    scientific = _STRAIN.sub("", _GREEK.sub(" ", _without_codes(quoted.replace('"', ""))))
    if (match := _UNKNOWN.match(cased)) and is_name_word(match[1]):
        return _genus_of(text, match[1], "sp", "")
    if match := LONE_SIGN.match(cased):
        return _genus_of(text, match[1], "hybrid", "")
    if (match := _QUALIFIER.match(scientific)) and (qualified := _qualified(text, match)) is not None:
        return qualified
    if re.search(r"\bcv\.? ?[A-Z']", scientific):  # a cultivar
        scientific = re.sub(r"\bcv\.? ?'?([A-Z][^']*)'?$", r"'\1'", scientific)
    others = () if _VIRUS.search(text) else tuple(_names_inside(text, scientific))
    words = text.lower().split(" ")
    spoken = _SEX.sub("", text) if not _SEX_WORDS.isdisjoint(word.strip("(,.)[]") for word in words) else text
    return LabelReading(
        text=text,
        scientific=scientific,
        vernacular=spoken,
        whole="" if spoken == text else text,
        title_cased=title_cased,
        other_names=others,
    )


_SEX_WORDS = {"adult", "subadult", "juvenile", "juv", "immature", "imm", "male", "female"}
_SEX_WORDS |= {f"{word}s" for word in _SEX_WORDS}
_SEX = re.compile(
    rf"^(?:(?:{'|'.join(_SEX_WORDS)})\.? )+(?=\w)|(?:[ ,(\[]+(?:and )?(?:{'|'.join(_SEX_WORDS)})\b\.?[)\]]?)+$",
    re.IGNORECASE,
)
"""Ages and sexes beside a vernacular name: "House Sparrow, male"."""


_UNKNOWN = re.compile(
    r"^\[?(?:unidentified|unknown|undetermined|unclassified|unassigned|uncultured|indet\.?|undet\.?)\]? ([A-Z][a-z]+)"
    r"(?: (?:sp|spp|species)\.?)?$",
    re.IGNORECASE,
)
_STRAIN = re.compile(
    r" (?:(?:serovar|serotype|str\.|strain|biovar|phagovar|clade|isolate) |\(s\. ?(?:s|str)\.\)|-(?=[a-z])).*$"
)
_SENSE = re.compile(r" (?:s\. ?(?:s|l|str|lat)\.|sensu (?:lato|stricto|lat\.|str\.))$")
_GREEK = re.compile(r" [α-ω](?:\.? |(?=[a-z]))")
_VIRUS = re.compile(r"\b(?:virus|viroid|phage|NPV|virion|satellite|plasmid|prion)\b|viridae\b", re.IGNORECASE)


def _qualified(text: str, match: re.Match[str]) -> LabelReading | Rejection | None:
    """Read a mark of an open name ("Larus sp.", "Pica cf. hudsonia", "Pica pica indet.", "Chironomus gr. plumosus")."""
    genus, epithet, mark, rest = match[1], match[2].strip(), match[3].lower().rstrip("."), match[4]
    if not is_name_word(genus):
        return Rejection(text=text, reason="no genus before its qualifier") if mark in _GENUS_WORDS else None
    if epithet in _TAIL_WORDS | _GENUS_WORDS:
        return _genus_of(text, genus, epithet, f"{mark} {rest}".strip())
    if not epithet:
        return _genus_of(text, genus, mark, rest) if mark in _GENUS_WORDS else None
    if mark in ("group", "grp", "gr", "complex", "superspecies", "hybrid", "hybrids") and looks_latin(epithet):
        return _genus_of(text, genus, mark, epithet)
    below = re.match(r"([a-z]{3,})\b", rest)
    is_tail = mark in ("cf", "aff", "nr", "near") or (mark in _TAIL_WORDS and (not below or below[1] in _TAIL_WORDS))
    if not is_tail or not looks_latin(epithet):
        return None
    return LabelReading(text=text, scientific=f"{genus} {epithet}", vernacular=text, notes=(f"{mark}. {rest}".strip(),))


def _genus_of(text: str, name: str, mark: str, rest: str) -> LabelReading | Rejection:
    genus = name.split(" ", maxsplit=1)[0]
    if not is_name_word(genus):
        return Rejection(text=text, reason="no genus before its qualifier")
    note = " ".join(part for part in (f"{mark}." if mark != "hybrid" else mark, rest) if part)
    species = re.sub(r"^(?:(?:cf|aff|nr|near|ex|gr|sp)\.? |[A-Z]\. )+", "", rest).split(" ", maxsplit=1)[0]
    named = (f"{genus.capitalize()} {species}",) if is_epithet(species) else ()
    return LabelReading(
        text=text, scientific=genus.capitalize(), vernacular=text, qualifier=f"{mark}.", notes=(note,), doubted=named
    )


def _without_codes(text: str) -> str:
    """Cut a binomial before the first word with digits ("Abies alba 2small"), unless there is a year."""
    words = text.split(" ")
    if any(re.search(r"\d{4}|\d{3}\?", word) for word in words) or re.search(r"\b(?:sp|spp|cf|aff|nr)\b", text):
        return text
    at = next((at for at, word in enumerate(words) if any(c.isdigit() for c in word)), len(words))
    return " ".join(words[:at]) if at >= 2 else text


def _names_inside(text: str, scientific: str) -> list[str]:
    """Return binomials further inside the label: "Baobab tree Adansonia digitata"."""
    words = text.split(" ")
    found = []
    for at in range(1, len(words) - 1):
        genus, epithet = words[at], words[at + 1]
        if genus[:1].isupper() and genus.isalpha() and len(genus) > 2 and is_epithet(epithet):
            found.append(f"{genus} {epithet}")
    found += re.findall(r"[(\[]([A-Z][a-z]{2,} [a-z-]{3,})[^()]*[)\]] \w", text)
    return [name for name in found if name != scientific]


_READERS: tuple[Callable[[str], LabelReading | Rejection | None], ...] = (
    *(_negated, _doubted, _in_last_brackets, read_initialed, read_formula, _misapplied, _pair, read_several, _hosted),
    read_beside,
)
"""The forms of labels, in the order in which they are tried; a label of none of them is one name."""
