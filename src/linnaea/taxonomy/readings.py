"""Clean a raw label and find its possible readings, before it is parsed."""

import html
import re
import unicodedata
from dataclasses import dataclass

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
    vernacular: str
    other_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    qualifier: str = ""


PLACEHOLDER = re.compile(
    r"(?:\(?(?:un|not |non |in)[ _-]?(?:identified|identifiable|known|classified|determined|assigned|named|sorted|sure|"
    r"defined)\)?(?: (?:species|taxon|sp\.?))?|n/?a|none|null|nil|nan|tbd|misc(?:ellaneous)?|others?|please ?help|"
    r"no ?id|no name|incertae sedis|indet(?:erminata|erminate|\.)?|unknowns?|uncertain|"
    r"spp?\.?(?: ?\d+)?|species|[\W\d_]+|not[ _]classified|"
    # the classes of camera-trap exports that are not taxa
    r"blank|empty|animal|no[ _]?animals?|no[ _]cv[ _]result|cv[ _](?:needed|failed)|misfire|false[ _]trigger|"
    r"nothing[ _]?here|setup[ _/]?pickup|time[ _-]?lapse)",
    re.IGNORECASE,
)
"""The null words: labels and cells that stand for no taxon. Every reader of names uses this rule."""
_IDENTIFIER = re.compile(r"(?:BOLD[: ][A-Z]{3}\d+|SH\d+\.\d+FU|OTU[ _-]?\d+|[A-Z]{1,4}\d{4,}|\d+)", re.IGNORECASE)
_SPLIT_CAMEL = re.compile(r"(?<=[a-zà-ÿ])(?=[A-Z×])|(?<=[A-Z×])(?=[A-Z][a-z])")
_CAMEL = re.compile(r"[A-Z][a-zà-ÿ]+(?:[X×]?[A-Z][a-zà-ÿ-]+)+\d*")
_TAGS = re.compile(r"<(?:br|p|hr)\b[^>]*>.*$|</?[a-zA-Z][^<>]*>", re.DOTALL | re.IGNORECASE)
_QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "–": "-", "—": "-", "‐": "-"})
_HYPHEN_BINOMIAL = re.compile(r"^([A-Z][a-z]{2,})-([a-z]{3,})(?= [A-Z]|$)")
_SEVERAL = re.compile(r"^(\w[\w-]+) [a-z-]+(?:(?: (?:-|/|or) |/)(?:[A-Z]\. ?)?[a-z-]+)+$")
_QUALIFIED = re.compile(
    r"^(\S+) (cf|aff|nr|near|sp|spp|spec|species|ssp|indet|gen|hybrids?|x hybrid)\b\.?,? ?(.*)$", re.IGNORECASE
)
_TAXON_IN_BRACKETS = re.compile(r"^([^()]+?) ?(?:\([^()]*\) )?\(([^()]+)\)$")
_SCIENTIFIC = re.compile(r"[A-Z][a-zë-]{2,}(?: [×x])? [a-z][a-zë-]{2,}(?: .*)?")
_LATIN = re.compile(
    r"[a-zëïöü-]*(?:[^s]us|um|a|ae|is|[aeio]ns|ii?|ense|ensis|oides|es|e|on|or|ax|ex|ix|yx|os|as|o|er|ps|ys)",
    re.IGNORECASE,
)
_AUTHOR_WORDS = frozenset(
    [
        "linnaeus",
        "linné",
        "linne",
        "fabricius",
        "latreille",
        "lamarck",
        "cuvier",
        "gray",
        "walker",
        "miller",
        "thunberg",
        "lindley",
        "bentham",
        "hooker",
        "franchet",
        "schreber",
        "pallas",
        "gmelin",
        "illiger",
        "temminck",
        "vieillot",
        "gould",
        "hübner",
        "hubner",
        "denis",
        "haworth",
        "boisduval",
        "guenée",
        "bonaparte",
        "swainson",
        "brisson",
        "müller",
        "scopoli",
        "poda",
        "cramer",
        "drury",
        "rottemburg",
        "hewitson",
        "felder",
        "butler",
        "moore",
    ]
)
"""Surnames of authors that often follow names, mostly unabbreviated."""


def looks_latin(word: str) -> bool:
    """Return whether a word could be an epithet by its ending; some English words pass too."""
    return len(word) > 1 and bool(_LATIN.fullmatch(word)) and word.lower() not in _ENGLISH_WITH_LATIN_ENDING


