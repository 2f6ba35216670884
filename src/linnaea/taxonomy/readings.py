"""Clean a raw label, and write it with the capitals of a scientific name. Needs neither a parser nor a checklist."""

import html
import re
import unicodedata
from dataclasses import dataclass

from linnaea.taxonomy.label_words import (
    AUTHOR_PARTICLES,
    AUTHOR_WORDS,
    ENGLISH_NOUNS,
    looks_latin,
    spell_number,
)

MAX_LENGTH = 400
"""Characters of a label that are read; longer texts are not labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A label that does not name a taxon, with the reason."""

    text: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelReading:
    """A tidied label, before it is parsed."""

    text: str
    scientific: str
    """The part that the parser reads; ``""`` if there is none."""
    vernacular: str
    whole: str = ""
    """The whole label, which may be a vernacular name, if ``vernacular`` is a part of it."""
    title_cased: str = ""
    """The binomial that the label is if the capital of its second word means nothing ("Acer Glabrum")."""
    other_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    qualifier: str = ""
    """A mark after which only the genus is certain."""
    doubt: str = ""
    """The words that say that the taxon is not, or not surely, the one named: "auct. non L.", "?"."""
    is_pair: bool = False
    """True if the label gives a scientific name and a vernacular name."""
    ancestors: tuple[str, ...] = ()
    """The names above the taxon in the label, the lowest first."""
    ranks: tuple[str, ...] = ()
    """The seven ranks, if the label says which name has which rank."""
    together: tuple[str, ...] = ()
    """The names of several taxa, or of the parents of a hybrid; the label is what they share."""
    hybrid: bool = False
    doubted: tuple[str, ...] = ()
    """The species of an open name ("Arenaria cf. interpres"), which tells homonymous genera apart."""


PLACEHOLDER = re.compile(
    r"(?:\(?(?:un|not |non |in)[ _-]?(?:identified|identifiable|known|classified|determined|assigned|named|sorted|sure|"
    r"defined)\)?(?: (?:species|taxon|sp\.?))?|n/?a|none|null|nil|nan|tbd|misc(?:ellaneous)?|others?|please ?help|"
    r"no ?id|no name|incertae sedis|indet(?:erminata|erminate|\.)?|unknowns?|uncertain|"
    r"spp?\.?(?: ?\d+)?|species|[\W\d_]+|not[ _]classified|"
    # Excel's errors, and other languages
    r"#(?:n/?a|null!?|ref!|value!|name\?|div/0!)|sin (?:identificar|determinar)|n[aã]?o identificad[oa]|desconocid[oa]|"
    r"desconhecid[oa]|unbestimmt|unbekannt|non (?:identifi[eé]e?|determinat[oa]|identificat[oa])|ind[eé]termin[eé]e?|"
    r"onbekend|"
    # the classes of camera-trap exports that are not taxa
    r"blank|empty|animal|no[ _]?animals?|no[ _]cv[ _]result|cv[ _](?:needed|failed)|misfire|false[ _]trigger|"
    r"nothing[ _]?here|setup[ _/]?pickup|time[ _-]?lapse)",
    re.IGNORECASE,
)
"""The null words: labels and cells that stand for no taxon. Every reader of names uses this rule."""
_SPLIT_CAMEL = re.compile(r"(?<=[a-zà-ÿ])(?=[A-Z×])|(?<=[A-Z×])(?=[A-Z][a-z])")
_CAMEL = re.compile(r"[A-Z][a-zà-ÿ]+(?:[X×]?[A-Z][a-zà-ÿ-]+)+\d*")
_TAGS = re.compile(r"<(?:br|p|hr)\b[^>]*>.*$|</?[a-zA-Z][^<>]*>", re.DOTALL | re.IGNORECASE)
_LETTERS = str.maketrans(
    {"’": "'", "‘": "'", "`": "'", "´": "'", "ʼ": "'", "“": '"', "”": '"', "–": "-", "—": "-", "‐": "-", "‑": "-"}
    | {"✕": "×", "✖": "×", "⨯": "×", "╳": "×", "ſ": "s", "ﬁ": "fi", "ﬂ": "fl", "†": " ", "‡": " ", "；": ";", "｜": "|"}
)
_HYPHEN_BINOMIAL = re.compile(r"^([A-Z][a-z]{3,})-([a-z]{3,})(?= [A-Z]|$)")


