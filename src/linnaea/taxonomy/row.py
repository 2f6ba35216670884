"""Read the taxon of a table row, or return the reason why it has none. Every table of taxa is read by this rule."""

import re
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import polars as pl

from linnaea.taxonomy.checklists.records import KINGDOMS_OF_OTHER_SCHOOLS
from linnaea.taxonomy.columns import find_name_column
from linnaea.taxonomy.doubts import SAID
from linnaea.taxonomy.names import parse_label, taxon_from_label
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.readings import PLACEHOLDER, Rejection
from linnaea.taxonomy.remarks import split_remark, with_remark
from linnaea.taxonomy.taxon import Taxon

LabelReader: TypeAlias = Callable[[str], Taxon | str]
"""A function that returns the taxon that a label names, or the reason why it names none."""

MergeBy: TypeAlias = Literal["class", "taxon"]
"""Which labels are one class: those of one taxon and the same remark ("Danaus plexippus larva"), or of one taxon."""

NO_NAME = "no name at any rank"
"""The reason for a row without a name."""

_PLAIN_EPITHET = re.compile(r"[a-z]+(?:-[a-z]+)*")


def read_taxon(
    row: Mapping[str, str | None], label: str = "", label_to_taxon: LabelReader | None = None
) -> Taxon | str:
    """Read the taxon of a row, or return the reason why it has none.

    The rank columns are used first, then ``scientific_name``, then ``label``, then ``common_name`` alone. Null words
    (:data:`linnaea.taxonomy.readings.PLACEHOLDER`) are not names. A kingdom of another school is written as ours
    (Metazoa is Animalia). ``species`` may be an epithet or a whole name, with or without its author. Text after the
    epithet is dropped if it belongs to a name, and kept if it is a code (BOLD's "sp. 3BZ").

    The formula of a hybrid and a doubtful name are their genus, whatever the column of the epithet says; a named hybrid
    is its species. A given species is kept in all other cases.

    Args:
        row: Cells by :data:`linnaea.taxonomy.columns.NAME_COLUMNS`; other cells are ignored, missing cells are empty.
        label: A name of any kind, used if the row has no rank and no scientific name.
        label_to_taxon: The reader of ``scientific_name`` and ``label``; by default :func:`class_from_label`.
    """
    ranks = {rank: tidy_name(row.get(rank)) for rank in RANK_LABELS}
    ranks["kingdom"] = KINGDOMS_OF_OTHER_SCHOOLS.get(ranks["kingdom"].lower(), ranks["kingdom"])
    common_name = tidy_name(row.get("common_name"))
    if any(ranks.values()):
        odd = _read_odd_name(
            ranks["genus"], ranks["species"], tidy_name(row.get("scientific_name")) or tidy_name(label)
        )
        genus, epithet = odd or _read_species(ranks["genus"], ranks["species"])
        ranks |= {"genus": ranks["genus"] or genus, "species": epithet}
        try:
            return Taxon.of(ranks, common_name=common_name)
        except ValueError as error:
            return str(error)
    if name := tidy_name(row.get("scientific_name")) or tidy_name(label):
        taxon = (label_to_taxon or class_from_label)(name)
        if isinstance(taxon, Taxon) and common_name and not taxon.common_name:
            return Taxon(taxon.lineage, common_name=common_name, authorship=taxon.authorship)
        return taxon
    return Taxon.of(common_name=common_name) if common_name else NO_NAME


_ODD = re.compile(
    r"[×✕?/]|\s[xX+]\s|^[xX]\s|\bp\. ?p\.|(?:^|[\s_([])"
    rf"(?:{SAID}|near|auct|sensu|non|nec|or|gr|grp|group|complex)\b(?!-)",
    re.IGNORECASE,
)
"""Marks of hybrids, of several species and of doubt."""


def is_odd(name: str) -> bool:
    """Return whether a name has a mark of a hybrid or of doubt, so that columns beside it cannot be trusted."""
    return bool(_ODD.search(name))


def _read_odd_name(genus: str, species: str, name: str) -> tuple[str, str] | None:
    """Return the genus and epithet of a hybrid or of a doubtful name; ``None`` for any other name."""
    own = species if species.split(" ", maxsplit=1)[0].lower() == genus.lower() or not genus else f"{genus} {species}"
    text = next((text for text in (name, own) if is_odd(text)), "")
    if not text:
        return None
    parsed = parse_label(text)
    if isinstance(parsed, Rejection) or not (parsed.hybrid or parsed.doubt or parsed.qualifier):
        return None
    if genus and parsed.doubt and not parsed.genus:  # "Q. robur × petraea" beside Quercus
        return (genus, "") if parsed.vernacular[:1] == genus[:1] else None
    first = parsed.together[0].split(" ")[0] if parsed.together else parsed.genus
    if genus and first.lower() != genus.lower():
        return None
    if parsed.together and not parsed.name:
        return "", ""
    named_hybrid = parsed.hybrid and not (parsed.together or parsed.doubt or parsed.qualifier)
    return parsed.genus, parsed.species if named_hybrid else ""


