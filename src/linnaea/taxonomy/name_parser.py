"""Parse scientific names with ``gbif-name-parser``, and bring its results into one form."""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import nameparser
import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.label_words import looks_latin, spell_number
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.readings import PLACEHOLDER, LabelReading, Rejection

if not hasattr(nameparser, "UnparsableNameError"):  # another package installs a module of the same name
    raise LinnaeaError(
        f"{nameparser.__file__} belongs to another package than gbif-name-parser; run: pip uninstall -y nameparser"
        " && pip install --force-reinstall --no-deps gbif-name-parser"
    )


def parse_all(texts: list[str]) -> list[Any]:
    """Return the parser's results; ``None`` for what it refuses."""
    try:
        return list(nameparser.parse_all(texts))
    except BaseException as error:
        if not _is_panic(error):
            raise
        if len(texts) == 1:
            return [None]
        half = len(texts) // 2
        return parse_all(texts[:half]) + parse_all(texts[half:])


def _is_panic(error: BaseException) -> bool:
    """Return whether the parser itself failed; pyo3's exception for it cannot be imported."""
    return type(error).__name__ == "PanicException"


VIRUS = "name of a virus"


@dataclass(slots=True)
class FoundName:
    """The usable parts of the parser's result."""

    name: str = ""
    rank: Rank | None = None
    infraspecific: str = ""
    infraspecific_rank: str = ""
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    notes: list[str] = field(default_factory=list)


_MARKERS = (
    "sp|spp|spec|species|cf|aff|nr|near|agg|aggr|group|complex|gen|nov|var|subsp|ssp|subvar|forma|hybrids?|indet|ex|et|de|"
    "x|sensu|auct|non|nec|or|and|incertae|sedis|candidatus|virus|cv|sect|tribe|gr|unidentified|unknown|undetermined|"
    "natio|convar|nothovar|nothosubsp|subf|prol"
)
"""Words that occur between or after names and are never names."""
_SOUND = re.compile(
    rf"(?!(?:{_MARKERS})\b(?!-))[^\W\d_]{{2,}}(?:-[^\W\d_]+)*"
    rf"(?: (?!(?:{_MARKERS})\b(?!-))[^\W\d_][^\W\d_.-]*(?:-[^\W\d_]+)*){{0,3}}",
    re.IGNORECASE,
)


def is_sound(name: str) -> bool:
    sound = _SOUND.fullmatch(name) or re.fullmatch(r"[A-Z][a-z]+virus [a-z]+\d*", name)
    return bool(sound) and not PLACEHOLDER.fullmatch(name)


def without_markers(found: FoundName) -> FoundName:
    """Keep the names before a word that is not one ("Abies agg", "Cetraria iberica a.crespo")."""
    binomial = " ".join(found.name.split(" ")[:2])
    if found.rank is Rank.SPECIES and binomial != found.name and is_sound(binomial):
        return FoundName(name=binomial, rank=Rank.SPECIES, authorship=found.authorship, notes=found.notes)
    genus = found.name.split(" ", 1)[0]
    return FoundName(name=genus, rank=Rank.GENUS, notes=found.notes) if is_sound(genus) else FoundName()


def read_result(reading: LabelReading, parsed: Any) -> FoundName | Rejection:
    """Return what the parser found in a reading, or why it is not a name; ``parsed`` is ``None`` if it refused it."""
    if parsed is None:
        return _unparsed(reading)
    if isinstance(parsed, nameparser.Informal):
        notes = [parsed.phrase or "informal name"]
        return FoundName(name=_ascii_name(parsed.taxon), rank=Rank.GENUS, qualifier="sp.", notes=notes)
    return _structured(parsed, reading.scientific)


def _unparsed(reading: LabelReading) -> FoundName | Rejection:
    """Read what the parser refuses: viruses, placeholders, and other text."""
    try:
        nameparser.parse(reading.scientific)
    except nameparser.UnparsableNameError as error:
        if error.name_type == "PLACEHOLDER":
            return Rejection(text=reading.text, reason="a placeholder for an unknown name")
        if error.name_type == "IDENTIFIER":
            return Rejection(text=reading.text, reason="an identifier, not a name")
        if error.code == "VIRUS":
            return FoundName(name=reading.text, notes=[VIRUS])
    except BaseException as error:
        if not _is_panic(error):
            raise
    return FoundName()


def _structured(parsed: Any, text: str) -> FoundName:
    genus, epithet = _ascii_name(parsed.genus or ""), _ascii_epithet(parsed.specific_epithet or "")
    infraspecific = _ascii_epithet(parsed.infraspecific_epithet or "")
    found = FoundName(authorship=_authorship(parsed), hybrid=bool(parsed.notho))
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


def _note_marks(found: FoundName, parsed: Any, epithet: str) -> None:
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
    return [w for w in inner if w.islower() and len(w) > 2 and looks_latin(w) and is_sound(f"X{w} {w}")]


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
    if emended := re.match(r"emend\.? (.+)", parsed.taxonomic_note or ""):
        combination = f"{combination} emend. {emended[1]}"
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


# Names of checklists.

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
        for text, parsed in zip(odd["name"], parse_all(odd["name"].to_list()), strict=True)
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
