"""Relatives: teach the names of species without photographs, so that they lie among their relatives.

If captions learn only the vectors of class heads (``teach``), every direction belongs to a trained species, and a
picture of a new species matches an old name. Names of species that the data set lacks are therefore drawn from a
checklist. They are taught the mean of their ancestors' heads: the genus counts most, and each rank above counts half as
much as the one below it. If the genus has no pictures, the family comes first, and so on.

If the checklist gives no common name, half of the captions that could show one borrow it from a trained relative.
Otherwise only trained species would have captions with common names, and every such caption would lie near one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from linnaea.data.shards import DataSet, taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.model.tokenizer import RaggedTokens, tokenize_ragged
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType
from linnaea.train.batches import make_rng

RANKS = (Rank.GENUS, Rank.FAMILY, Rank.ORDER, Rank.CLASS)
"""Ranks at which relatives are searched, nearest first; the first counts 1, and each further one half as much."""
_STREAM = 90
"""Stream of random numbers, separate from those of :mod:`linnaea.train.batches`."""
_BESIDE_ANOTHER_NAME = (TextType.SCI_COM, TextType.TAXON_COM, TextType.TAXON_TAG_COM)
"""Text types that can borrow a common name; a caption of a common name alone would name its owner."""


@dataclass(frozen=True)
class Relatives:
    """The names to teach and their target vectors."""

    names: pl.DataFrame
    """A taxon table (:data:`linnaea.data.shards.TAXA_SCHEMA`), grouped by place."""
    first_of: Int64[ndarray, " P1"]
    """The first row of each place in the table; the last number is the end."""
    chance_of: Float64[ndarray, " P"]
    """The probability of drawing each place: equal within a rank, and each higher rank half as often in total."""
    unit_PE: Float32[ndarray, "P E"]
    """Each place's unit vector."""
    lent: Sequence[Sequence[str]]
    """Common names that a place's species can borrow, from the trained taxa of the nearest rank that has any."""
    tokenizer: Any
    text_types: Sequence[TextType]
    n_per_step: int
    seed: int

    def draw(self, step: int) -> tuple[RaggedTokens, Float32[Tensor, "R E"]]:
        """Return a step's captions, as tokens, and their target unit vectors; both depend only on the step."""
        rng = make_rng(self.seed, _STREAM, step)
        places = rng.choice(len(self.chance_of), self.n_per_step, p=self.chance_of)
        rows = rng.integers(self.first_of[places], self.first_of[places + 1])
        kinds = rng.integers(len(self.text_types), size=self.n_per_step)
        luck = rng.random(self.n_per_step)
        taxa = taxa_from_table(self.names[rows])
        captions = [
            self._caption(*drawn) for drawn in zip(taxa, kinds.tolist(), places.tolist(), luck.tolist(), strict=True)
        ]
        return tokenize_ragged(self.tokenizer, captions), torch.from_numpy(self.unit_PE[places])

    def _caption(self, taxon: Taxon, kind: int, place: int, luck: float) -> str:
        """Return the caption of a drawn name; it may borrow a common name if ``luck`` (0 to 1) is below one half."""
        text_type, lent = self.text_types[kind], self.lent[place]
        if text_type in _BESIDE_ANOTHER_NAME and not taxon.common_name and luck < 0.5 and lent:
            taxon = replace(taxon, common_name=lent[int(2 * luck * len(lent))])
        return taxon.caption(text_type, PHOTO_TEMPLATE)


def find_relatives(
    names: pl.DataFrame,
    dataset: DataSet,
    heads: dict[Rank, LabelBank],
    tokenizer: Any,
    text_types: Sequence[TextType],
    *,
    n_per_step: int,
    seed: int,
) -> Relatives:
    """Find the species of a checklist (a taxon table) that have relatives among the heads' classes.

    Species that the data set names in any split are left out: species with photographs are trained on those, and the
    names of held-out species stay unseen too.

    Raises:
        LinnaeaError: No name is left.
    """
    names = names.join(dataset.taxa.select("genus", "species"), on=["genus", "species"], how="anti")
    vectors = {rank: _unit_vectors(heads[rank], rank) for rank in RANKS if rank in heads}
    parts, places, chances = [], [], []
    for depth, rank in enumerate(RANKS):
        if rank not in vectors:
            continue
        columns = list(RANK_LABELS[: rank + 1])
        known = pl.DataFrame(list(vectors[rank]), schema=dict.fromkeys(columns, pl.String), orient="row")
        found = names.join(known, on=columns, how="semi").sort(*columns, maintain_order=True)
        names = names.join(known, on=columns, how="anti")
        if found.is_empty():
            continue
        groups = found.group_by(columns, maintain_order=True).len()
        parts.append(found)
        places += [(lineage[:-1], lineage[-1]) for lineage in groups.rows()]
        chances.append(np.full(len(groups), 0.5**depth / len(groups)))
    if not parts:
        raise LinnaeaError(
            "relatives: no species of the checklist has a genus, family, order or class among the class heads"
            " of the run that --start names; give another checklist, or none (--relatives '')"
        )
    chance = np.concatenate(chances)
    return Relatives(
        names=pl.concat(parts),
        first_of=np.cumsum([0, *(n for _, n in places)]),
        chance_of=chance / chance.sum(),
        unit_PE=torch.stack([_mean_of_ancestors(lineage, vectors) for lineage, _ in places]).numpy(),
        lent=_common_names_around([lineage for lineage, _ in places], dataset),
        tokenizer=tokenizer,
        text_types=text_types,
        n_per_step=n_per_step,
        seed=seed,
    )


def _common_names_around(places: Sequence[tuple[str, ...]], dataset: DataSet) -> list[tuple[str, ...]]:
    """Return the common names of each place's nearest trained relatives; a place is a lineage down to some rank."""
    names: dict[tuple[str, ...], dict[str, None]] = {}  # an ordered set
    for taxon in taxa_from_table(dataset.pictured_taxa.filter(pl.col("common_name").fill_null("") != "")):
        for above in accumulate((name,) for name in taxon.lineage):
            names.setdefault(above, {})[taxon.common_name] = None
    found = {lineage: tuple(common) for lineage, common in names.items()}
    return [
        next((found[place[:end]] for end in range(len(place), 0, -1) if place[:end] in found), ()) for place in places
    ]


def _unit_vectors(bank: LabelBank, rank: Rank) -> dict[tuple[str, ...], Float32[Tensor, " E"]]:
    """Return each class's unit vector by its lineage down to the rank."""
    unit_KE = normalize(torch.from_numpy(np.asarray(bank.vectors, dtype=np.float32)), dim=-1)
    return {taxon.lineage[: rank + 1]: unit for taxon, unit in zip(bank.taxa_list, unit_KE, strict=True)}


def _mean_of_ancestors(
    lineage: tuple[str, ...], vectors: dict[Rank, dict[tuple[str, ...], Float32[Tensor, " E"]]]
) -> Float32[Tensor, " E"]:
    """Return the unit mean of the known vectors along a lineage, each rank counting half as much as the one below."""
    known = [
        0.5**depth * vectors[rank][lineage[: rank + 1]]
        for depth, rank in enumerate(RANKS)
        if rank in vectors and len(lineage) > rank and lineage[: rank + 1] in vectors[rank]
    ]
    return normalize(torch.stack(known).sum(dim=0), dim=-1)
