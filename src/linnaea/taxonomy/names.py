"""Parse a raw label into a name, or return the reason why it is not one. The functions are pure and need no checklist.

People write "Black_footed_Albatross", "AbiesAlba2", "SALIX_ALBA", "L'Eristale des fleurs (Myathropa florea)".
:func:`parse_label` first removes the traces of file names, web pages and habits, and then parses the name with
``gbif-name-parser``. A label may have several readings: a scientific name, a vernacular name, another scientific name.
All readings are kept, because only a checklist can tell which one is meant.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from typing import Any

import nameparser
import polars as pl

from linnaea.jobs import apart_from_main
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.readings import PLACEHOLDER, LabelReading, Rejection, looks_latin, read_label
from linnaea.taxonomy.taxon import Taxon


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
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    """The mark of an uncertain identification: "cf.", "aff.", "sp.", "agg.". The name is then that of the genus, except
    for aggregates, which keep the name of their species."""
    vernacular: str = ""
    """The label as a vernacular name."""
    other_names: tuple[str, ...] = ()
    """Other scientific names that the label may mean, likeliest first."""
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


_PLAIN = re.compile(r"(?:[A-Z][a-z]{2,}(?: [a-z]{3,}(?:-[a-z]{3,})?){0,2})?")


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
    """Return whether a label is a scientific name by its form: an author, or a second word that looks Latin."""
    words = parsed.text.split(" ")
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
    "others": pl.List(pl.String),
    "vernacular": pl.String,
    "weak": pl.Boolean,
    "latin": pl.Boolean,
}
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
        return (parsed.reason, "", "", "", "", [], "", False, False)
    binomial = parsed.binomial
    name = parsed.name
    weak = parsed.rank is None and " " in parsed.text and not _is_author(parsed.authorship)
    latin = bool(parsed.qualifier) or looks_latin(parsed.species) or (parsed.rank is None and " " not in parsed.text)
    genus = name.split(" ", 1)[0]
    return ("", parsed.text, name, binomial, genus, list(parsed.other_names), parsed.vernacular, weak, latin)


def _is_author(text: str) -> bool:
    """Return whether the parser's authorship looks like one, not like further words of a vernacular name."""
    return any(mark in text for mark in ".,&()") or any(c.isdigit() for c in text)


# The parser's results.


def _parse_all(texts: list[str]) -> list[Any]:
    """Return the parser's results; ``None`` for what it refuses."""
    try:
        return list(nameparser.parse_all(texts))
    except BaseException as error:  # a Rust panic is not an Exception
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
    """The usable parts of the parser's result."""

    name: str = ""
    rank: Rank | None = None
    infraspecific: str = ""
    authorship: str = ""
    hybrid: bool = False
    qualifier: str = ""
    notes: list[str] = field(default_factory=list)


def _combine(reading: LabelReading, parsed: Any) -> ParsedName | Rejection:
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
"""Words that occur between or after names and are never names."""
_SOUND = re.compile(
    rf"(?!(?:{_MARKERS})\b)[^\W\d_]{{2,}}(?:-[^\W\d_]+)*"
    rf"(?: (?!(?:{_MARKERS})\b)[^\W\d_][^\W\d_.-]*(?:-[^\W\d_]+)*){{0,2}}",
    re.IGNORECASE,
)


def _is_sound(name: str) -> bool:
    return bool(_SOUND.fullmatch(name)) and not PLACEHOLDER.fullmatch(name)


def _without_markers(found: _Found) -> _Found:
    """Keep the genus where the second word is not an epithet ("Abies agg")."""
    genus = found.name.split(" ", 1)[0]
    return _Found(name=genus, rank=Rank.GENUS, notes=found.notes) if _is_sound(genus) else _Found()


def _unparsed(reading: LabelReading) -> _Found | Rejection:
    """Read what the parser refuses: hybrid formulas, viruses, placeholders, and other text."""
    if match := _FORMULA.match(reading.scientific):
        genus = match[1]
        if match[2] and match[2] != genus[0]:
            return Rejection(text=reading.text, reason="a hybrid of two genera")
        return _Found(name=genus, rank=Rank.GENUS, hybrid=True, qualifier="hybrid", notes=["a hybrid of two species"])
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
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
    return _Found()


def _structured(parsed: Any) -> _Found:
    genus, epithet = _ascii_name(parsed.genus or ""), _ascii_name(parsed.specific_epithet or "")
    infraspecific = _ascii_name(parsed.infraspecific_epithet or "")
    found = _Found(authorship=parsed.authorship_complete() or "", hybrid=bool(parsed.notho))
    if len(infraspecific) == 1:  # "r.hamet" is an author in lower case
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
    """Remove the quotes of Candidatus and hybrid signs; the diaeresis stays, as the ICN allows it."""
    return word.replace("×", "").replace('"', "").strip()
