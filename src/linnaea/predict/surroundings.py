"""The labels around those that may answer: they tell a photograph of nothing from a photograph of something else.

With ``--within Aves``, a jaguar is like none of the labels that may answer, and a calibration that looked at these
alone would take it for an empty scene. So the evidence of an organism is measured with all labels, as the calibration
was, and the probability of the labels that may not answer says whether the organism is one of them. A list of names of
one's own knows neither; it is looked at among the labels that come with the model, with their calibration.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32
from numpy import ndarray

from linnaea.counting import agree, count
from linnaea.predict.calibration import KEY, Calibration, read_calibration
from linnaea.predict.labels import LabelBank
from linnaea.predict.restrict import Among
from linnaea.taxonomy.find import parse_clade
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

ELSEWHERE_FROM = 0.9
"""The probability of other labels from which a photograph shows none of those that may answer. Whoever restricts the
labels knows something about the photographs, so that a mere majority is not enough."""

ENGLISH = {
    "Animalia": "animals", "Plantae": "plants", "Fungi": "fungi", "Aves": "birds", "Mammalia": "mammals",
    "Reptilia": "reptiles", "Amphibia": "amphibians", "Actinopterygii": "ray-finned fishes", "Insecta": "insects",
    "Arachnida": "arachnids", "Mollusca": "molluscs", "Lepidoptera": "butterflies and moths", "Coleoptera": "beetles",
    "Hymenoptera": "bees, wasps and ants", "Diptera": "flies", "Odonata": "dragonflies and damselflies",
    "Carnivora": "carnivores", "Chiroptera": "bats", "Rodentia": "rodents", "Primates": "primates",
    "Squamata": "lizards and snakes", "Anura": "frogs and toads", "Araneae": "spiders", "Felidae": "cats",
    "Canidae": "dogs", "Magnoliopsida": "dicots", "Liliopsida": "monocots",
}  # fmt: skip
"""English names of clades, for messages; others are called by their scientific name."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """All labels of a model, of which a question allows only some."""

    bank: LabelBank
    elsewhere_K: Bool[ndarray, "K"]  # noqa: F821
    """Which of them are neither allowed nor related to those that are."""
    answering: str
    """The labels that may answer, in words: ``190 birds (Aves)``."""
    calibration: Calibration | None = None
    """The calibration of all labels, if those that may answer have another one or none."""
    added_LE: Float32[ndarray, "L E"] | None = None
    """The vectors of labels that may answer, and that the labels of the model lack."""

    def energy_of_all(
        self,
        image_BE: Float32[ndarray, "B E"],
        energy_B: Float32[ndarray, "B"],  # noqa: F821
        scale: float,
    ) -> Float32[ndarray, "B"]:  # noqa: F821
        """Return the energy of the labels of the model, ``energy_B``, together with that of the added ones."""
        if self.added_LE is None:
            return energy_B
        untrained = 1.0 if self.calibration is None else self.calibration.untrained
        above_BL = scale * (image_BE @ self.added_LE.T - energy_B[:, None])
        return np.asarray(energy_B + np.log1p(untrained * np.exp(above_BL).sum(axis=1)) / scale, np.float32)


def look_around(whole: LabelBank, kept: LabelBank, among: Among, own: LabelBank | None = None) -> Surroundings | None:
    """Return the labels around those that a question keeps; ``None`` if it keeps all.

    ``own`` are the labels that come with the model, if ``whole`` is a list of names in their place.

    With a clade, these are all labels outside of it. With a list of species, they are the labels of other families: the
    model often takes a listed species for one of its relatives.
    """
    if own is not None and (around := _look_around_list(own, kept, among)):
        return around
    if len(kept) == len(whole):
        return None
    rank = Rank.SPECIES if among.species_list is None else Rank.FAMILY
    return Surroundings(
        bank=whole, elsewhere_K=find_elsewhere(whole.taxa, kept.taxa, rank), answering=describe(kept, among)
    )


def _look_around_list(own: LabelBank, kept: LabelBank, among: Among) -> Surroundings | None:
    """Return the labels around a list of names; ``None`` if it has its own calibration, or names without lineage."""
    if KEY in kept.facts or not kept.taxa["kingdom"].fill_null("").ne("").all():
        return None
    is_new = find_elsewhere(kept.taxa.drop("common_name"), own.taxa.drop("common_name"), Rank.SPECIES)
    return Surroundings(
        bank=own,
        elsewhere_K=find_unrelated(own.taxa, kept.taxa),
        answering=describe(kept, among),
        calibration=read_calibration(own.facts),
        added_LE=np.asarray(kept.vectors[np.flatnonzero(is_new)], np.float32) if is_new.any() else None,
    )


def find_unrelated(whole: pl.DataFrame, listed: pl.DataFrame) -> Bool[ndarray, "K"]:  # noqa: F821
    """Tell for each taxon of ``whole`` whether it lies in no family of ``listed``, and in no higher taxon of it.

    Classifications differ, so the families of ``whole`` that have a genus of ``listed`` count as well.
    """
    genera = listed["genus"].drop_nulls()
    shared = whole.filter(pl.col("genus").is_in(genera.filter(genera != "").implode()))
    unrelated = find_elsewhere(whole, shared, Rank.FAMILY)
    for rank in tuple(Rank)[: Rank.FAMILY + 1]:
        lower = [pl.col(label).fill_null("") == "" for label in RANK_LABELS[rank + 1 : Rank.FAMILY + 1]]
        lowest = listed.filter(pl.col(rank.label).fill_null("") != "", *lower)
        unrelated &= find_elsewhere(whole, lowest, rank)
    return unrelated


def find_elsewhere(whole: pl.DataFrame, kept: pl.DataFrame, rank: Rank) -> Bool[ndarray, "K"]:  # noqa: F821
    """Tell for each taxon of ``whole`` whether ``kept`` has none of its group at ``rank``."""
    columns = [pl.col(label).fill_null("") for label in RANK_LABELS[: rank + 1]]
    if rank == Rank.SPECIES and "common_name" in whole.columns:
        columns.append(pl.col("common_name").fill_null(""))
    groups = kept.select(columns).unique().with_columns(kept=pl.lit(value=True))
    found = whole.select(columns).join(groups, on=groups.columns[:-1], how="left", maintain_order="left")
    return np.asarray(found["kept"].is_null(), bool)


def describe(kept: LabelBank, among: Among) -> str:
    """Return the labels that may answer in words: ``190 birds (Aves)``."""
    n = len(kept)
    if among.species_list is not None:
        return f"{count(n, 'label')} of the species list"
    if len(among.within) == 1:
        name = parse_clade(among.within[0])[1]
        english = ENGLISH.get(name.capitalize())
        return f"{n:,} {english} ({name.capitalize()})" if english else f"{count(n, 'label')} within {name}"
    if among.within:
        return f"{count(n, 'label')} within {' and '.join(among.within)}"
    return count(n, "label") + (f" that {agree(n, 'is', 'are')} not excluded" if among.exclude else "")