_ENGLISH_WITH_LATIN_ENDING = frozenset(
    [
        "white",
        "blue",
        "orange",
        "purple",
        "large",
        "little",
        "olive",
        "pine",
        "tree",
        "apple",
        "marble",
        "maple",
        "cherry-tree",
        "eagle",
        "turtle",
        "beetle",
        "whale",
        "grebe",
        "dove",
        "grouse",
        "grosbeak",
        "vulture",
        "and",
        "the",
        "giraffe",
        "ape",
        "goose",
        "mouse",
        "horse",
        "grape",
        "vine",
        "rose",
        "sage",
        "spruce",
        "bee",
        "snake",
        "zebra",
        "wolves",
        "leaves",
        "disease",
        "healthy",
        "potato",
        "tomato",
        "flower",
        "water",
        "winter",
        "summer",
        "upper",
        "over",
        "bitter",
        "silver",
        "copper",
        "tiger",
        "spider",
        "plover",
        "warbler",
        "skimmer",
        "creeper",
        "other",
        "pepper",
        "ginger",
        "burner",
        "spurge",
        "table",
        "common-or",
        "garden",
        "nature",
    ]
)


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
        text = unicodedata.normalize("NFC", text).translate(_QUOTES)
        text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(text.split())[:MAX_LENGTH].strip()


def read_label(label: str) -> LabelReading | Rejection:
    """Return the likeliest reading of a label, or the reason why it names nothing."""
    text = tidy(label)
    if not text:
        return Rejection(text=text, reason="the label is empty")
    if pair := _pair(text):
        return pair
    separate_fields = re.split(r"_{2,}", text)
    if len(separate_fields) > 1 and len(separate_fields[0]) > 2:
        text = separate_fields[0]
    text = _words(text)
    if not text or PLACEHOLDER.fullmatch(text):
        return Rejection(text=text, reason="a placeholder for an unknown name")
    if _IDENTIFIER.fullmatch(text):
        return Rejection(text=text, reason="an identifier, not a name")
    return _bracketed(text) or _plain(text)


_PAIR = re.compile(r"([^_]+)_([^_]+)")
_BINOMIAL = re.compile(r"[A-Z][a-zë-]+ (?:[×x] )?[a-zë-]{2,}(?: [a-zë-]{2,})?")


def _pair(text: str) -> LabelReading | None:
    """Read "Turdus merula_Merle noir": a scientific name and a name in any language, cut at the one underscore.

    BirdNET's lists are written so; a sound that is not a species has one name twice ("Dog_Dog").
    """
    match = _PAIR.fullmatch(text)
    if match is None:
        return None
    first, second = match[1].strip(), match[2].strip()
    if first == second and first.split(" ")[-1][1:].islower() and first[:1].isupper():
        return LabelReading(text=first, scientific="" if " " in first else first, vernacular=first)
    if " " not in text or PLACEHOLDER.fullmatch(second):
        return None
    for scientific, other in ((first, second), (second, first)):
        if _BINOMIAL.fullmatch(scientific) and looks_latin(_second(scientific)):
            return LabelReading(text=text.replace("_", " "), scientific=scientific, vernacular=other)
    return None


def _words(text: str) -> str:
    """Put blanks between the words: for underscores, CamelCase and hyphens; class and picture numbers are dropped."""
    text = re.sub(r"^(?:\d+[._ -]+)+(?=\D)", "", text)
    text = " ".join(text.replace("_", " ").strip(" ,;:-").split())
    if _CAMEL.fullmatch(text) and not re.match(r"(?:Mac|Mc|De|Le|La)[A-Z][a-z]+$", text):
        text = _SPLIT_CAMEL.sub(" ", text)
    elif " " not in text and "-" in text and "'" not in text and not any(c.isdigit() for c in text):
        text = text.replace("-", " ")
    text = re.sub(r" ?\(\d+\)$", "", text)
    text = re.sub(r"(?<=[^\W\d_]{3})\d{1,3}$", "", text)
    text = re.sub(r"(?<=[a-z]{4})(?=[A-Z][a-z]{2})", " ", text)
    if (match := _HYPHEN_BINOMIAL.match(text)) and looks_latin(match[2]):
        text = f"{match[1]} {match[2]}{text[match.end() :]}"
    return " ".join(text.split())


