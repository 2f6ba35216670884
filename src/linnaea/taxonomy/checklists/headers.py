"""Find what the columns of a checklist mean, however their headers are written.

Darwin Core, ColDP, GBIF's species lists and plain tables share one vocabulary: a column is known by the letters of its
header, so ``taxonID``, ``taxon_id``, ``col:taxonID`` and ``Taxon Id`` are one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from linnaea.taxonomy.checklists.rank_words import full_words, without_accents
from linnaea.taxonomy.ranks import RANK_LABELS

WORDS: Mapping[str, Sequence[str]] = {
    "id": ("taxonid", "taxonkey", "aphiaid", "plantnameid", "cdnom", "id", "speciescode", "code", "recordno"),
    "parent": (
        *("parentnameusageid", "parenttaxonid", "parentid", "highertaxonid", "highernameusageid", "parentkey"),
        *("parentplantnameid", "cdsup"),
    ),
    "accepted": (
        *("acceptednameusageid", "acceptedtaxonid", "acceptedtaxonkey", "acceptedid", "acceptedkey", "aphiaidaccepted"),
        *("acceptedaphiaid", "validaphiaid", "acceptedplantnameid", "cdref", "recordlnk"),
    ),
    "parent_name": ("parentnameusage", "parentname", "parent", "parentsciname"),
    "accepted_name": (
        *("acceptednameusage", "acceptedname", "acceptedscientificname", "scientificnameaccepted", "acceptedsciname"),
        *("synonymof", "validname", "validscientificname", "nomvalide"),
    ),
    "status": ("taxonomicstatus", "taxonstatus", "status"),
    "rank": ("taxonrank", "rank", "rang"),
    "name": (
        *("scientificname", "sciname", "name", "taxonname", "latinname", "taxon", "scientificnamewithauthor", "lbnom"),
        *("nomscientifique", "wissenschaftlichername", "nombrecientifico", "nomecientifico", "nomescientifico"),
        *("wetenschappelijkenaam", "nomcomplet"),
    ),
    "canonical": ("canonicalname",),
    "authorship": (
        *("scientificnameauthorship", "authorship", "author", "authors", "authority", "taxonauthors", "lbauteur"),
    ),
    "uninomial": ("uninomial",),
    "generic": ("genericname", "genusname"),
    "epithet": ("specificepithet", "speciesepithet", "epithet", "spepithet"),
    "infraspecific": (
        "infraspecificepithet",
        "infraspeciesepithet",
        "subspeciesepithet",
        "infraspecies",
        "subspepithet",
    ),
    "common_name": ("commonname", "vernacularname", "englishname", "primarycomname", "nomverneng"),
    **{label: (label, *full_words(label)) for label in RANK_LABELS},
    "class": ("class", "cls", *full_words("class")),
}
"""Headers of each column in order of preference, by their letters and digits in lower case.

Among them are those of WoRMS (``AphiaID``), POWO (``accepted_plant_name_id``), TAXREF (``CD_REF``), LPSN
(``record_lnk``), Symbiota (``acceptedsciname``) and USDA PLANTS.
"""

_BEHIND_A_PREFIX = {word for words in WORDS.values() for word in words if len(word) > 8} | {
    *RANK_LABELS, "taxonrank", "taxonid", "sciname", "taxonkey",
}  # fmt: skip
"""Headers that are known with a prefix too (``avilist_family``); shorter ones would match by chance."""
_OTHER_TAXA = re.compile(
    r"(?i)(?:^|[\W_])(?:host|parent|type|original|accepted|valid|previous|old|former|verbatim|n|no|num|number|count|sub|super|"
    r"infra|parv|sister|prey|food|plant|symbiont|higher|basionym|other|not|in|per|of|raw|sort|extinct|typified|nominal|"
    r"alt|alternative|local|native|french|german|spanish|portuguese|dutch|italian|swedish|japanese|chinese)$"
)
"""Prefixes of columns that do not name the taxon of their row."""


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What the columns of a table mean."""

    found: Mapping[str, str]
    """The header by the name of its column (:data:`WORDS`)."""
    unused: tuple[str, ...]
    """The headers that mean nothing here."""


def find_headers(headers: Sequence[str], words: Mapping[str, Sequence[str]] = WORDS) -> Headers:
    """Return what each header means; of several for a column the preferred one, exact ones before prefixed ones."""
    keys = {header: header_key(header) for header in headers}
    found: dict[str, str] = {}
    for column, accepted in words.items():
        exact = next((header for word in accepted for header in headers if keys[header] == word), None)
        if exact is not None:
            found[column] = exact
    taken = set(found.values())
    for column, accepted in words.items():
        if column not in found:
            longer = (header for word in accepted for header in headers
                      if header not in taken and _without_prefix(header) == word)  # fmt: skip
            if (first := next(longer, None)) is not None:
                found[column] = first
                taken.add(first)
    return Headers(found=found, unused=tuple(header for header in headers if header not in taken))


def header_key(header: str) -> str:
    """Return the letters and digits of a header in lower case, without its namespace (``col:``, ``dwc:``)."""
    return re.sub(r"[^a-z0-9]", "", without_accents(re.sub(r"^\s*\ufeff?\w+:(?=\w)", "", header)).lower())


def _without_prefix(header: str) -> str:
    """Return the key of the known term behind a prefix (``family`` of ``avilist_family``), or ``""``."""
    for cut in re.finditer(r"[\W_]+|(?<=[a-z])(?=[A-Z])", header.strip()):
        before, rest = header[: cut.start()], header_key(header[cut.end() :])
        if rest in _BEHIND_A_PREFIX and not _OTHER_TAXA.search(before):
            return rest
    return ""
