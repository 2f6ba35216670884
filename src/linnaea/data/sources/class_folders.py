"""The parser of class folders: it finds which folder above a photograph names its class.

The class is the deepest folder that names a taxon within the taxon above it. Taxon folders above the class are its
lineage. If no folder names a taxon, the class is the first folder below the root or below a split folder. Folders
below the class (cameras, dates, life stages, sexes) belong to it. :func:`read_class_folders` is a pure function of
folder names: it opens no file, and it asks a checklist only if the names are ambiguous.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from linnaea.counting import count
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.label_words import looks_latin
from linnaea.taxonomy.names import ParsedName, parse_labels, taxon_from_label
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank
from linnaea.taxonomy.remarks import PICTURES, REMARKS
from linnaea.taxonomy.taxon import Taxon

Folder = tuple[str, ...]
"""The folder names on the way from the root (excluded) to a folder that holds photographs."""

FindTaxa = Callable[[Collection[str]], Mapping[str, Sequence[Taxon]]]
"""Returns the taxa with each scientific name (several for homonyms); unknown names are left out."""

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "train_mini"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "public_test"), "test"),
}
"""Lower-case names of split folders, and the split that each one means."""

NOTES = REMARKS | PICTURES
"""Words that describe photographs and never name a class."""

N_SHOWN = 3
"""Number of folders per level that a message or a line of the report shows."""


@dataclass(frozen=True, kw_only=True)
class FolderReading:
    """The meaning of the folders above a photograph."""

    label: str
    """The name of the class folder, or ``""`` if there is none."""
    level: int
    """The level of the class folder, counted from 1 below the root; 0 if there is none."""
    lineage: tuple[Taxon, ...] = ()
    """The taxa of the folders above the class, highest first."""
    lineage_levels: tuple[int, ...] = ()
    """The levels of those folders."""
    split: str = ""
    """The split that a folder names, or ``""``."""
    rest: tuple[str, ...] = ()
    """The names of the folders below the class, without split folders."""


@dataclass(frozen=True, kw_only=True)
class FolderTree:
    """The reading of every folder with photographs below a root."""

    readings: Mapping[Folder, FolderReading]
    levels: tuple[str, ...]
    """One line per level, for example ``level 1: split (train, test)``."""


@dataclass(frozen=True, kw_only=True)
class _Sighting:
    """A folder name that may name a taxon."""

    name: str
    """The canonical name, as a checklist writes it."""
    is_binomial: bool
    """True if the name has two words. A binomial is rarely anything else; one word may also be a place (Cyprus is a
    genus of weevils)."""
    taxa: tuple[Taxon, ...]
    """The candidates, by the form of the name or by a checklist; empty if the name is not a taxon."""
    is_known: bool = False
    """True if a checklist has the name."""


_Link = tuple[int, _Sighting]
"""A position among a folder's names, and the taxon at that position."""


def read_class_folders(folders: Iterable[Folder], find_taxa: FindTaxa, *, class_level: int = 0) -> FolderTree:
    """Return the reading of each folder that holds photographs, and of each level.

    Args:
        folders: the folder names below the root; the root itself, ``()``, has no class
        find_taxa: looks names up in a checklist; called at most once, and only for nested folders
        class_level: the level that holds the classes, counted from 1; 0 finds it by the names

    Raises:
        LinnaeaError: the levels contradict each other; the message shows folders and names ``--class-level``.
    """
    distinct = sorted(set(folders))
    sightings = _see_taxa(distinct, find_taxa)
    if class_level:
        above = {folder: _find_chain(folder[: class_level - 1], sightings, strict=False) for folder in distinct}
        readings = {folder: _read_at(folder, class_level, chain) for folder, chain in above.items()}
    else:
        readings = {folder: _read_folder(folder, _find_chain(folder, sightings)) for folder in distinct}
        _raise_if_undecided(readings, {name for name, sighting in sightings.items() if sighting.is_binomial})
    return FolderTree(readings=readings, levels=tuple(_describe_levels(readings)))


def split_of(name: str) -> str:
    """Return the split that a folder name means, or ``""``."""
    return SPLIT_FOLDERS.get(name.lower(), "")


# One folder.


def _read_folder(folder: Folder, chain: Sequence[_Link]) -> FolderReading:
    names = [at for at, name in enumerate(folder) if not split_of(name)]
    splits = [at for at, name in enumerate(folder) if split_of(name)]
    if not names:
        return _read_at(folder, 0, ())
    below_split = [at for at in names if splits and at > splits[0]]
    at = chain[-1][0] if chain else (below_split or names)[0]
    return _read_at(folder, at + 1, chain)


