"""Calibrate a model: learn from photographs with known names how much its answers can be trusted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError, UsageError
from linnaea.model.encode import encode_readable
from linnaea.model.folders import find_model_folder
from linnaea.model.hub import find_published
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model, see_as
from linnaea.model.preprocess import Preprocessing
from linnaea.predict.calibration import (
    UNKNOWN,
    Calibration,
    explain_lost,
    find_groups,
    read_replaced,
    write_calibration,
)
from linnaea.predict.calibration_fit import fit_calibration
from linnaea.predict.inputs import list_images
from linnaea.predict.label_lists import read_taxa
from linnaea.predict.labels import TAXA_FILE, LabelBank, load_cached_bank
from linnaea.predict.places import draw_places, encode_places, list_places, sources_at, taxa_at
from linnaea.predict.published import open_bank, open_published_bank
from linnaea.predict.rehearsals import rehearse_run
from linnaea.progress import progress_bar
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import TextType

MOST_ORGANISMS = 4_000
"""The number of photographs of ``organisms`` that are used."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What :func:`calibrate` learned, and from how many photographs."""

    calibration: Calibration
    path: Path
    """The file that holds the calibration: ``bank.json`` or ``linnaea.json``."""
    n_images: int
    n_known: int
    """The number of photographs of species among the labels."""
    n_labels: int
    notes: tuple[str, ...] = field(default=(), repr=False)
    """One line for each picture of ``no_organism`` that cannot be read, and for each part of the earlier calibration
    that this one has not learned."""


def calibrate(
    model: str | Path | TaxonModel,
    *,
    data: str | Path | DataSet,
    split: Sequence[str] = ("val",),
    sources: Sequence[str] = (),
    labels: str | Path | None = None,
    no_organism: str | Path | None = None,
    organisms: Sequence[str] = (),
    strangers: bool = False,
    rehearsals: Sequence[str | Path] = (),
    text_type: TextType = TextType.TAXON_COM,
    preprocess: Preprocessing | None = None,
    pretrained: str | None = None,
    device: str = "auto",
    workers: int = 2,
) -> Calibrated:
    """Learn probabilities from photographs with known names, and write them beside the model or its labels.

    Args:
        model: Name or folder of a model, or a loaded model (then without ``pretrained`` and ``device``).
        data: A data set with known names.
        split: Splits to learn from; neither the training split nor the one that the result is measured on.
        sources: Sources to learn from; all of them if none is given.
        labels: The label bank to calibrate; by default the model's own taxa.
        no_organism: A folder of pictures that show no organism, from which the model learns when to abstain.
        organisms: More splits whose photographs show organisms, to go with ``no_organism``; the model may have been
            trained on them. At most 4,000 photographs are used.
        strangers: Use each photograph once more as if the labels lacked its species, or its genus.
        rehearsals: Runs of class heads that were each trained without some sources of ``data``. How they answer the
            photographs of these sources shows how far answers are to be trusted for photographs from elsewhere.
        text_type: Caption form of the model's own taxa.
        preprocess: ``"crop"`` (the middle square) or ``"squash"`` (the whole photograph); by default as the model was
            trained. The calibration records it.
        pretrained: open_clip's tag, if ``model`` is the name of an architecture.
        device: ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
        workers: Threads that decode.

    Raises:
        UsageError: ``organisms`` are given without ``no_organism``.
        LinnaeaError: Something cannot be read, the bank is another model's, or there are too few photographs.
    """
    if organisms and no_organism is None:
        raise UsageError("--organisms needs --no-organism, a folder of pictures without organisms")
    splits, others = _open_splits(data, sources, split, organisms)
    loaded = see_as(load_model(model, pretrained=pretrained, device=device), preprocess)
    bank, folder = open_labels_to_calibrate(loaded, loaded.name, None if labels is None else Path(labels), text_type)
    places, more_places = list_places(splits), draw_places(list_places(others), MOST_ORGANISMS)
    truth, vectors = taxa_at(places), encode_places(loaded, places, workers)
    nothing, left_out = (None, []) if no_organism is None else encode_no_organism(loaded, Path(no_organism), workers)
    more = encode_places(loaded, more_places, workers) if others else None
    group = find_groups(truth, bank)
    abroad = [one for run in rehearsals for one in rehearse_run(Path(run), data, split, device, workers, bank.heads)]
    learned = fit_calibration(vectors, group, bank, loaded.logit_scale, nothing_ME=nothing, organism_OE=more,
                              sources=sources_at(places + more_places), with_strangers=strangers,
                              abroad=abroad)  # fmt: skip
    learned = replace(learned, preprocess=loaded.preprocess)
    notes = (*left_out, *explain_lost(read_replaced(bank.facts, loaded.facts), learned))
    return Calibrated(calibration=learned, path=write_calibration(folder, learned), n_images=len(truth), notes=notes,
                      n_known=int((group[:, Rank.SPECIES] != UNKNOWN).sum()), n_labels=len(bank))  # fmt: skip


def open_labels_to_calibrate(
    model: TaxonModel, given: str, labels: Path | None, text_type: TextType
) -> tuple[LabelBank, Path]:
    """Return the bank to calibrate, and the folder that will hold the calibration."""
    published = find_published(given if labels is None else str(labels))
    if published is not None or labels is not None:
        bank = open_published_bank(published, model) if published else open_bank(Path(labels or ""), model)
        assert bank.folder is not None
        return bank, bank.folder
    own = find_model_folder(given) if Path(given).is_dir() else None
    if own is None or not (own / TAXA_FILE).exists():
        raise LinnaeaError(f"{given}: has no taxa of its own; give --labels BANK")
    with progress_bar("encoding labels", "labels") as on_progress:
        return load_cached_bank(model, read_taxa(own), text_type, on_progress=on_progress), own


def _open_splits(data: str | Path | DataSet, sources: Sequence[str], *wanted: Sequence[str]) -> Iterator[list[DataSet]]:
    """Yield the splits of a data set for each list of their names."""
    whole = (data if isinstance(data, DataSet) else DataSet.open(Path(data))).sources(tuple(sources))
    yield from ([whole.split(name) for name in names] for names in wanted)


def encode_no_organism(model: TaxonModel, folder: Path, n_workers: int) -> tuple[Float32[ndarray, "M E"], list[str]]:
    """Return unit vectors of all pictures below ``folder``, and a line for each that cannot be read.

    Raises:
        LinnaeaError: No picture can be read.
    """
    items = [(path, path) for path in list_images([str(folder)])]
    good, failed = encode_readable(model, items, "encoding pictures of no organism", n_workers=n_workers)
    if not good:
        raise LinnaeaError(f"{folder}: no readable photographs there")
    return np.stack([vector for _, vector in good]), [f"{path}: {error}; left out" for path, error in failed]
