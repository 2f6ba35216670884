"""Parse a raw label into a name, or return the reason why it is not one. The functions are pure and need no checklist.

People write "Black_footed_Albatross", "AbiesAlba2", "SALIX_ALBA", "L'Eristale des fleurs (Myathropa florea)".
:func:`parse_label` first removes the traces of file names, web pages and habits, and then parses the name with
``gbif-name-parser``. A label may have several readings: a scientific name, a vernacular name, another scientific name.
All readings are kept, because only a checklist can tell which one is meant.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from linnaea.taxonomy.checklists.records import KINGDOMS_OF_OTHER_SCHOOLS
from linnaea.taxonomy.label_forms import read_label
from linnaea.taxonomy.label_words import binomial_of_words, looks_latin
from linnaea.taxonomy.name_parser import VIRUS, FoundName, is_sound, parse_all, read_result, without_markers
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.readings import LabelReading, Rejection
from linnaea.taxonomy.remarks import REMARKS, is_plainly_latin
from linnaea.taxonomy.taxon import Taxon


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedName:
    """The readings of a label: as ``name``, as ``vernacular``, or as either."""

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
    """True if the label gives a scientific name and a vernacular name of one taxon."""
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
    parsed = iter(parse_all(texts))
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
        again = reading if isinstance(reading, Rejection) else _combine(reading, parse_all([reading.scientific])[0])
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
        kingdom = KINGDOMS_OF_OTHER_SCHOOLS.get(parsed.ranks[0].lower(), parsed.ranks[0])
        return Taxon.of(
            dict(zip(RANK_LABELS, (kingdom, *parsed.ranks[1:]), strict=True)), common_name=parsed.vernacular
        )
    is_latin = parsed.rank is Rank.GENUS or looks_latin(parsed.species)
    if (parsed.doubt and parsed.rank is not None and is_latin) or (len(parsed.together) > 1 and not parsed.is_pair):
        return Taxon.of(genus=parsed.genus)
    if parsed.doubt:
        return Taxon.of(common_name=parsed.text)
    if parsed.rank is Rank.SPECIES and not parsed.qualifier and _plainly_scientific(label, parsed):
        return Taxon.of(genus=parsed.genus, species=parsed.species)
    return Taxon.of(common_name=parsed.vernacular or parsed.text)


def _plainly_scientific(label: str, parsed: ParsedName) -> bool:
    """Return whether a label is a scientific name by its form: an author, or a second word that looks Latin."""
    words = parsed.text.split(" ")
    if parsed.is_pair or parsed.ancestors:
        return looks_latin(parsed.species)
    if parsed.species.lower() in REMARKS:  # "Monarch larva"
        return False
    if parsed.authorship:
        return looks_latin(parsed.species) and parsed.text[:1].isupper()
    if len(words) != len(parsed.name.split(" ")):
        return looks_latin(parsed.species) and parsed.name in parsed.text
    if not any(separator in label.strip() for separator in " _-"):  # AbiesAlba2
        return looks_latin(parsed.species)
    # "Snow Leopard" capitalises both words, "Acer glabrum" only the first; "false_positive" has no capital at all.
    plain = (parsed.text.islower() or parsed.text.isupper()) and is_plainly_latin(words[0], words[1])
    return plain or (words[0][:1].isupper() and words[1][:1].islower())


def _combine(reading: LabelReading, parsed: Any) -> ParsedName | Rejection:
    if (binomial := binomial_of_words(reading.scientific)) is not None:
        authorship = reading.scientific[len(binomial) :].strip()
        return ParsedName(text=reading.text, name=binomial, rank=Rank.SPECIES, authorship=authorship)
    found = read_result(reading, parsed) if reading.scientific else FoundName()
    if isinstance(found, Rejection):
        return found
    if reading.qualifier:
        found.qualifier, found.rank = reading.qualifier, Rank.GENUS
    if VIRUS not in found.notes:
        found.name = found.name[:1].upper() + found.name[1:].lower()
    if not is_sound(found.name) and VIRUS not in found.notes:
        found = without_markers(found)
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
