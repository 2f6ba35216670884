"""A raw label -> a name, or the reason why not. Pure functions, no checklist.

People write "Black_footed_Albatross", "AbiesAlba2", "SALIX_ALBA", "L'Eristale des fleurs (Myathropa florea)".
:func:`parse_label` first undoes what files, web pages and habits did to a name, then has ``gbif-name-parser`` read
it. A label may be read in more than one way: as a scientific name, as the vernacular name it may just as well be,
as another scientific name. All readings are handed on, because only a checklist can tell which one is meant.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import nameparser

from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon

MAX_LENGTH = 400
"""Characters; longer texts are no labels, and reading them would only take time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedName:
    """How a label can be read. ``name`` or ``vernacular`` or both are not empty."""

    text: str
    """The label, tidied up."""
    name: str = ""
    """Canonical scientific name without authorship: "Abies alba", "Panthera leo leo", "Lepiota"."""
    rank: Rank | None = None
    """Species or genus where the form of the name tells; ``None`` for one word of unknown rank."""
    infraspecific: str = ""
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    """What the author was not sure of: "cf.", "aff.", "sp.", "agg."; the name then stands for the genus, but for
    aggregates, which go by the name of their species."""
    vernacular: str = ""
    """The label as a vernacular name."""
    other_names: tuple[str, ...] = ()
    """Other scientific names that the label may mean, the likeliest first."""
    notes: tuple[str, ...] = ()

    @property
    def genus(self) -> str:
        """The first word of a name of genus or species rank, else ``""``."""
        return self.name.split(" ", 1)[0] if self.rank is not None else ""

    @property
    def species(self) -> str:
        """The specific epithet alone."""
        return self.name.split(" ")[1] if self.rank is Rank.SPECIES else ""

    @property
    def binomial(self) -> str:
        """Genus and epithet, ``""`` for any other rank."""
        return " ".join(self.name.split(" ")[:2]) if self.rank is Rank.SPECIES else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """A label that names no taxon, and why."""

    text: str
    reason: str


def parse_label(label: str) -> ParsedName | Rejection:
    """Read a label as a person would; never raises, whatever the text."""
    return parse_labels([label])[0]


def parse_labels(labels: Sequence[str]) -> list[ParsedName | Rejection]:
    """:func:`parse_label` for many labels, about 10,000 a second on one core."""
    readings = [_read(label) for label in labels]
    texts = [reading.scientific for reading in readings if isinstance(reading, _Reading)]
    parsed = iter(_parse_all(texts))
    read = [reading if isinstance(reading, Rejection) else _combine(reading, next(parsed)) for reading in readings]
    return [
        _settled(name) if isinstance(name, ParsedName) and not _PLAIN.fullmatch(name.name) else name for name in read
    ]


_PLAIN = re.compile(r"(?:[A-Z][a-z]{2,}(?: [a-z]{3,}(?:-[a-z]{3,})?){0,2})?")


def _settled(parsed: ParsedName) -> ParsedName | Rejection:
    """A name of unusual form is kept only if it reads as itself; what it reads as instead may be one."""
    name = parsed.name
    for _ in range(3):
        reading = _read(name)
        again = reading if isinstance(reading, Rejection) else _combine(reading, _parse_all([reading.scientific])[0])
        if isinstance(again, ParsedName) and again.name == name:
            rank = parsed.rank if name == parsed.name else again.rank
            return replace(parsed, name=name, rank=rank, infraspecific=again.infraspecific)
        name = again.name if isinstance(again, ParsedName) else ""
        if not name:
            break
    if not parsed.vernacular:
        return Rejection(text=parsed.text, reason="not readable as a name")
    return replace(parsed, name="", rank=None, infraspecific="")


def taxon_from_label(label: str) -> Taxon | str:
    """A taxon from a label alone, without a checklist; or the reason why there is none.

    iNat21's class folders (``00017_Animalia_Arthropoda_..._Pica_hudsonia``) give the whole lineage, a binomial
    gives genus and species, anything else is a common name.
    """
    if match := _INAT21_FOLDER.fullmatch(label.strip()):
        lineage = tuple(" ".join(name.split()) for name in match.groups())
        try:
            return Taxon(lineage)  # type: ignore[arg-type]
        except ValueError as error:
            return str(error)
    parsed = parse_label(label)
    if isinstance(parsed, Rejection):
        return parsed.reason
    try:
        if parsed.rank is Rank.SPECIES and not parsed.qualifier and _plainly_scientific(label, parsed):
            return Taxon.of(genus=parsed.genus, species=parsed.species)
        return Taxon.of(common_name=parsed.vernacular or parsed.text)
    except ValueError as error:
        return str(error)


