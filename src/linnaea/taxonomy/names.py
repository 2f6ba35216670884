"""Parse a raw label into a name, or return the reason why it is not one. The functions are pure and need no checklist.

People write "Black_footed_Albatross", "AbiesAlba2", "SALIX_ALBA", "L'Eristale des fleurs (Myathropa florea)".
:func:`parse_label` first removes the traces of file names, web pages and habits, and then parses the name with
``gbif-name-parser``. A label may have several readings: a scientific name, a vernacular name, another scientific name.
All readings are kept, because only a checklist can tell which one is meant.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

import nameparser
import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.jobs import apart_from_main
from linnaea.taxonomy.label_forms import read_label
from linnaea.taxonomy.label_words import AUTHOR_WORDS, ENGLISH_NOUNS, binomial_of_words, looks_latin, spell_number
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.readings import PLACEHOLDER, LabelReading, Rejection
from linnaea.taxonomy.taxon import Taxon

if not hasattr(nameparser, "UnparsableNameError"):  # another package installs a module of the same name
    raise LinnaeaError(
        f"{nameparser.__file__} belongs to another package than gbif-name-parser; run: pip uninstall -y nameparser"
        " && pip install --force-reinstall --no-deps gbif-name-parser"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedName:
    """How a label can be read: as ``name``, as ``vernacular``, or as either."""

    text: str
    """The label, tidied up."""
    name: str = ""
    """The canonical scientific name without authorship: "Abies alba", "Panthera leo leo", "Lepiota"."""
    rank: Rank | None = None
    """Species or genus if the form of the name shows it; ``None`` for a single word of unknown rank."""
    infraspecific: str = ""
    infraspecific_rank: str = ""
    """The parser's word for the rank of ``infraspecific`` ("SUBSPECIES"), if the label has one."""
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    """The mark of an uncertain identification: "cf.", "aff.", "sp.", "agg.". The name is then that of the genus, except
    for aggregates, which keep the name of their species."""
    doubt: str = ""
    """The words that say that the taxon is not, or not surely, the one named ("auct. non L.", "?"). ``name`` is as
    written, and the label resolves to the genus."""
    vernacular: str = ""
    """The label, or the part of it that may be a vernacular name."""
    whole: str = ""
    """The whole label, if it may be a vernacular name and ``vernacular`` is a part of it."""
    is_pair: bool = False
    """Whether the label gives a scientific name and a vernacular name of one taxon."""
    title_cased: str = ""
    """A binomial that the label may be if it has the capitals of a title ("Acer Glabrum")."""
    other_names: tuple[str, ...] = ()
    """Other scientific names that the label may mean, likeliest first."""
    ancestors: tuple[str, ...] = ()
    """The names above the taxon, of a label that gives a lineage; the lowest first."""
    ranks: tuple[str, ...] = ()
    """The seven ranks, if the label says which name has which rank."""
    together: tuple[str, ...] = ()
    """The names of several taxa, of the parents of a hybrid, or of the one species that is in doubt; ``name`` is the
    genus that they share, if any."""
    notes: tuple[str, ...] = ()

    @property
    def genus(self) -> str:
        """The first word of a name at genus or species rank, else ``""``."""
        return self.name.split(" ", 1)[0] if self.rank is not None else ""

    @property
    def species(self) -> str:
        """The specific epithet without the genus."""
        return self.name.split(" ")[1] if self.rank is Rank.SPECIES else ""

    @property
    def binomial(self) -> str:
        """Genus and epithet, or ``""`` at any other rank."""
        return " ".join(self.name.split(" ")[:2]) if self.rank is Rank.SPECIES else ""


def parse_label(label: str) -> ParsedName | Rejection:
    """Read a label as a person would; whatever the text, this does not raise."""
    return parse_labels([label])[0]


def parse_labels(labels: Sequence[str]) -> list[ParsedName | Rejection]:
    """Read many labels (:func:`parse_label`), about 10,000 a second on one core."""
    readings = [read_label(label) for label in labels]
    texts = [reading.scientific for reading in readings if isinstance(reading, LabelReading)]
    parsed = iter(_parse_all(texts))
    read = [reading if isinstance(reading, Rejection) else _combine(reading, next(parsed)) for reading in readings]
    return [
        _settled(name) if isinstance(name, ParsedName) and not _PLAIN.fullmatch(name.name) else name for name in read
    ]


