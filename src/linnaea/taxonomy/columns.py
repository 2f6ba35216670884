"""The columns of names in input tables and in answers.

``species`` has two meanings, which are defined only here:

- :data:`NAME_COLUMNS` (input tables, ``taxa.parquet``, ``taxonomy resolve``): ``species`` is the epithet alone, and
  ``scientific_name`` the full name.
- :data:`ANSWER_COLUMNS` (``predict``, REST, the page): pybioclip's, in which ``species`` is the binomial and
  ``species_epithet`` the epithet.
"""

from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

NAME_COLUMNS = (*RANK_LABELS, "scientific_name", "common_name")
"""Columns of input tables and of ``taxa.parquet``. An input ``species`` that begins with its genus is read as a
binomial (:func:`linnaea.taxonomy.row.read_taxon`)."""

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
)
"""What ``predict`` writes: pybioclip's columns up to ``score``, ours after them.

``status`` is ``ok``, ``abstained`` or ``failed``; the last two come with a ``reason``. ``prior`` says, where there was
one, whether it ``changed`` the first answer or left it the ``same``. ``bbox``, of a detected part: left, top, width and
height as shares of the picture; ``detection_confidence`` is the detector's.
"""


def answer_names(taxon: Taxon) -> dict[str, str]:
    """Return the names of a taxon under :data:`ANSWER_COLUMNS`; ``species`` is empty above species rank."""
    return {
        **dict(zip(RANK_LABELS[: Rank.SPECIES], taxon.lineage, strict=False)),
        "species_epithet": taxon.species,
        "species": taxon.scientific_name if taxon.species else "",
        "common_name": taxon.common_name,
    }
