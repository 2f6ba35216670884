"""Make label banks and update them to other taxa; captions that are already encoded are not encoded again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from linnaea.counting import agree
from linnaea.data.naming import make_naming
from linnaea.data.shards import merge_taxa
from linnaea.errors import LinnaeaError, UsageError
from linnaea.exchange import hold_output
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.predict.label_lists import read_taxa, taxa_of_checklist
from linnaea.predict.labels import LabelBank, is_from_photographs, make_bank, update_bank
from linnaea.predict.restrict import keep_taxa
from linnaea.progress import progress_bar
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.migrate import MigratedTaxa, Migration, migrate_taxa
from linnaea.taxonomy.row import MergeBy
from linnaea.taxonomy.taxon import TextType

Rounding: TypeAlias = Literal["fp16", "int8", "float32"]
_DTYPES: Mapping[Rounding, type[np.floating[Any] | np.int8]] = {
    "fp16": np.float16, "int8": np.int8, "float32": np.float32,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class UpdatedBank:
    """A bank after a change of its taxa."""

    bank: LabelBank
    path: Path
    """The folder that the bank was saved in."""
    n_encoded: int
    """The number of new captions."""
    migrated: Mapping[str, int] = field(default_factory=dict)
    """If checklists were given: how many taxa were kept, renamed, ..."""


def build_labels(
    taxa: str | Path | None = None,
    *,
    checklist: str = "",
    within: Sequence[str] = (),
    exclude: Sequence[str] = (),
    output: str | Path | None = None,
    model: str | Path | TaxonModel = DEFAULT_MODEL,
    text_type: TextType = TextType.TAXON_COM,
    vectors: Rounding = "fp16",
    pretrained: str | None = None,
    device: str = "auto",
    resolve: bool = True,
    merge_by: MergeBy = "class",
) -> LabelBank:
    """Encode taxa into a label bank, from which predictions choose.

    Args:
        taxa: A data set, a bank, a table with columns named after ranks, or a file with a name per line.
        checklist: Instead of ``taxa``, the species of a checklist: ``"inat"``, ``"ncbi"``, or another's name or file.
        within: Only taxa of these clades, such as ``"order:Rodentia"`` (of the embedded checklist if neither ``taxa``
            nor ``checklist`` is given).
        exclude: No taxa of these clades.
        output: Folder to save the bank in.
        model: Name or folder of a model, or a loaded model (then without ``pretrained`` and ``device``).
        text_type: Caption form.
        vectors: The number format of the vectors on disk.
        pretrained: open_clip's tag, if ``model`` is the name of an architecture.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        resolve: Resolve the names of a file with the embedded checklist, which gives their lineages.
        merge_by: Whether labels over one taxon with different remarks ("Danaus plexippus larva") are each a
            ``"class"``, or merged by ``"taxon"``.

    Raises:
        UsageError: Both ``taxa`` and ``checklist`` are given, or nothing is given to choose taxa by.
        LinnaeaError: The taxa cannot be read, or there is no such model.
    """
    if taxa is not None and checklist:
        raise UsageError("give --taxa or --checklist, not both")
    if taxa is None and not checklist and not within:
        raise UsageError("give --taxa, --checklist or --within")
    if taxa is None:
        table = taxa_of_checklist(load_checklist(checklist or "inat"))
    else:
        table = read_taxa(Path(taxa), make_naming(resolve=resolve, merge_by=merge_by))
    table = keep_taxa(table, within, exclude)
    loaded = load_model(model, pretrained=pretrained, device=device)
    with progress_bar("encoding labels", "labels") as on_progress:
        bank = make_bank(loaded, table, text_type, on_progress=on_progress)
    if output is not None:
        with hold_output(Path(output), kind="command"):
            bank.save(Path(output), dtype=_DTYPES[vectors])
    return bank


def append_labels(
    bank: str | Path,
    taxa: str | Path,
    *,
    model: str | Path | TaxonModel = DEFAULT_MODEL,
    output: str | Path | None = None,
    device: str = "auto",
    resolve: bool = True,
    merge_by: MergeBy = "class",
) -> UpdatedBank:
    """Add taxa to a label bank; only new captions are encoded.

    ``taxa``, ``resolve`` and ``merge_by`` are as in :func:`build_labels`. ``model`` is the model that the bank was
    built with. Without ``output`` the bank itself is changed.

    Raises:
        LinnaeaError: The bank was built with another model, or something cannot be read.
    """
    with hold_output(Path(output or bank), kind="command"):
        before = LabelBank.open(Path(bank))
        added = read_taxa(Path(taxa), make_naming(resolve=resolve, merge_by=merge_by))
        return _update(before, merge_taxa(before.taxa, added), Path(output or bank), load_model(model, device=device))


def update_labels(
    bank: str | Path,
    *,
    taxa: str | Path | None = None,
    old: str = "",
    new: str = "",
    model: str | Path | TaxonModel = DEFAULT_MODEL,
    output: str | Path | None = None,
    device: str = "auto",
) -> UpdatedBank:
    """Update a label bank after a change of taxonomy; only captions that changed are encoded.

    Give either the new ``taxa`` (a migrated data set, a table), or ``old`` and ``new``: the checklist that the bank's
    names come from, and the checklist to migrate them to. Without ``output`` the bank itself is changed. A head that
    was made from photographs takes the new names of its classes from ``old`` and ``new``, and keeps its vectors.

    Raises:
        UsageError: Neither ``taxa`` nor both checklists are given, or all are.
        LinnaeaError: The bank was built with another model, something cannot be read, or two classes of a head that
            was made from photographs would be one.
    """
    if bool(old) != bool(new) or (taxa is None) != bool(old):
        raise UsageError("give --taxa, or --from and --to")
    with hold_output(Path(output or bank), kind="command"):
        before = LabelBank.open(Path(bank))
        counts: Mapping[str, int] = {}
        if taxa is not None:
            table = read_taxa(Path(taxa))
        else:
            found = migrate_taxa(before.taxa, Migration.between(load_checklist(old), load_checklist(new)))
            table, counts = found.taxa, found.counts
            if is_from_photographs(before):
                return _rename(before, found, Path(output or bank))
        return _update(before, table, Path(output or bank), load_model(model, device=device), counts)


def _rename(before: LabelBank, found: MigratedTaxa, path: Path) -> UpdatedBank:
    """Save a head that was made from photographs under the new names of its classes.

    Raises:
        LinnaeaError: two of its classes would be one, whose vector only photographs can tell.
    """
    if found.taxa.height < len(before):
        n_fewer = len(before) - found.taxa.height
        become = agree(n_fewer, "becomes", "become")
        raise LinnaeaError(
            f"{before.folder}: {n_fewer:,} of its classes {become} one with another, which needs their photographs; put"
            " these into one folder and adapt again"
        )
    bank = replace(before, taxa=found.taxa, vectors=before.vectors[np.argsort(found.new_id)])
    bank.save(path, dtype=before.vectors.dtype.type)
    return UpdatedBank(bank=bank, path=path, n_encoded=0, migrated=found.counts)


def _update(
    before: LabelBank, taxa: pl.DataFrame, path: Path, model: TaxonModel, migrated: Mapping[str, int] | None = None
) -> UpdatedBank:
    with progress_bar("encoding labels", "labels") as on_progress:
        bank, n_encoded = update_bank(model, before, taxa, on_progress=on_progress)
    bank.save(path, dtype=before.vectors.dtype.type)
    return UpdatedBank(bank=bank, path=path, n_encoded=n_encoded, migrated=migrated or {})
