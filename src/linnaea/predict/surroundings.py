"""The labels around those that may answer: they tell a photograph of nothing from a photograph of something else.

With ``--within Aves``, a jaguar is like none of the labels that may answer, and a calibration that looked at these
alone would take it for an empty scene. So the evidence of an organism is measured with all labels, as the calibration
was, and the probability of the labels that may not answer says whether the organism is one of them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool
from numpy import ndarray

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


def look_around(whole: LabelBank, kept: LabelBank, among: Among) -> Surroundings | None:
    """Return what lies around the labels that a question keeps; ``None`` if it keeps all.

    What lies outside of a clade is elsewhere. A list of species is knowledge about the place, not about the families,
    so that relatives of the listed species are not counted: they are what such photographs are mistaken for.
    """
    if len(kept) == len(whole):
        return None
    rank = Rank.SPECIES if among.species_list is None else Rank.FAMILY
    return Surroundings(
        bank=whole, elsewhere_K=find_elsewhere(whole.taxa, kept.taxa, rank), answering=describe(kept, among)
    )


def find_elsewhere(whole: pl.DataFrame, kept: pl.DataFrame, rank: Rank) -> Bool[ndarray, "K"]:  # noqa: F821
    """Tell for each taxon of ``whole`` whether ``kept`` has none of its group at ``rank``."""
    columns = [pl.col(label).fill_null("") for label in RANK_LABELS[: rank + 1]]
    if rank == Rank.SPECIES and "common_name" in whole.columns:
        columns.append(pl.col("common_name").fill_null(""))
    groups = kept.select(columns).unique().with_columns(kept=pl.lit(value=True))
    found = whole.select(columns).join(groups, on=groups.columns[:-1], how="left", maintain_order="left")
    return np.asarray(found["kept"].is_null(), bool)


def describe(kept: LabelBank, among: Among) -> str:
    """Return the number of the labels that may answer, and what they are: ``190 birds (Aves)``."""
    n = f"{len(kept):,}"
    if among.species_list is not None:
        return f"{n} labels of the species list"
    if len(among.within) == 1:
        name = parse_clade(among.within[0])[1]
        english = ENGLISH.get(name.capitalize())
        return f"{n} {english} ({name.capitalize()})" if english else f"{n} labels within {name}"
    if among.within:
        return f"{n} labels within {' and '.join(among.within)}"
    return f"{n} labels that are not excluded"