_PLAIN = re.compile(r"(?:[A-Z][a-z]{2,}(?: [a-z]{3,}(?:-[a-z]{3,})?){0,3})?")


def _settled(parsed: ParsedName) -> ParsedName | Rejection:
    """Keep a name of unusual form only if it reads as itself; otherwise try what it reads as."""
    name = parsed.name
    for _ in range(3):
        reading = read_label(name)
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
    """Return the taxon that a label names, without a checklist, or the reason why there is none.

    A lineage whose ranks are known gives all of them, such as iNat21's class folders
    (``00017_Animalia_Arthropoda_..._Pica_hudsonia``). A binomial gives genus and species, a doubtful or open one its
    genus. Anything else is a common name.
    """
    parsed = parse_label(label)
    if isinstance(parsed, Rejection):
        return parsed.reason
    if len(parsed.together) > 1 and not parsed.name:
        return f"{parsed.notes[0]}, of no common genus"
    try:
        return _taxon_by_form(label, parsed)
    except ValueError as error:
        return str(error)


def _taxon_by_form(label: str, parsed: ParsedName) -> Taxon:
    if parsed.ranks:
        return Taxon.of(dict(zip(RANK_LABELS, parsed.ranks, strict=True)), common_name=parsed.vernacular)
    if (parsed.doubt and parsed.rank is not None) or len(parsed.together) > 1:
        return Taxon.of(genus=parsed.genus)
    if parsed.rank is Rank.SPECIES and not parsed.qualifier and _plainly_scientific(label, parsed):
        return Taxon.of(genus=parsed.genus, species=parsed.species)
    return Taxon.of(common_name=parsed.vernacular or parsed.text)


def _plainly_scientific(label: str, parsed: ParsedName) -> bool:
    """Return whether a label is a scientific name by its form: an author, or a second word that looks Latin."""
    words = parsed.text.split(" ")
    if parsed.is_pair or parsed.ancestors:
        return looks_latin(parsed.species)
    if parsed.authorship:
        return looks_latin(parsed.species) and parsed.text[:1].isupper()
    if len(words) != len(parsed.name.split(" ")):
        return looks_latin(parsed.species) and parsed.name in parsed.text
    if not any(separator in label.strip() for separator in " _-"):  # AbiesAlba2
        return looks_latin(parsed.species)
    # "Snow Leopard" capitalises both words, "Acer glabrum" only the first.
    return words[1][:1].islower() and (words[0][:1].isupper() or looks_latin(parsed.species))


# A table of parsed labels, for a million labels in two processes.

PARSED_SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "reason": pl.String,
    "text": pl.String,
    "name": pl.String,
    "binomial": pl.String,
    "genus": pl.String,
    "title_cased": pl.String,
    "others": pl.List(pl.String),
    "vernacular": pl.String,
    "whole": pl.String,
    "weak": pl.Boolean,
    "latin": pl.Boolean,
    "is_pair": pl.Boolean,
    "authorship": pl.String,
    "infraspecific_rank": pl.String,
    "ancestors": pl.List(pl.String),
    "together": pl.List(pl.String),
    "remark": pl.String,
}
"""``weak`` names may be words of a vernacular name; ``remark`` is what the label says besides the name."""
_CHUNK = 20_000


def parse_label_table(labels: list[str], processes: int, report: Callable[[int], None]) -> pl.DataFrame:
    """Return a table of :data:`PARSED_SCHEMA` with one row per label; ``report`` is called after each chunk."""
    rows = [row for chunk in _parse_chunks(labels, processes, report) for row in chunk]
    return pl.DataFrame(rows, schema=PARSED_SCHEMA, orient="row")


def _parse_chunks(labels: list[str], processes: int, report: Callable[[int], None]) -> list[list[tuple[object, ...]]]:
    chunks = [labels[at : at + _CHUNK] for at in range(0, len(labels), _CHUNK)]
    done: list[list[tuple[object, ...]]] = []
    if processes > 1 and len(chunks) > 3:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            with apart_from_main(_parse_rows):  # the first submission starts the workers
                results = pool.map(_parse_rows, chunks)
            for rows in results:
                done.append(rows)
                report(0)
        return done
    for chunk in chunks:
        done.append(_parse_rows(chunk))
        report(0)
    return done


