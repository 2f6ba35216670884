"""Open the labels that a model answers with: its own, or those that a user gives, as a bank of vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import polars as pl

from linnaea.data.naming import NamingRule
from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder
from linnaea.model.hub import find_published
from linnaea.predict.label_lists import make_label_taxa, make_word_bins, read_taxa, taxa_of_checklist
from linnaea.predict.labels import (
    CLASS_HEAD,
    VECTORS_FILE,
    LabelBank,
    find_own_labels,
    load_cached_bank,
    make_bin_bank,
)
from linnaea.predict.published import is_published_bank, open_bank, open_published_bank
from linnaea.progress import progress_bar
from linnaea.taxonomy.checklists.store import list_checklists, load_checklist
from linnaea.taxonomy.row import label_reader, read_taxon
from linnaea.taxonomy.taxon import Taxon, TextType

Labels: TypeAlias = str | Path | LabelBank | Sequence[str]
"""A label bank, data set, file of names, checklist (``inat``) or published model; an open bank; or names."""


def open_labels(
    encoder: Encoder,
    name: str,
    labels: Labels | None,
    text_type: TextType,
    naming: NamingRule = NamingRule(),  # noqa: B008  (frozen)
) -> LabelBank:
    """Return the bank of ``labels``, or the model's own labels, after checking that it belongs to the model.

    Raises:
        LinnaeaError: there are no labels, or they were encoded with another model.
    """
    if isinstance(labels, LabelBank):
        return labels
    if labels is None:
        return _open_own(encoder, name, text_type)
    if words := split_words(str(labels)) if isinstance(labels, str | Path) else labels:
        return _open_names(encoder, words, text_type, naming)
    return _open_place(encoder, str(labels), text_type, naming)


def _open_place(encoder: Encoder, labels: str, text_type: TextType, naming: NamingRule) -> LabelBank:
    """Return the bank of a published model, of a bank's folder or file, or of the names in a file or checklist."""
    if published := find_published(labels):
        return open_published_bank(published, encoder)
    place = Path(labels)
    if is_published_bank(place) or (place / VECTORS_FILE).exists():
        return open_bank(place, encoder)
    return _encode(encoder, _taxa_of(place, naming), text_type)


def _open_own(encoder: Encoder, name: str, text_type: TextType) -> LabelBank:
    """Return what the model answers with by default, which a published model has on the hub."""
    place = find_own_labels(name)
    if place is None:
        published = find_published(name)
        if published is None:
            raise LinnaeaError(f"{name}: has no taxa of its own; give --labels, a data set or a file of names")
        bank = open_published_bank(published, encoder)
        return bank if text_type == TextType.TAXON_COM else load_cached_bank(encoder, bank.taxa, text_type)
    if not (place / VECTORS_FILE).exists():
        return _encode(encoder, read_taxa(place), text_type)
    bank = LabelBank.open(place)
    if bank.facts.get("text_type") not in (text_type, CLASS_HEAD):
        return load_cached_bank(encoder, bank.taxa, text_type)
    return open_bank(place, encoder)


def split_words(labels: str) -> list[str]:
    """Return the names of ``a,b,c``; none if it is a file or folder, or has no comma."""
    if "," not in labels or Path(labels).exists():
        return []
    return [word for part in labels.split(",") if (word := " ".join(part.split()))]


def _open_names(encoder: Encoder, names: Sequence[str], text_type: TextType, naming: NamingRule) -> LabelBank:
    """Encode names as taxa, or plain words (none is a scientific name) in OpenAI's 80 templates, as pybioclip does."""
    read = label_reader(naming.merge_by)
    labels = [(name, read_taxon({}, name, read)) for name in names]
    words = [taxon.common_name if isinstance(taxon, Taxon) else name for name, taxon in labels]
    if words and not any(isinstance(taxon, Taxon) and any(taxon.lineage) for _, taxon in labels):
        return make_bin_bank(encoder, make_word_bins(words))
    return _encode(encoder, make_label_taxa(labels, naming, "labels"), text_type)


def _encode(encoder: Encoder, taxa: pl.DataFrame, text_type: TextType) -> LabelBank:
    with progress_bar("encoding labels", "labels") as on_progress:
        return load_cached_bank(encoder, taxa, text_type, on_progress=on_progress)


def _taxa_of(labels: Path, naming: NamingRule) -> pl.DataFrame:
    """Return the taxa of a file or folder, or of a checklist of that name."""
    if not labels.exists() and str(labels) in {entry.name for entry in list_checklists()}:
        return taxa_of_checklist(load_checklist(str(labels)))
    return read_taxa(labels, naming)