_INAT21_FOLDER = re.compile(r"\d+_" + "_".join([r"([^_]*)"] * 7))


def _plainly_scientific(label: str, parsed: ParsedName) -> bool:
    """Two words of which the second is Latin by its looks, or a name with an author: no vernacular name."""
    words = parsed.text.split(" ")
    if parsed.authorship:
        return looks_latin(parsed.species) and parsed.text[:1].isupper()
    if len(words) != len(parsed.name.split(" ")):
        return looks_latin(parsed.species) and parsed.name in parsed.text
    if not any(separator in label.strip() for separator in " _-"):  # AbiesAlba2
        return looks_latin(parsed.species)
    # "Snow Leopard" has capitals throughout, "Acer glabrum" only one.
    return words[1][:1].islower() and (words[0][:1].isupper() or looks_latin(parsed.species))


# What people do to names.


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """A tidied label before the parser saw it."""

    text: str
    scientific: str
    vernacular: str
    other_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    qualifier: str = ""


_PLACEHOLDER = re.compile(
    r"(?:\(?(?:un|not |non |in)[ _-]?(?:identified|identifiable|known|classified|determined|assigned|named|sorted|sure)"
    r"\)?(?: (?:species|taxon|sp\.?))?|n/?a|none|null|nil|nan|tbd|misc(?:ellaneous)?|others?|please ?help|no ?id|"
    r"no name|incertae sedis|indet(?:erminata|erminate|\.)?|unknowns?|uncertain|"
    r"spp?\.?(?: ?\d+)?|species|blank|empty|[\W\d_]+)",
    re.IGNORECASE,
)
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
"""Surnames of authors that stand after names again and again, mostly written out."""


def looks_latin(word: str) -> bool:
    """Whether a word could be an epithet by its ending; English words that end so are let through as well."""
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
    """Undo encoding accidents, markup, odd quotes and white space; what remains is what a person sees.

    Accidents pile up ("&amp;lt;", mojibake of mojibake), so it goes on until nothing changes.
    """
    before, text = None, text[: 4 * MAX_LENGTH]
    while text != before:  # every step but the first makes the text shorter
        before, text = text, _tidy_once(text)
    return text


def _tidy_once(text: str) -> str:
    text = _repair_mojibake(text)
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAGS.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_QUOTES)
        text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join(text.split())[:MAX_LENGTH].strip()


def _repair_mojibake(text: str) -> str:
    """UTF-8 that was read as Latin-1 or Windows-1252 ("GuÃ©rin") becomes itself again."""
    if not any(mark in text for mark in ("Ã", "Â", "â€", "Å", "Ä")):
        return text
    for encoding in ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return text


def _read(label: str) -> _Reading | Rejection:
    text = tidy(label)
    if not text:
        return Rejection(text=text, reason="the label is empty")
    separate_fields = re.split(r"_{2,}", text)
    if len(separate_fields) > 1 and len(separate_fields[0]) > 2:
        text = separate_fields[0]
    text = _words(text)
    if not text or _PLACEHOLDER.fullmatch(text):
        return Rejection(text=text, reason="a placeholder for a name that is not known")
    if _IDENTIFIER.fullmatch(text):
        return Rejection(text=text, reason="an identifier, not a name")
    return _bracketed(text) or _plain(text)


def _words(text: str) -> str:
    """Blanks between the words: underscores, class numbers, CamelCase, hyphens in place of blanks, picture numbers."""
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


def _bracketed(text: str) -> _Reading | None:
    """A scientific and a vernacular name of which one stands in brackets."""
    match = _TAXON_IN_BRACKETS.match(text)
    if match is None:
        return None
    outer, inner = match[1].strip(), match[2].strip()
    outer_is_latin = bool(_SCIENTIFIC.fullmatch(_sentence_case(outer))) and looks_latin(_second(_sentence_case(outer)))
    if _SCIENTIFIC.fullmatch(inner) and looks_latin(_second(inner)) and not (outer_is_latin and outer[:1].isupper()):
        return _Reading(text=text, scientific=inner, vernacular=outer, notes=("scientific name in brackets",))
    if outer_is_latin and not re.search(r"[.,&\d]", inner) and inner.lower() not in _AUTHOR_WORDS:
        scientific = _sentence_case(outer)
        if " " in inner or inner[:1].islower() or outer != scientific:
            return _Reading(text=text, scientific=scientific, vernacular=inner, notes=("vernacular name in brackets",))
    if re.fullmatch(r"[A-Z][a-z]{3,}", inner) and not outer_is_latin and " " in outer:
        # "Les Syrittes (Syritta)": perhaps a genus, perhaps a remark ("Juvenile").
        return _Reading(text=text, scientific=_sentence_case(outer), vernacular=outer, other_names=(inner,))
    if not outer_is_latin and " " in outer:
        return _Reading(text=text, scientific=_sentence_case(outer), vernacular=outer, notes=(f"without ({inner})",))
    return None


