"""Species without photographs, taught by name: a name that no picture goes with comes to lie among its relatives.

Where captions are taught the vectors of class heads alone (``teach``), every direction that pictures take is some
trained species' own, and the picture of a new species finds an old name. So names of species that the data set does
not have are drawn from a checklist, and taught the mean of their ancestors' heads: the genus counts most, each rank
above half as much as the one below it. Of a genus without pictures it is the family's, and so on.

Where the checklist gives no common name, half of the captions that could show one borrow it from a trained relative.
Else a caption with a common name would always be a trained species', and every such caption would lie near one.
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
"""Where relatives are looked for, nearest first; the first counts 1, each further one half of the one before."""
_STREAM = 90
"""Of random numbers; apart from those of :mod:`linnaea.train.batches`."""
_BESIDE_ANOTHER_NAME = (TextType.SCI_COM, TextType.TAXON_COM, TextType.TAXON_TAG_COM)
"""Captions that can borrow a common name: one of a common name alone would be its owner's."""


@dataclass(frozen=True)
class Relatives:
    """Names to teach, and the vectors they are taught."""

    names: pl.DataFrame
    """A taxon table (:data:`linnaea.data.shards.TAXA_SCHEMA`), names of one place side by side."""
    first_of: Int64[ndarray, " P1"]
    """Where the names of each place begin in the table; the last number is the end."""
    chance_of: Float64[ndarray, " P"]
    """How often a place is drawn: genera most, all alike; those above half as often, rank by rank."""
    unit_PE: Float32[ndarray, "P E"]
    """Each place's vector."""
    lent: Sequence[Sequence[str]]
    """Common names that a place's species can borrow: those of the trained taxa of the nearest rank that has any."""
    tokenizer: Any
    text_types: Sequence[TextType]
    n_per_step: int
    seed: int

    def draw(self, step: int) -> tuple[RaggedTokens, Float32[Tensor, "R E"]]:
        """The captions of a step, as tokens, and the unit vectors they are taught; a function of the step alone."""
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
        """The caption of a drawn name; it borrows a common name where ``luck``, of 0 to 1, is below one half."""
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
    """Of a checklist's species (a taxon table) those that have relatives among the heads' classes.

    A species that the data set names, in whatever split, is left out: those with photographs are taught by them, and
    held-out ones stay unseen in name, too.

    Raises:
        LinnaeaError: no name is left.
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
            "relatives: no species of the checklist has a genus, family, order or class among the heads of the run"
            " that this one starts from; give another checklist, or none (--relatives '')"
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
    """Of each place (a lineage down to some rank) the common names that its nearest trained relatives have."""
    names: dict[tuple[str, ...], dict[str, None]] = {}  # in order, each once
    for taxon in taxa_from_table(dataset.pictured_taxa.filter(pl.col("common_name").fill_null("") != "")):
        for above in accumulate((name,) for name in taxon.lineage):
            names.setdefault(above, {})[taxon.common_name] = None
    found = {lineage: tuple(common) for lineage, common in names.items()}
    return [
        next((found[place[:end]] for end in range(len(place), 0, -1) if place[:end] in found), ()) for place in places
    ]


def _unit_vectors(bank: LabelBank, rank: Rank) -> dict[tuple[str, ...], Float32[Tensor, " E"]]:
    """Each class's unit vector by its lineage down to its rank."""
    unit_KE = normalize(torch.from_numpy(np.asarray(bank.vectors, dtype=np.float32)), dim=-1)
    return {taxon.lineage[: rank + 1]: unit for taxon, unit in zip(bank.taxa_list, unit_KE, strict=True)}


def _mean_of_ancestors(
    lineage: tuple[str, ...], vectors: dict[Rank, dict[tuple[str, ...], Float32[Tensor, " E"]]]
) -> Float32[Tensor, " E"]:
    """The unit vector of what is known of a lineage and above it, each rank half as much as the one below it."""
    known = [
        0.5**depth * vectors[rank][lineage[: rank + 1]]
        for depth, rank in enumerate(RANKS)
        if rank in vectors and len(lineage) > rank and lineage[: rank + 1] in vectors[rank]
    ]
    return normalize(torch.stack(known).sum(dim=0), dim=-1)