def _read_at(folder: Folder, level: int, chain: Sequence[_Link]) -> FolderReading:
    split = next((split_of(name) for at, name in enumerate(folder) if split_of(name) and at != level - 1), "")
    if not 0 < level <= len(folder):
        return FolderReading(label="", level=0, split=split)
    above = [(at + 1, sighting.taxa[0]) for at, sighting in chain if at < level - 1]
    return FolderReading(
        label=folder[level - 1],
        level=level,
        lineage=tuple(taxon for _, taxon in above),
        lineage_levels=tuple(number for number, _ in above),
        split=split,
        rest=tuple(name for name in folder[level:] if not split_of(name)),
    )


def _find_chain(folder: Folder, sightings: Mapping[str, _Sighting], *, strict: bool = True) -> tuple[_Link, ...]:
    """Return the folders that name taxa, each within the one before.

    A single word outside the taxon above it is not read as a taxon. A binomial outside the single words above it shows
    that those words are not taxa.

    Raises:
        LinnaeaError: two binomials contradict each other, and ``strict`` is true.
    """
    chain: list[_Link] = []
    for at, name in enumerate(folder):
        sighting = sightings.get(name)
        if sighting is None:
            continue
        inside = _within(sighting, chain)
        if not inside and sighting.is_binomial:
            last = chain[-1][1]
            if strict and last.is_binomial and last.is_known == sighting.is_known:
                two = f"{folder[chain[-1][0]]!r} and {name!r}"
                raise LinnaeaError(f"{'/'.join(folder)}: {two} both name a species; {_decide_by([folder])}")
            if last.is_binomial and last.is_known >= sighting.is_known:
                continue
            while chain and not (inside := _within(sighting, chain)):
                chain.pop()
            inside = inside or sighting.taxa
        if inside:
            chain.append((at, replace(sighting, taxa=inside)))
    return tuple(chain)


def _within(sighting: _Sighting, chain: Sequence[_Link]) -> tuple[Taxon, ...]:
    """Return the taxa of a name that lie within the last taxon of the chain."""
    if not chain:
        return sighting.taxa
    return tuple(taxon for taxon in sighting.taxa if any(_is_within(taxon, above) for above in chain[-1][1].taxa))


def _is_within(taxon: Taxon, above: Taxon) -> bool:
    """Return whether ``taxon`` is ``above`` or a part of it, by the ranks that both lineages fill."""
    lowest, rank = taxon.rank, above.rank
    if lowest is None or rank is None or lowest < rank:
        return False
    pairs = zip(taxon.lineage[: rank + 1], above.lineage[: rank + 1], strict=True)
    return all(not one or not other or one.lower() == other.lower() for one, other in pairs)


# Names.


def _see_taxa(folders: Sequence[Folder], find_taxa: FindTaxa) -> dict[str, _Sighting]:
    """Return the folder names that name a taxon; empty without a look-up if no folder is ambiguous."""
    nested = [names for folder in folders if len(names := [name for name in folder if not split_of(name)]) > 1]
    distinct = list(dict.fromkeys(name for names in nested for name in names if not _is_note(name)))
    found = dict(zip(distinct, _read_names(distinct), strict=True))
    sightings = {name: sighting for name, sighting in found.items() if sighting}
    if all(_is_plain(names, sightings) for names in nested):
        return {name: sighting for name, sighting in sightings.items() if sighting.is_binomial and sighting.taxa}
    asked = {sighting.name for sighting in sightings.values()}
    known = find_taxa(asked | {name.partition(" ")[0] for name in asked})
    return {name: seen for name, sighting in sightings.items() if (seen := _look_up(sighting, known)).taxa}


def _is_plain(names: Sequence[str], sightings: Mapping[str, _Sighting]) -> bool:
    """Return whether only the first name of a folder has the form of a binomial, as in ``Pica pica/CamA``."""
    seen = [sightings.get(name) for name in names]
    first = seen[0]
    if first is None:
        return not any(seen)
    return first.is_binomial and bool(first.taxa) and not any(one and one.is_binomial for one in seen[1:])


def _look_up(sighting: _Sighting, known: Mapping[str, Sequence[Taxon]]) -> _Sighting:
    if taxa := tuple(known.get(sighting.name, ())):
        return replace(sighting, taxa=taxa, is_known=True)
    genus, _, epithet = sighting.name.partition(" ")
    if not sighting.taxa or not epithet:
        return sighting
    genera = [taxon.lineage[: Rank.SPECIES] for taxon in known.get(genus, ()) if taxon.rank is Rank.GENUS]
    taxa = tuple(Taxon((*lineage, epithet.split()[0])) for lineage in genera)  # type: ignore[arg-type]
    return replace(sighting, taxa=taxa or sighting.taxa)