def _second(text: str) -> str:
    words = [word for word in text.split(" ") if word not in ("x", "×")]
    return words[1] if len(words) > 1 else ""


def _plain(text: str) -> _Reading | Rejection:
    if match := _SEVERAL.match(text):
        note = "names several species"
        return _Reading(text=text, scientific=match[1].capitalize(), vernacular=text, qualifier="sp.", notes=(note,))
    if re.fullmatch(r"\S+ (?:or|and|/|&) \S+", text):
        return Rejection(text=text, reason="names several taxa")
    scientific = _without_codes(_sentence_case(text))
    if match := _QUALIFIED.match(scientific):
        qualifier = match[2].lower().rstrip(".")
        if not looks_like_name(match[1]):
            return Rejection(text=text, reason="no genus before its qualifier")
        note = " ".join(part for part in (f"{qualifier}.", match[3]) if part)
        return _Reading(
            text=text, scientific=match[1].capitalize(), vernacular=text, qualifier=f"{qualifier}.", notes=(note,)
        )
    return _Reading(
        text=text, scientific=scientific, vernacular=text, other_names=tuple(_names_inside(text, scientific))
    )


def _without_codes(text: str) -> str:
    """A binomial without the words from the first with digits on, unless that is a year: "Abies alba 2small"."""
    words = text.split(" ")
    if any(re.search(r"\d{4}", word) for word in words) or re.search(r"\b(?:sp|spp|cf|aff|nr)\b", text):
        return text
    at = next((at for at, word in enumerate(words) if any(c.isdigit() for c in word)), len(words))
    return " ".join(words[:at]) if at >= 2 else text


def looks_like_name(word: str) -> bool:
    """A word of letters, long enough to be a genus."""
    return len(word) > 1 and word.replace("-", "").isalpha()


def _names_inside(text: str, scientific: str) -> list[str]:
    """Binomials further inside the label: "Baobab tree Adansonia digitata"."""
    words = text.split(" ")
    found = []
    for at in range(1, len(words) - 1):
        genus, epithet = words[at], words[at + 1]
        if genus[:1].isupper() and genus.isalpha() and len(genus) > 2 and epithet.islower() and looks_latin(epithet):
            found.append(f"{genus} {epithet}")
    return [name for name in found if name != scientific]


def _sentence_case(text: str) -> str:
    """The label with the capitals of a scientific name, where its own capitals say nothing (or only shout)."""
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
    """ "Glabrum" in "Acer Glabrum", but not the author in "Abies Mill." or "Felis Linnaeus"."""
    if not (word[:1].isupper() and word[1:].islower() and word.replace("-", "").isalpha()):
        return False
    return word.lower() not in _AUTHOR_WORDS and len(word) > 2 and (at == 1 or looks_latin(word))


# What the parser says.


def _parse_all(texts: list[str]) -> list[Any]:
    """The parser's results; what it refuses (or cannot digest) is ``None``."""
    try:
        return list(nameparser.parse_all(texts))
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        if len(texts) == 1:
            return [None]
        half = len(texts) // 2
        return _parse_all(texts[:half]) + _parse_all(texts[half:])


_VIRUS = "name of a virus"
_FORMULA = re.compile(r"^([A-Z][\w-]+) .*? [x×] (?:([A-Z])[\w.-]* )?\S+", re.DOTALL)


@dataclass(slots=True)
class _Found:
    """What could be made of the parser's answer."""

    name: str = ""
    rank: Rank | None = None
    infraspecific: str = ""
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    notes: list[str] = field(default_factory=list)