def _parse_rows(labels: list[str]) -> list[tuple[object, ...]]:
    return [_as_row(parsed) for parsed in parse_labels(labels)]


def _as_row(parsed: ParsedName | Rejection) -> tuple[object, ...]:
    if isinstance(parsed, Rejection):
        return (parsed.reason, "", "", "", "", "", [], "", "", False, False, False, "", "", [], [], "")
    name, binomial = parsed.name, parsed.binomial
    if parsed.doubt:
        name, binomial = name.split(" ", 1)[0], ""
    weak = parsed.rank is None and " " in parsed.text and not parsed.ancestors and not _has_author(parsed)
    uncertain = bool(parsed.qualifier or parsed.doubt)
    uninomial = parsed.rank is None and (" " not in parsed.text or _may_be_author(parsed.authorship))
    latin = uncertain or looks_latin(parsed.species) or uninomial
    return (
        "",
        parsed.text,
        name,
        binomial,
        name.split(" ", 1)[0],
        parsed.title_cased,
        list(parsed.other_names),
        parsed.vernacular,
        parsed.whole,
        weak,
        latin,
        parsed.is_pair,
        parsed.authorship,
        parsed.infraspecific_rank,
        list(parsed.ancestors),
        list(parsed.together),
        _remark(parsed),
    )


def _remark(parsed: ParsedName) -> str:
    """Return what the label says besides the name, for the note of its resolution."""
    marks = [parsed.doubt] if parsed.doubt else []
    if parsed.hybrid and len(parsed.together) < 2:
        marks.append("a hybrid")
    return "; ".join((*marks, *(note for note in parsed.notes if not note.endswith("in brackets"))))


_FAMILY = re.compile(r"[A-Z][a-z]+(?:idae|aceae|inae|oidea|ales|formes|ptera)")


def _has_author(parsed: ParsedName) -> bool:
    """Return whether the words after a single name are surely its author, not those of a vernacular name."""
    text = parsed.authorship
    if not _may_be_author(text):
        return False
    if _FAMILY.fullmatch(parsed.name) or text.lower().rstrip(".") in AUTHOR_WORDS:
        return True
    return any(mark in text for mark in ".,&()[]") or any(c.isdigit() for c in text)


def _may_be_author(text: str) -> bool:
    """Return whether words after a name may be an author: they have capitals, and none is an English noun."""
    words = re.findall(r"[^\W\d_]{3,}", text)
    nouns = any(word.lower() in ENGLISH_NOUNS for word in words)
    return bool(text) and not nouns and any(word[:1].isupper() for word in words or [text])


_WITHOUT_AUTHOR = (
    r"^\p{Lu}[\p{L}-]+(?: \(\p{Lu}[\p{L}-]+\))?"
    r"(?: (?:[×x] ?|subsp\. |ssp\. |var\. |subvar\. |f\. |subf\. |nothosubsp\. |nothovar\. )?\p{Ll}[\p{Ll}-]+)*$"
)


def split_authors(names: pl.Series) -> pl.DataFrame:
    """Return ``name`` (with the marks of ranks, without authors) and ``authorship`` of names in a checklist."""
    table = pl.DataFrame({"name": names.fill_null("")}).with_columns(authorship=pl.lit(""))
    odd = table.select("name").unique(maintain_order=True).filter(~pl.col("name").str.contains(_WITHOUT_AUTHOR))
    if odd.is_empty():
        return table
    read = [
        (text, parsed.canonical_name_without_authorship() or text, _authorship(parsed))
        for text, parsed in zip(odd["name"], _parse_all(odd["name"].to_list()), strict=True)
        if isinstance(parsed, nameparser.ParsedName) and (parsed.genus or parsed.uninomial)
    ]
    found = pl.DataFrame(
        read,
        schema=["name", "canonical", "authors"],
        orient="row",
        schema_overrides=dict.fromkeys(("name", "canonical", "authors"), pl.String),
    )
    joined = table.join(found, on="name", how="left", maintain_order="left")
    return joined.select(name=pl.coalesce("canonical", "name"), authorship=pl.coalesce("authors", "authorship"))


# The parser's results.


def _parse_all(texts: list[str]) -> list[Any]:
    """Return the parser's results; ``None`` for what it refuses."""
    try:
        return list(nameparser.parse_all(texts))
    except BaseException as error:
        if not _is_panic(error):
            raise
        if len(texts) == 1:
            return [None]
        half = len(texts) // 2
        return _parse_all(texts[:half]) + _parse_all(texts[half:])


