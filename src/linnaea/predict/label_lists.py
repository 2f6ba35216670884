"""Read what people give as labels: data sets, tables and lists of names, checklists, plain words and bins."""

import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.counting import count
from linnaea.data.naming import N_SHOWN, NamingRule, settle_classes
from linnaea.data.shards import TAXA_SCHEMA, make_taxa_table, read_taxa_table, taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.predict.labels import TAXA_FILE
from linnaea.tables import find_column, is_table, read_list, read_table, shorten_columns
from linnaea.taxonomy.checklists.store import Checklist
from linnaea.taxonomy.columns import NAME_COLUMNS, match_name_columns, scientific_name
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.row import LabelReader, label_reader, read_taxon
from linnaea.taxonomy.taxon import Taxon

_log = logging.getLogger(__name__)


def read_taxa(path: Path, rule: NamingRule = NamingRule()) -> pl.DataFrame:  # noqa: B008  (frozen)
    """Read the taxa of a data set, a model folder, a bank, a table with rank columns, or a file with a name per line.

    Args:
        path: The folder or file.
        rule: Whether and how checklists resolve the names of a file; a complete lineage is kept as it is. What was not
            found, is doubtful, or was merged is logged.

    Raises:
        LinnaeaError: there is no such file or folder, or it has no names.
    """
    if path.is_dir():
        if not (path / TAXA_FILE).exists():
            raise LinnaeaError(f"{path}: has no {TAXA_FILE}; give a data set, a label bank or a file of labels")
        return _in_order(read_taxa_table(path / TAXA_FILE, kind="a table of taxa").select(list(TAXA_SCHEMA)))
    if not path.exists():
        raise LinnaeaError(f"{path}: no such file; give a data set, a label bank or a file of labels")
    labels = (_labels_of_table if is_table(path) else _labels_of_list)(path, label_reader(rule.merge_by))
    return make_label_taxa(labels, rule, str(path))


def make_label_taxa(labels: Sequence[tuple[str, Taxon | str]], rule: NamingRule, source: str) -> pl.DataFrame:
    """Return the taxa of labels, each with the taxon that was read from it or the reason why there is none.

    Raises:
        LinnaeaError: no label names a taxon.
    """
    named = [(label, taxon) for label, taxon in labels if isinstance(taxon, Taxon)]
    if not named:
        raise LinnaeaError(f"{source}: has no labels")
    short = [(label, taxon) for label, taxon in named if not is_complete(taxon)]
    taxa, lines = settle_classes(short, rule) if short else ([], [])
    if refused := [f"{label!r}: {taxon}" for label, taxon in labels if label.strip() and not isinstance(taxon, Taxon)]:
        shown = "; ".join(refused[:N_SHOWN]) + ("; ..." if len(refused) > N_SHOWN else "")
        lines = [f"not a name: {count(len(refused), 'label')} ({shown})", *lines]
    for line in lines:
        _log.warning("%s: %s", source, line)
    return make_taxa_table([*taxa, *(taxon for _, taxon in named if is_complete(taxon))])


def taxa_of_checklist(checklist: Checklist) -> pl.DataFrame:
    """Return the species of a checklist as a taxon table (:data:`linnaea.data.shards.TAXA_SCHEMA`), depth-first."""
    species = checklist.taxa.filter(pl.col("rank") == int(Rank.SPECIES))
    names = species.select(*(pl.col(name).cast(pl.String).fill_null("") for name in (*RANK_LABELS, "common_name")))
    names = names.filter((pl.col("genus") != "") & (pl.col("species") != "")).unique(RANK_LABELS, keep="first")
    names = names.sort(*RANK_LABELS, "common_name").with_row_index("taxon_id")
    return names.with_columns(scientific_name=scientific_name()).select(
        pl.col(name).cast(kind) for name, kind in TAXA_SCHEMA.items()
    )


def _in_order(taxa: pl.DataFrame) -> pl.DataFrame:
    """Sort taxa depth-first, since other tools may not; a taxon in two places would count as two."""
    names = taxa.select(*RANK_LABELS, "common_name").fill_null("")
    if names.equals(names.sort(names.columns)):
        return taxa
    return make_taxa_table(taxa_from_table(taxa))


def is_complete(taxon: Taxon) -> bool:
    """Return whether every rank above a taxon is named."""
    return taxon.rank is not None and all(taxon.lineage[: taxon.rank])


def _labels_of_list(path: Path, read: LabelReader) -> list[tuple[str, Taxon | str]]:
    return [(line, read_taxon({}, line, read)) for line in read_list(path).rows["name"]]


def _labels_of_table(path: Path, read: LabelReader) -> list[tuple[str, Taxon | str]]:
    table = read_table(path, columns=NAME_COLUMNS).rows
    table = table.rename(match_name_columns(table.columns))
    ranked = any(rank in table.columns for rank in RANK_LABELS)
    label = find_column(table.columns, "scientific_name", "label", "name", "common_name")
    if not ranked and not label:
        raise LinnaeaError(f"{path}: has no column scientific_name, label or name, and none named after a rank;"
                           f" it has {shorten_columns(table.columns)}")  # fmt: skip
    if not ranked and label == "common_name":  # such a column may also hold scientific names
        table = table.rename({label: "label"})
        label = "label"
    labels = list[tuple[str, Taxon | str]]()
    for number, row in enumerate(table.iter_rows(named=True), start=2):
        taxon = read_taxon(row, row.get(label, ""), read)
        if ranked and not isinstance(taxon, Taxon):
            raise LinnaeaError(f"{path}: row {number}: {taxon}")
        labels.append(("" if ranked else row[label], taxon))
    return labels


def read_bins(path: Path) -> pl.DataFrame:
    """Read ``label`` and ``bin``, the first two columns of a table under any name, in the order of the bins.

    Raises:
        LinnaeaError: the table has no second column, or a label has no bin or several.
    """
    table = read_table(path).rows
    if table.width < 2:
        had = shorten_columns(table.columns)
        raise LinnaeaError(f"{path}: bins need two columns, a label and its bin; it has {had}")
    table = table.select(
        label=pl.nth(0).fill_null("").str.strip_chars(), bin=pl.nth(1).fill_null("").str.strip_chars()
    ).unique(maintain_order=True)
    table = table.filter((pl.col("label") != "") | (pl.col("bin") != ""))
    for row in table.filter((pl.col("bin") == "") | (pl.col("label") == "")).iter_rows():
        raise LinnaeaError(f"{path}: {' '.join(row)!r} lacks its label or its bin")
    for label in table.filter(pl.col("label").is_duplicated())["label"]:
        raise LinnaeaError(f"{path}: {label!r} is in two bins")
    if table.is_empty():
        raise LinnaeaError(f"{path}: has no labels")
    return table.sort("bin", maintain_order=True)


def read_words(given: str) -> pl.DataFrame:
    """Return the bins (:func:`read_bins`) of words that are each a bin: ``cat,dog``, or a file with one per line.

    Raises:
        LinnaeaError: there are no words.
    """
    path = Path(given)
    parts = read_list(path).rows["name"].to_list() if path.is_file() else given.split(",")
    words = [word for part in parts if (word := " ".join(part.split()))]
    if not words:
        raise LinnaeaError(f"{given!r}: no words given; write cat,dog or a file with one per line")
    return make_word_bins(words)


def make_word_bins(words: Sequence[str]) -> pl.DataFrame:
    """Return the bins of words that are each a bin, in the order of the bins."""
    distinct = pl.DataFrame({"label": list(words)}).unique(maintain_order=True)
    return distinct.with_columns(bin="label").sort("bin")
