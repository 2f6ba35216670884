"""The columns of names in input tables and in answers.

``species`` has two meanings, which are defined only here:

- :data:`NAME_COLUMNS` (input tables, ``taxa.parquet``, ``taxonomy resolve``): ``species`` is the epithet alone, and
  ``scientific_name`` the full name.
- :data:`ANSWER_COLUMNS` (``predict``, REST, the page): pybioclip's, in which ``species`` is the binomial and
  ``species_epithet`` the epithet.
"""

from collections.abc import Collection, Sequence

import polars as pl

from linnaea.tables import find_column
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

NAME_COLUMNS = (*RANK_LABELS, "scientific_name", "common_name")
"""Columns of input tables and of ``taxa.parquet``. An input ``species`` that begins with its genus is read as a
binomial (:func:`linnaea.taxonomy.row.read_taxon`)."""

_OTHER_HEADERS: dict[str, tuple[str, ...]] = {
    **{rank: (f"taxon_{rank}_name",) for rank in RANK_LABELS},  # iNaturalist's export of observations
    "species": ("taxon_species_name", "specificEpithet", "species_epithet", "specific_epithet"),
    "scientific_name": (
        *("scientificName", "scientific name", "latin name", "wissenschaftlicher Name", "nom scientifique"),
        *("nombre científico", "nombre cientifico", "nome científico", "nome cientifico", "nome scientifico"),
        "wetenschappelijke naam",
    ),
    "common_name": ("vernacularName", "vernacular_name", "common name"),
}
"""Headers of exports that mean one of :data:`NAME_COLUMNS`, by that column."""

_NAME_BESIDE_SCIENTIFIC = ("species name",)
"""Headers of common names where another column has the scientific name (observation.org's export)."""


QUALIFIER_HEADERS = ("identificationQualifier", "identification_qualifier")
"""Headers of the column that states a doubt about the name of its row (Darwin Core)."""


def lowest_name(ranks: Sequence[str] = RANK_LABELS) -> pl.Expr:
    """Return the name at the lowest of these rank columns (kingdom first) that has one; null if none has."""
    return pl.coalesce(pl.when(pl.col(rank) != "").then(rank) for rank in reversed(ranks))


def scientific_name() -> pl.Expr:
    """Return :attr:`Taxon.scientific_name` from the seven rank columns, which are ``""`` where unnamed."""
    binomial = pl.when((pl.col("species") != "") & (pl.col("genus") != "")).then(
        pl.concat_str("genus", pl.lit(" "), "species")
    )
    return binomial.otherwise(lowest_name(RANK_LABELS[: Rank.SPECIES])).fill_null("")


def find_name_column(columns: Sequence[str], name: str) -> str:
    """Return the header of the column that means ``name`` (one of :data:`NAME_COLUMNS`), or ``""``.

    The layouts of iNaturalist's, Wildlife Insights', GBIF's and observation.org's exports are known.
    """
    found = find_column(columns, name, *_OTHER_HEADERS.get(name, ()))
    if not found and name == "common_name" and find_name_column(columns, "scientific_name"):
        found = find_column(columns, *_NAME_BESIDE_SCIENTIFIC)
    return found


def match_name_columns(columns: Sequence[str], kept: Collection[str] = ()) -> dict[str, str]:
    """Map the headers that mean one of :data:`NAME_COLUMNS` to it; headers in ``kept`` keep their name."""
    found = {find_name_column(columns, name): name for name in reversed(NAME_COLUMNS) if name not in columns}
    return {header: name for header, name in found.items() if header and header not in kept}


RESULT_COLUMNS = ("status", "matched_name", "rank", *NAME_COLUMNS, "checklist", "note")
"""Columns that ``taxonomy resolve`` adds, one row per name."""

TAXON_COLUMNS = (*RANK_LABELS[: Rank.SPECIES], "species_epithet", "species", "common_name", "score", "rank")
"""Columns of the taxon of an answer."""

ANSWER_COLUMNS = (
    "file_name",
    *TAXON_COLUMNS,
    "status",
    "reason",
    "prior",
    "bbox",
    "detection_confidence",
    "detection_category",
    "event",
)
"""What ``predict`` writes: pybioclip's columns up to ``score``, ours after them.

``status`` is ``ok``, ``abstained`` or ``failed``; the last two come with a ``reason``. With ``ok``, a ``reason`` is a
note on the file, such as a raw photograph that was read by its preview. ``prior`` says, where there was
one, whether it ``changed`` the first answer or left it the ``same``. ``bbox``, of a detected part: left, top, width and
height as shares of the picture; ``detection_confidence`` and ``detection_category``, its word for what is in the box,
are the detector's. ``event`` is the same for photographs of one event (``--sequence-gap``).
"""


REVIEW_COLUMNS = ("review", "reviewed_by", "reviewed_at")
"""What files of answers have after :data:`ANSWER_COLUMNS` if they are written with the decisions of reviewers.

``review`` is ``confirmed``, ``corrected``, ``cannot tell``, ``nothing there`` or ``disputed``; empty before a review.
"""


def answer_names(taxon: Taxon) -> dict[str, str]:
    """Return the names of a taxon under :data:`ANSWER_COLUMNS`; ``species`` is empty above species rank."""
    return {
        **dict(zip(RANK_LABELS[: Rank.SPECIES], taxon.lineage, strict=False)),
        "species_epithet": taxon.species,
        "species": taxon.scientific_name if taxon.species else "",
        "common_name": taxon.common_name,
    }