def _is_panic(error: BaseException) -> bool:
    """Return whether the parser itself failed; pyo3's exception for it cannot be imported."""
    return type(error).__name__ == "PanicException"


_VIRUS = "name of a virus"


@dataclass(slots=True)
class _Found:
    """The usable parts of the parser's result."""

    name: str = ""
    rank: Rank | None = None
    infraspecific: str = ""
    infraspecific_rank: str = ""
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    notes: list[str] = field(default_factory=list)


def _combine(reading: LabelReading, parsed: Any) -> ParsedName | Rejection:
    found: _Found | Rejection
    if not reading.scientific:
        found = _Found()
    elif (binomial := binomial_of_words(reading.scientific)) is not None:
        authorship = reading.scientific[len(binomial) :].strip()
        return ParsedName(text=reading.text, name=binomial, rank=Rank.SPECIES, authorship=authorship)
    elif parsed is None:
        found = _unparsed(reading)
    elif isinstance(parsed, nameparser.Informal):
        found = _Found(
            name=_ascii_name(parsed.taxon), rank=Rank.GENUS, qualifier="sp.", notes=[parsed.phrase or "informal name"]
        )
    else:
        found = _structured(parsed, reading.scientific)
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
        infraspecific_rank=found.infraspecific_rank,
        authorship=found.authorship,
        hybrid=found.hybrid or reading.hybrid,
        qualifier=found.qualifier,
        doubt=reading.doubt,
        vernacular=reading.vernacular,
        whole=reading.whole,
        is_pair=reading.is_pair,
        title_cased=reading.title_cased,
        other_names=reading.other_names,
        ancestors=reading.ancestors,
        ranks=reading.ranks,
        together=reading.together or _doubted(reading),
        notes=(*reading.notes, *found.notes),
    )


def _doubted(reading: LabelReading) -> tuple[str, ...]:
    """Return the species that a doubtful label names: its genus is that one among homonyms."""
    name = " ".join(reading.scientific.split(" ")[:2]) if reading.doubt else ""
    return reading.doubted or ((name,) if " " in name else ())


_MARKERS = (
    "sp|spp|spec|species|cf|aff|nr|near|agg|aggr|group|complex|gen|nov|var|subsp|ssp|subvar|forma|hybrids?|indet|ex|et|de|"
    "x|sensu|auct|non|nec|or|and|incertae|sedis|candidatus|virus|cv|sect|tribe|gr|unidentified|unknown|undetermined"
)
"""Words that occur between or after names and are never names."""
_SOUND = re.compile(
    rf"(?!(?:{_MARKERS})\b(?!-))[^\W\d_]{{2,}}(?:-[^\W\d_]+)*"
    rf"(?: (?!(?:{_MARKERS})\b(?!-))[^\W\d_][^\W\d_.-]*(?:-[^\W\d_]+)*){{0,3}}",
    re.IGNORECASE,
)


def _is_sound(name: str) -> bool:
    return bool(_SOUND.fullmatch(name)) and not PLACEHOLDER.fullmatch(name)


def _without_markers(found: _Found) -> _Found:
    """Keep the names before a word that is none ("Abies agg", "Cetraria iberica a.crespo")."""
    binomial = " ".join(found.name.split(" ")[:2])
    if found.rank is Rank.SPECIES and binomial != found.name and _is_sound(binomial):
        return _Found(name=binomial, rank=Rank.SPECIES, authorship=found.authorship, notes=found.notes)
    genus = found.name.split(" ", 1)[0]
    return _Found(name=genus, rank=Rank.GENUS, notes=found.notes) if _is_sound(genus) else _Found()


def _unparsed(reading: LabelReading) -> _Found | Rejection:
    """Read what the parser refuses: viruses, placeholders, and other text."""
    try:
        nameparser.parse(reading.scientific)
    except nameparser.UnparsableNameError as error:
        if error.name_type == "PLACEHOLDER":
            return Rejection(text=reading.text, reason="a placeholder for an unknown name")
        if error.name_type == "IDENTIFIER":
            return Rejection(text=reading.text, reason="an identifier, not a name")
        if error.code == "VIRUS":
            return _Found(name=reading.text, notes=[_VIRUS])
    except BaseException as error:
        if not _is_panic(error):
            raise
    return _Found()