def tidy(text: str) -> str:
    """Return a text without encoding errors, markup, odd quotes and stray white space.

    Errors can be nested ("&amp;lt;", mojibake of mojibake), so the cleaning repeats until nothing changes.
    """
    before, text = None, text[: 4 * MAX_LENGTH]
    while text != before:  # every step except the first shortens the text
        before, text = text, _tidy_once(text)
    return text


def _tidy_once(text: str) -> str:
    if not text.isascii():  # restores UTF-8 that was read as Latin-1 or Windows-1252 ("GuÃ©rin")
        from ftfy import fix_encoding

        text = fix_encoding(text)
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAGS.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_LETTERS)
        text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(text.split())[:MAX_LENGTH].strip()


def split_words(text: str) -> str:
    """Put blanks between the words: for underscores, CamelCase and hyphens; class and picture numbers are dropped."""
    if text[:1].isdigit():
        text = re.sub(r"^(?:\d+ ?[x×] |\d+[._ -]+)+(?=\D)", "", text)
    text = " ".join(text.replace("_", " ").strip(" ,;:-*#").split())
    if text[:1] in ("(", "[", "{"):
        text = re.sub(r"^.([^()\[\]{}]+)[)\]}]$", r"\1", text)
    if " nothosp" in text:
        text = re.sub(r" nothosp(?:\.|ecies) ?(?=[a-z])", " × ", text)
    if " " not in text and _DOTTED.fullmatch(text):  # R's names of columns
        text = re.sub(r"[.,:]", " ", text)
    if _CAMEL.fullmatch(text) and not re.match(r"(?:Mac|Mc|De|Le|La)[A-Z][a-z]+$", text):
        text = _SPLIT_CAMEL.sub(" ", text)
    elif " " not in text and "-" in text and not _is_hyphenated_genus(text):
        text = text.replace("-", " ")
    if text[-1:] == ")":
        text = re.sub(r" ?\(\d{1,3}\)$", "", text)
    if text[-1:].isdigit() and not _NUMBERED.search(text):
        text = re.sub(r"(?<=[^\W\d_]{2})(?: (?:[x×] ?)?\d{1,3})+$", "", text)
    if text[-1:].isdigit() and "virus" not in text:
        text = re.sub(r"(?<=[^\W\d_]{3})\d{1,3}$", "", text)
    text = _CAPITAL_WITHIN.sub(" ", text)
    match = _HYPHEN_BINOMIAL.match(text)
    if match and looks_latin(match[2]) and not _is_hyphenated_genus(match[0]):
        text = f"{match[1]} {match[2]}{text[match.end() :]}"
    return " ".join(_space_signs(text).split())


def _space_signs(text: str) -> str:
    """Put a blank behind a hybrid sign, and in place of the hyphen of "robur-group"."""
    if "-" in text:
        text = re.sub(r"(?<=[a-z]{3})-(?=(?:group|complex|agg|aggregate|gr)\b)", " ", text)
    if "×" in text:
        text = re.sub(r"×(?=\w)", "× ", text)
    return re.sub(r"^[xX](?=[A-Z][a-z]{3})", "× ", text) if text[:1] in ("x", "X") else text


_CAPITAL_WITHIN = re.compile(r"(?<=[a-z]{4})(?=[A-Z][a-z]{2})")
_DOTTED = re.compile(r"[A-Za-z][a-z]{2,}(?:[.,:](?!(?:jpe?g|png|tiff?|gif|bmp|webp|hei[cf])$)[a-z]{3,}){1,2}")
_NUMBERED = re.compile(r"virus|\b(?:spp?|spec|species|cf|aff|nr|type|strain|clade|group|clone|serovar|isolate)\b")
"""Words that a number belongs to ("Myotis sp. 1")."""