def _combine(reading: _Reading, parsed: Any) -> ParsedName | Rejection:
    if parsed is None:
        found = _unparsed(reading)
    elif isinstance(parsed, nameparser.Informal):
        found = _Found(
            name=_ascii_name(parsed.taxon), rank=Rank.GENUS, qualifier="sp.", notes=[parsed.phrase or "informal name"]
        )
    else:
        found = _structured(parsed)
    if isinstance(found, Rejection):
        return found
    if reading.qualifier:
        found.qualifier, found.rank = reading.qualifier, Rank.GENUS
    if _VIRUS not in found.notes:
        found.name = found.name[:1].upper() + found.name[1:].lower()
    if not _is_sound(found.name) and _VIRUS not in found.notes:
        found = _without_markers(found)
    if not found.name and not reading.vernacular:
        return Rejection(text=reading.text, reason="not readable as a name")
    return ParsedName(
        text=reading.text,
        name=found.name,
        rank=found.rank,
        infraspecific=found.infraspecific,
        authorship=found.authorship,
        hybrid=found.hybrid,
        qualifier=found.qualifier,
        vernacular=reading.vernacular,
        other_names=reading.other_names,
        notes=(*reading.notes, *found.notes),
    )


_MARKERS = (
    "sp|spp|spec|species|cf|aff|nr|near|agg|aggr|group|complex|gen|nov|var|subsp|ssp|subvar|forma|hybrids?|indet|ex|et|de|"
    "x|sensu|auct|non|nec|or|and|incertae|sedis|candidatus|virus|cv|sect|ser|tribe"
)
"""Words that stand between or after names and never are one."""
_SOUND = re.compile(
    rf"(?!(?:{_MARKERS})\b)[^\W\d_]{{2,}}(?:-[^\W\d_]+)*"
    rf"(?: (?!(?:{_MARKERS})\b)[^\W\d_][^\W\d_.-]*(?:-[^\W\d_]+)*){{0,2}}",
    re.IGNORECASE,
)


def _is_sound(name: str) -> bool:
    return bool(_SOUND.fullmatch(name)) and not _PLACEHOLDER.fullmatch(name)


def _without_markers(found: _Found) -> _Found:
    """The genus of a name that goes on with what is no epithet ("Abies agg"), or nothing."""
    genus = found.name.split(" ", 1)[0]
    return _Found(name=genus, rank=Rank.GENUS, notes=found.notes) if _is_sound(genus) else _Found()


def _unparsed(reading: _Reading) -> _Found | Rejection:
    """What the parser refuses: hybrid formulas, viruses, placeholders, and what is no scientific name at all."""
    if match := _FORMULA.match(reading.scientific):
        genus = match[1]
        if match[2] and match[2] != genus[0]:
            return Rejection(text=reading.text, reason="a hybrid of two genera")
        return _Found(name=genus, rank=Rank.GENUS, hybrid=True, qualifier="hybrid", notes=["a hybrid of two species"])
    try:
        nameparser.parse(reading.scientific)
    except nameparser.UnparsableNameError as error:
        if error.name_type == "PLACEHOLDER":
            return Rejection(text=reading.text, reason="a placeholder for a name that is not known")
        if error.name_type == "IDENTIFIER":
            return Rejection(text=reading.text, reason="an identifier, not a name")
        if error.code == "VIRUS":
            return _Found(name=reading.text, notes=[_VIRUS])
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
    return _Found()


def _structured(parsed: Any) -> _Found:
    genus, epithet = _ascii_name(parsed.genus or ""), _ascii_name(parsed.specific_epithet or "")
    infraspecific = _ascii_name(parsed.infraspecific_epithet or "")
    found = _Found(authorship=parsed.authorship_complete() or "", hybrid=bool(parsed.notho))
    if len(infraspecific) == 1:  # "r.hamet" is an author without capitals
        found.authorship, infraspecific = f"{infraspecific}. {found.authorship}", ""
    if parsed.candidatus:
        found.notes.append("Candidatus")
    if parsed.epithet_qualifier:
        marks = sorted(set(parsed.epithet_qualifier.values()))
        found.qualifier = marks[0]
        found.notes.append(f"{marks[0]} {epithet}".strip())
    if parsed.rank == "SPECIES_AGGREGATE":
        found.qualifier = "agg."
        found.notes.append("species aggregate")
    if parsed.cultivar_epithet:
        found.notes.append(f"cultivar '{parsed.cultivar_epithet}'")
    if genus and epithet:
        found.name = " ".join(part for part in (genus, epithet, infraspecific) if part)
        found.rank, found.infraspecific = Rank.SPECIES, infraspecific
        if found.qualifier not in ("", "agg."):
            found.name, found.rank, found.infraspecific = genus, Rank.GENUS, ""
    elif genus:
        found.name, found.rank = genus, Rank.GENUS
    elif parsed.uninomial:
        found.name = _ascii_name(parsed.uninomial)
    return found


def _ascii_name(word: str) -> str:
    """Quotes of Candidatus and hybrid signs off; the diaeresis stays (it is allowed by the ICN)."""
    return word.replace("×", "").replace('"', "").strip()