def _structured(parsed: Any, text: str) -> _Found:
    genus, epithet = _ascii_name(parsed.genus or ""), _ascii_epithet(parsed.specific_epithet or "")
    infraspecific = _ascii_epithet(parsed.infraspecific_epithet or "")
    found = _Found(authorship=_authorship(parsed), hybrid=bool(parsed.notho))
    if len(infraspecific) == 1:  # "r.hamet" is an author in lower case
        found.authorship, infraspecific = f"{infraspecific}. {found.authorship}", ""
    _note_marks(found, parsed, epithet)
    if genus and epithet:
        between = _epithets_between(text, epithet, infraspecific) if infraspecific else []
        found.name = " ".join(part for part in (genus, epithet, *between, infraspecific) if part)
        found.rank, found.infraspecific = Rank.SPECIES, infraspecific
        if infraspecific and parsed.rank not in ("INFRASPECIFIC_NAME", "UNRANKED"):
            found.infraspecific_rank = parsed.rank
        if found.qualifier not in ("", "agg."):
            found.name, found.rank, found.infraspecific = genus, Rank.GENUS, ""
    elif genus:
        found.name, found.rank = genus, Rank.GENUS
    elif parsed.uninomial:
        found.name = _ascii_name(parsed.uninomial)
    return found


def _note_marks(found: _Found, parsed: Any, epithet: str) -> None:
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


def _epithets_between(text: str, epithet: str, last: str) -> list[str]:
    """Return the epithets between that of the species and the last ("subsp. a var. b"), which the parser leaves out."""
    words = [_ascii_epithet(word) for word in text.split(" ")]
    if epithet not in words or last not in words[words.index(epithet) + 1 :]:
        return []
    end = len(words) - 1 - words[::-1].index(last)
    inner = words[words.index(epithet) + 1 : end]
    return [w for w in inner if w.islower() and len(w) > 2 and looks_latin(w) and _is_sound(f"X{w} {w}")]


def _authorship(parsed: Any) -> str:
    """Return the authors of a name, the original ones in brackets: "(L.) Mill.", "(Gray) Moore & Smith, 1846"."""
    combination, basionym = _authors(parsed.combination_authorship), _authors(parsed.basionym_authorship)
    place = re.sub(r",? \(?\d{4}.*$", "", parsed.published_in or "")
    if place and combination and not any(c.isdigit() for c in place):
        place = _SON.sub(" fil.", place)
        names, comma, year = combination.partition(", 1" if ", 1" in combination else ", 2")
        combination = f"{names} in {place}{comma}{year}"
    sanctioned = parsed.combination_authorship.sanctioning_author
    combination = f"{combination} : {sanctioned}" if sanctioned else combination
    return f"({basionym}) {combination}".strip() if basionym else combination


_SON = re.compile(r"(?<=[\w.]) ?\b(?:f|filius|fil)\b\.?$")


def _authors(authorship: Any) -> str:
    if authorship.anonymous and not authorship.authors:
        return "anon."
    authors, before = _listed(authorship.authors), _listed(authorship.ex_authors)
    names = f"{before} ex {authors}" if before else authors
    year = re.sub(r"(?<=\d{4})[a-z]$", "", authorship.year or "")
    return f"{names}, {year}" if names and year else names or year


def _listed(authors: list[str]) -> str:
    names = [_SON.sub(" fil.", author) for author in authors]
    names = [part for name in names for part in re.split(r" y ", name)]
    if names and names[-1] == "al.":
        return ", ".join(names[:-1]) + " et al."
    return " & ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def _ascii_name(word: str) -> str:
    """Return a word of a name as the codes spell it: no ligatures, diacritics, apostrophes or hybrid signs.

    Umlauts become two letters (ICZN article 32.5.2.1, ICN article 60.7).
    """
    if not word.isascii():
        word = unicodedata.normalize("NFD", word.translate(_TWO_LETTERS))
        word = "".join(c for c in word if not unicodedata.combining(c))
    return word.replace("×", "").replace('"', "").strip()


def _ascii_epithet(word: str) -> str:
    return spell_number(_ascii_name(word).replace("'", ""))


_TWO_LETTERS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "œ": "oe", "ø": "oe", "å": "ao", "ß": "ss"}
    | {"Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Æ": "Ae", "Œ": "Oe", "Ø": "Oe"}
)