def _is_hyphenated_genus(word: str) -> bool:
    """Return whether a hyphen belongs to a genus ("Saxo-fridericia", ICN article 20.3) and does not replace a blank."""
    if "'" in word or any(c.isdigit() for c in word):
        return True
    first, *rest = word.lower().split("-")
    return word[:1].isupper() and (len(first) < 4 or any(part.endswith("o") for part in (first, *rest[:-1])))


def sentence_case(text: str) -> tuple[str, str]:
    """Write a label with the capitals of a scientific name.

    Returns:
        The label, in which a capitalised second word is that of an author; and the binomial that it is if the capital
        means nothing, ``""`` without such a capital.
    """
    if text.startswith("× "):
        cased, title_cased = sentence_case(text[2:])
        return f"× {cased}", title_cased and f"× {title_cased}"
    words = text.split(" ")
    letters = [c for c in text if c.isalpha()]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        words = [word.lower() for word in words]
    words[0] = words[0][:1].upper() + words[0][1:]
    at = 2 if len(words) > 2 and words[1] in ("x", "X", "×") else 1
    if at == 2 and words[1] == "X":
        words[1] = "x"
    if len(words) <= at or not _is_capitalised(words[at]):
        return " ".join(_spell_numbers(words)), ""
    epithet = words[at].lower()
    binomial = " ".join([*words[:at], epithet])
    if _is_author(words, at):
        return " ".join(words), binomial if epithet not in AUTHOR_WORDS else ""
    if epithet in ENGLISH_NOUNS or not looks_latin(epithet):
        return " ".join(words), binomial
    while at < min(len(words), 4) and _is_capitalised(words[at]):
        if words[at].lower() in AUTHOR_WORDS or not looks_latin(words[at]):
            break
        words[at] = words[at].lower()
        at += 1
    return " ".join(words), binomial


def _spell_numbers(words: list[str]) -> list[str]:
    return [spell_number(word) if 0 < at < 4 and word[:1].isdigit() else word for at, word in enumerate(words)]


def _is_capitalised(word: str) -> bool:
    return word[:1].isupper() and word[1:].islower() and word.replace("-", "").isalpha() and len(word) > 2


_HIGHER = re.compile(r"[A-Z][a-z]+(?:idae|aceae|oidea|formes|ales|ptera|mycetes|mycota|phyta|opsida)")
_AUTHOR_GOES_ON = re.compile(r",? ?(?:\(?\[?\d{4}|&|et |and |ex |in |\[)|, [A-Z]|f\.|fil")


def _is_author(words: list[str], at: int) -> bool:
    """Return whether a capitalised word after the first is an author ("Felis Linnaeus", "Corvidae Leach 1820")."""
    if words[at].lower() in AUTHOR_WORDS or _HIGHER.fullmatch(words[0]):
        return True
    rest = " ".join(words[at + 1 :])
    if words[at].lower() in ENGLISH_NOUNS:
        return False
    goes_on = bool(_AUTHOR_GOES_ON.match(rest))
    return goes_on or (not looks_latin(words[at]) and bool(re.search(r"\b\d{4}\b|&|\bet\b", rest)))


def is_name_word(word: str) -> bool:
    """Return whether a word consists of letters and is long enough to be a genus."""
    return len(word) > 1 and word.replace("-", "").isalpha()


_EPITHET = re.compile(r"[a-zà-ÿ][a-zà-ÿœ'-]{2,}")


def is_binomial(text: str) -> bool:
    """Return whether a text begins like a binomial with the capitals of one: "Pica pica", "Rosa canina L."."""
    words = [word for word in text.split(" ") if word not in ("x", "×")]
    if len(words) < 2 or not re.fullmatch(r"[A-Z][a-zà-ÿ]+(?:-[a-z]+)?", words[0]) or len(words[0]) < 3:
        return False
    epithet = words[1].rstrip(",")
    is_latin = looks_latin(epithet) or epithet == words[0].lower()  # "Lynx lynx"
    return bool(_EPITHET.fullmatch(epithet)) and epithet not in AUTHOR_PARTICLES and is_latin