_MARK = r"(?i)(?:^|[\s(])(cf|conf|aff|nr)\b"
_DOUBTFUL = rf"(?i)\?|incert|doubt|dubi|(?:^|[\s(\[])(?:{SAID}|near|gr|group|complex|auct|non|nec|not)\b"
_BELOW_SPECIES = r"(?i)\b(?:subsp|ssp|var|f|forma|subspecies)\b"


def with_doubt(names: pl.Expr, qualifiers: pl.Expr) -> pl.Expr:
    """Return names with the doubt that ``identificationQualifier`` states in front: "aff. Quercus robur L.".

    A doubt about a rank below the species ("cf. var. alba") leaves the species certain.
    """
    text = qualifiers.cast(pl.String, strict=False).fill_null("")
    mark = pl.coalesce(text.str.extract(_MARK, 1).str.to_lowercase() + ".", pl.lit("?"))
    doubtful = text.str.contains(_DOUBTFUL) & ~text.str.contains(_BELOW_SPECIES) & (names.fill_null("") != "")
    return pl.when(doubtful).then(pl.concat_str(mark, pl.lit(" "), names)).otherwise(names)


def class_from_label(label: str) -> Taxon | str:
    """Return the class that a label names: its taxon, with the words that the name does not explain.

    "Danaus plexippus larva" and "Danaus plexippus adult" are two classes of one species
    (:func:`linnaea.taxonomy.remarks.with_remark`).
    """
    name, remark = split_remark(label)
    taxon = taxon_from_label(name)
    return with_remark(taxon, remark) if remark and isinstance(taxon, Taxon) else taxon


def label_reader(merge_by: MergeBy) -> LabelReader:
    """Return the reader of labels for a rule of ``merge_by``."""
    return taxon_from_label if merge_by == "taxon" else class_from_label


def read_binomials(table: pl.DataFrame) -> pl.Series | None:
    """Return the names that the columns genus and species (in any case) form together, one per row.

    A species that begins with a capital is a whole name. A genus without a species is a name, too. Return
    ``None`` if the table lacks either column.
    """
    columns = [find_name_column(table.columns, rank) for rank in ("genus", "species")]
    if not all(columns):
        return None
    genus, species = (tidy_names(pl.col(column)) for column in columns)
    whole = species.str.contains(r"^\p{Lu}\S* \S") | (genus == "")
    return table.select(name=pl.when(whole).then(species).otherwise(pl.concat_str(genus, species, separator=" ")))[
        "name"
    ].str.strip_chars()


def tidy_names(cells: pl.Expr) -> pl.Expr:
    """Return the cells of a column as :func:`tidy_name` does for one cell."""
    text = cells.cast(pl.String, strict=False).fill_null("").str.replace_all(r"[\s\pC]+", " ").str.strip_chars()
    null = text.str.contains(rf"^(?i:{PLACEHOLDER.pattern})$") & ~text.str.contains(r"[0-9]")
    return pl.when(~null).then(text).otherwise(pl.lit(""))


def tidy_name(cell: str | None) -> str:
    """Return a cell without stray white space and control characters, or ``""`` if it is a null word.

    A word with digits is kept: it may be the number of a class or the code of a species.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in cell or "").split())
    return "" if PLACEHOLDER.fullmatch(text) and not any(c in "0123456789" for c in text) else text


def _read_species(genus: str, species: str) -> tuple[str, str]:
    """Return the genus and epithet of a cell in the species column."""
    words = species.split()
    if len(words) < 2:
        return genus, species
    own = not genus or words[0].lower() == genus.lower()
    if own and genus and len(words) == 2 and _PLAIN_EPITHET.fullmatch(words[1]):
        return genus, words[1]
    if not own and words[0] in ("×", "x"):
        return genus, species
    whole = own or words[0][:1].isupper()
    parsed = parse_label(species if whole else f"{genus} {species}")
    if not isinstance(parsed, Rejection) and parsed.species:
        return parsed.genus, parsed.species
    return (genus or words[0], " ".join(words[1:])) if own else (genus, species)