def _read_names(names: Sequence[str]) -> Iterator[_Sighting | None]:
    """Yield the taxon that each name may stand for, by its form alone."""
    for name, parsed in zip(names, parse_labels(names), strict=True):
        taxon = taxon_from_label(name)
        if isinstance(taxon, Taxon) and all(taxon.lineage):  # a class folder of iNat21
            yield _Sighting(name=taxon.scientific_name, is_binomial=True, taxa=(taxon,), is_known=True)
        elif not isinstance(parsed, ParsedName) or not parsed.name:
            yield None
        elif parsed.binomial and not parsed.qualifier:
            is_plain = isinstance(taxon, Taxon) and bool(taxon.species) and name[:1].isupper()
            taxa = (taxon,) if is_plain and looks_latin(parsed.genus) and looks_latin(parsed.species) else ()
            yield _Sighting(name=parsed.binomial, is_binomial=True, taxa=taxa)  # type: ignore[arg-type]
        elif parsed.qualifier or parsed.name.lower() == parsed.text.lower():
            yield _read_word(name, parsed.name)
        else:
            yield None


_FAMILY = re.compile(r"[A-Z][a-z]{2,}(?:idae|aceae)")


def _read_word(name: str, word: str) -> _Sighting | None:
    if not name[:1].isupper() and not name.lower().endswith(_HIGHER_ENDINGS):
        return None  # a genus is written with a capital; "data" is a word here, not the genus of snails
    taxa = (Taxon.of(family=word),) if _FAMILY.fullmatch(word) else ()
    return _Sighting(name=word, is_binomial=False, taxa=taxa)


_HIGHER_ENDINGS = ("idae", "aceae", "inae", "ales", "formes", "ptera", "aves", "mammalia", "reptilia", "amphibia",
                   "insecta", "arachnida", "plantae", "animalia", "fungi", "actinopterygii")  # fmt: skip


def _is_note(name: str) -> bool:
    """Return whether a name describes photographs: it has a digit or consists of :data:`NOTES`."""
    if any(character.isdigit() for character in name):
        return not _INAT21.fullmatch(name)
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return all(word in NOTES or len(word) == 1 for word in words)


_INAT21 = re.compile(rf"\d+(?:_[^_]*){{{N_RANKS}}}")


# Levels.


def _raise_if_undecided(readings: Mapping[Folder, FolderReading], species: Collection[str]) -> None:
    """Raise if a folder below a class may be a class itself, as other folders at its level are.

    An example is ``Aves/Northern Cardinal`` beside ``Aves/Pica pica``: the cardinal may be a class or a remark on
    birds. A folder below one of ``species`` is never a class.
    """
    notes = {name for reading in readings.values() if reading.label in species for name in reading.rest}
    deepest = max((reading.level for reading in readings.values()), default=0)
    for folder, reading in readings.items():
        if not reading.rest or reading.level >= deepest or reading.label in species:
            continue
        if _is_note(reading.rest[0]) or reading.rest[0] in notes:
            continue
        other = next(one for one, its in readings.items() if its.level == deepest)
        raise LinnaeaError(
            f"{'/'.join(folder)}: {reading.rest[0]!r} may be a class or belong to {reading.label!r}, and in"
            f" {'/'.join(other)} {other[deepest - 1]!r} is a class; {_decide_by(readings)}"
        )


def _decide_by(folders: Collection[Folder]) -> str:
    """Return the advice to use ``--class-level``, with the first folders of each level."""
    depth = max(len(folder) for folder in folders)
    names = (list(dict.fromkeys(folder[at] for folder in folders if len(folder) > at)) for at in range(depth))
    shown = "; ".join(f"{level}: {_show(some)}" for level, some in enumerate(names, start=1))
    return f"say which level holds the classes with --class-level N ({shown})"


def _describe_levels(readings: Mapping[Folder, FolderReading]) -> Iterator[str]:
    depth = max((len(folder) for folder in readings), default=0)
    for at in range(depth):
        roles: dict[str, Counter[str]] = {role: Counter() for role in ("split", "lineage", "class", "other")}
        for folder, reading in readings.items():
            if len(folder) > at:
                roles[_role(folder[at], at, reading)][folder[at]] += 1
        yield f"level {at + 1}: " + ", ".join(f"{role} ({_show(names)})" for role, names in roles.items() if names)


def _role(name: str, at: int, reading: FolderReading) -> str:
    if at == reading.level - 1:
        return "class"
    if split_of(name):
        return "split"
    return "lineage" if at + 1 in reading.lineage_levels else "other"


def _show(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:N_SHOWN])
    return f"{count(len(names), 'folder')}: {shown}, ..." if len(names) > N_SHOWN else shown


def add_lineage(taxon: Taxon, above: Sequence[Taxon]) -> Taxon:
    """Return ``taxon`` with its empty ranks filled from the folders above it."""
    named = {RANK_LABELS[one.rank]: one.lineage[one.rank] for one in above if one.rank is not None}
    own = {label: name for label, name in zip(RANK_LABELS, taxon.lineage, strict=True) if name}
    return Taxon.of(named | own, common_name=taxon.common_name)