def _bracketed(text: str) -> LabelReading | None:
    """Read a scientific and a vernacular name, one of them in brackets."""
    match = _TAXON_IN_BRACKETS.match(text)
    if match is None:
        return None
    outer, inner = match[1].strip(), match[2].strip()
    outer_is_latin = bool(_SCIENTIFIC.fullmatch(_sentence_case(outer))) and looks_latin(_second(_sentence_case(outer)))
    if _SCIENTIFIC.fullmatch(inner) and looks_latin(_second(inner)) and not (outer_is_latin and outer[:1].isupper()):
        return LabelReading(text=text, scientific=inner, vernacular=outer, notes=("scientific name in brackets",))
    if outer_is_latin and not re.search(r"[.,&\d]", inner) and inner.lower() not in _AUTHOR_WORDS:
        scientific = _sentence_case(outer)
        if " " in inner or inner[:1].islower() or outer != scientific:
            return LabelReading(
                text=text, scientific=scientific, vernacular=inner, notes=("vernacular name in brackets",)
            )
    if re.fullmatch(r"[A-Z][a-z]{3,}", inner) and not outer_is_latin and " " in outer:
        # "Les Syrittes (Syritta)": the brackets may hold a genus, or a remark ("Juvenile").
        return LabelReading(text=text, scientific=_sentence_case(outer), vernacular=outer, other_names=(inner,))
    if not outer_is_latin and " " in outer:
        return LabelReading(
            text=text, scientific=_sentence_case(outer), vernacular=outer, notes=(f"without ({inner})",)
        )
    return None


def _second(text: str) -> str:
    words = [word for word in text.split(" ") if word not in ("x", "×")]
    return words[1] if len(words) > 1 else ""


def _plain(text: str) -> LabelReading | Rejection:
    if match := _SEVERAL.match(text):
        note = "names several species"
        return LabelReading(
            text=text, scientific=match[1].capitalize(), vernacular=text, qualifier="sp.", notes=(note,)
        )
    if re.fullmatch(r"\S+ (?:or|and|/|&) \S+", text):
        return Rejection(text=text, reason="names several taxa")
    scientific = _without_codes(_sentence_case(text))
    if match := _QUALIFIED.match(scientific):
        qualifier = match[2].lower().rstrip(".")
        if not looks_like_name(match[1]):
            return Rejection(text=text, reason="no genus before its qualifier")
        note = " ".join(part for part in (f"{qualifier}.", match[3]) if part)
        return LabelReading(
            text=text, scientific=match[1].capitalize(), vernacular=text, qualifier=f"{qualifier}.", notes=(note,)
        )
    return LabelReading(
        text=text, scientific=scientific, vernacular=text, other_names=tuple(_names_inside(text, scientific))
    )


def _without_codes(text: str) -> str:
    """Cut a binomial before the first word with digits ("Abies alba 2small"), unless there is a year."""
    words = text.split(" ")
    if any(re.search(r"\d{4}", word) for word in words) or re.search(r"\b(?:sp|spp|cf|aff|nr)\b", text):
        return text
    at = next((at for at, word in enumerate(words) if any(c.isdigit() for c in word)), len(words))
    return " ".join(words[:at]) if at >= 2 else text


def looks_like_name(word: str) -> bool:
    """Return whether a word consists of letters and is long enough to be a genus."""
    return len(word) > 1 and word.replace("-", "").isalpha()


def _names_inside(text: str, scientific: str) -> list[str]:
    """Return binomials further inside the label: "Baobab tree Adansonia digitata"."""
    words = text.split(" ")
    found = []
    for at in range(1, len(words) - 1):
        genus, epithet = words[at], words[at + 1]
        if genus[:1].isupper() and genus.isalpha() and len(genus) > 2 and epithet.islower() and looks_latin(epithet):
            found.append(f"{genus} {epithet}")
    return [name for name in found if name != scientific]


def _sentence_case(text: str) -> str:
    """Write a label with the capitals of a scientific name, where its own capitals say nothing."""
    words = text.split(" ")
    letters = [c for c in text if c.isalpha()]
    if letters and all(c.isupper() for c in letters) and len(letters) > 1:
        words = [word.lower() for word in words]
    words[0] = words[0][:1].upper() + words[0][1:]
    at = 2 if len(words) > 2 and words[1] in ("x", "X", "×") else 1
    if at == 2 and words[1] == "X":
        words[1] = "x"
    while at < min(len(words), 4 if at == 1 else 3) and _is_capitalised_epithet(words[at], at):
        words[at] = words[at].lower()
        at += 1
    return " ".join(words)


def _is_capitalised_epithet(word: str, at: int) -> bool:
    """Return whether a word is an epithet ("Acer Glabrum") and not an author ("Abies Mill.", "Felis Linnaeus")."""
    if not (word[:1].isupper() and word[1:].islower() and word.replace("-", "").isalpha()):
        return False
    return word.lower() not in _AUTHOR_WORDS and len(word) > 2 and (at == 1 or looks_latin(word))
