"""Rehearsals: how models that were trained without some sources answer the photographs of these."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.data.shards import DataSet
from linnaea.errors import LinnaeaError
from linnaea.model.folders import RECIPE_FILE
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.predict.calibration import UNKNOWN, Calibration, find_groups, has_names
from linnaea.predict.calibration_fit import FEWEST, fit_temperature
from linnaea.predict.labels import LabelBank, load_class_heads
from linnaea.predict.places import Places, draw_places, encode_places, list_places, taxa_at
from linnaea.predict.trust import Trust
from linnaea.predict.trust_fit import Rehearsal, fit_spread_of_species, rehearse
from linnaea.storage import read_json
from linnaea.taxonomy.ranks import Rank

MOST_STRANGERS = 600
"""The number of photographs of each source that a rehearsal uses."""


def rehearse_run(
    run: Path,
    data: str | Path | DataSet,
    split: Sequence[str],
    device: str,
    n_workers: int,
    ranks: Collection[Rank] = (),
) -> list[Rehearsal]:
    """Return how a run of class heads answers each source of ``data`` that it was not trained on.

    Its temperature is that of the photographs of ``split`` from the sources that it was trained on. Its heads for
    ``ranks`` are pooled with its labels (:mod:`linnaea.predict.rank_heads`).

    Raises:
        LinnaeaError: The run has no head for species or one of ``ranks``, was trained on all sources, or has too few
            photographs.
    """
    model, heads = load_model(str(run), device=device), load_class_heads(run)
    whole = data if isinstance(data, DataSet) else DataSet.open(Path(data))
    own, others = split_sources(run, whole)
    if Rank.SPECIES not in heads or not others:
        raise LinnaeaError(f"{run}: give a run of class heads that was trained without some of the data's sources")
    if missing := [rank.label for rank in ranks if rank not in heads]:
        raise LinnaeaError(f"{run}: has no class head for {', '.join(missing)}, which the labels to calibrate have")
    bank = replace(heads[Rank.SPECIES], heads={rank: heads[rank] for rank in ranks})
    known, groups = _encode_known(model, whole.sources(own), split, bank, n_workers)
    rows = bank.groups.starts[Rank.SPECIES][groups[:, Rank.SPECIES]]
    temperature = fit_temperature(known, rows, bank, model.logit_scale)
    spread = fit_spread_of_species(known, groups[:, Rank.SPECIES], bank)
    calibration = Calibration(temperature=temperature, heads=tuple(sorted(bank.heads)), trust=Trust(spread=spread))
    answered = []
    for source in others:
        places = draw_strangers(whole, source)
        truth = taxa_at(places)
        answered.append(rehearse(encode_places(model, places, n_workers), find_groups(truth, bank), has_names(truth),
                                 bank, calibration, model.logit_scale))  # fmt: skip
    return answered


def split_sources(run: Path, data: DataSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sources that a run was trained on, and those of the data that it left out; none if it took all."""
    own = tuple(read_json(run / RECIPE_FILE, kind="the recipe of a run").get("feed", {}).get("sources", ()))
    return own, tuple(sorted(set(data.index["source"].unique()) - set(own))) if own else ()


def draw_strangers(data: DataSet, source: str) -> Places:
    """Draw the photographs of a source that a rehearsal uses, the same ones every time."""
    return draw_places(list_places([data.sources((source,))]), MOST_STRANGERS)


def _encode_known(
    model: TaxonModel, data: DataSet, split: Sequence[str], bank: LabelBank, n_workers: int
) -> tuple[Float32[ndarray, "N E"], NDArray[np.int64]]:
    """Return the vectors of the photographs of species that the bank has, and their groups."""
    places = list_places([data.split(name) for name in split])
    groups = find_groups(taxa_at(places), bank)
    known = groups[:, Rank.SPECIES] != UNKNOWN
    if known.sum() < FEWEST:
        raise LinnaeaError(f"{model.name}: {count(known.sum(), 'photograph', '')} of its species in {' '.join(split)};"
                           f" a calibration needs {FEWEST}")  # fmt: skip
    return encode_places(model, [place for place, is_known in zip(places, known, strict=True) if is_known],
                   n_workers), groups[known]  # fmt: skip
