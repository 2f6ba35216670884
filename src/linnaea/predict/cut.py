"""Cut a label bank to a few clades; one row for each group of other taxa keeps the probability of what was cut.

The row of a group of taxa ``k`` should give the logit ``log(sum of exp(scale * image . t_k))``. That is not linear in
the image, but nearly so for a group as narrow as a genus. A row is therefore a vector and an offset that are fitted, by
ridge regression around the mean of the group, to pictures that the model encoded. What remains wrong moves
probability between the group and all other taxa, and is measured in docs/log.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import count
from linnaea.errors import UsageError
from linnaea.predict.calibration import Calibration
from linnaea.predict.labels import N_PHOTOGRAPHS, OFFSET, TRAINED, LabelBank
from linnaea.predict.restrict import rows_of_clades
from linnaea.taxonomy.columns import lowest_name
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import depth_first

CUT = "cut"
"""The key in ``bank.json`` that says what was cut."""
RIDGE = 0.01
"""The strength of the regression, relative to the mean variance of the pictures' vectors."""
ROWS_AT_ONCE = 65_536
"""Taxa whose products with the pictures are in memory at once."""
OTHERS = "other taxa"
"""The name of a group whose taxa have no name at any rank."""


def cut_bank(
    bank: LabelBank,
    within: Sequence[str],
    picture_PE: Float32[ndarray, "P E"],
    logit_scale: float,
    *,
    calibration: Calibration | None = None,
    group_rank: Rank = Rank.GENUS,
) -> LabelBank:
    """Return the bank of the taxa in the clades ``within``, with one more row for each group of all other taxa.

    A group is named after its taxon at ``group_rank``, or the lowest one above that has a name. Sums at that rank and
    above then include the taxa that were cut.

    Args:
        bank: The whole bank.
        within: Clades, such as ``"class:Aves"``.
        picture_PE: Unit vectors of any pictures, to fit the rows of the groups to.
        logit_scale: The model's factor on cosines.
        calibration: The calibration that the answers will have; its temperature changes the sums of a group.
        group_rank: The rank of the groups: a lower one is exacter and has more rows.

    Raises:
        UsageError: A clade is not in the bank, or all of the bank is in them.
    """
    kept = np.zeros(len(bank), bool)
    kept[rows_of_clades(bank, within)] = True
    if kept.all():
        raise UsageError(f"{' '.join(within)}: includes all {count(len(bank), 'label')}; leave out --within")
    learned = calibration or Calibration()
    cut = _Cut.of(bank, kept, group_rank)
    fit = _Fit.to(picture_PE, logit_scale / learned.temperature)
    weights = np.where(bank.trained, 1.0, learned.untrained)
    rows = [fit.rows(bank, cut.rows[block], starts, weights) for block, starts in cut.blocks()]
    own = np.asarray(bank.vectors[np.flatnonzero(kept)], np.float32)
    vectors = np.concatenate([own, *(vector_GE for vector_GE, _ in rows)])
    offsets = np.concatenate([np.zeros(len(own)), *(offset_G for _, offset_G in rows)])
    taxa = pl.concat([bank.taxa.filter(kept), cut.taxa], how="diagonal_relaxed").with_row_index("old")
    taxa = depth_first(taxa.with_columns(pl.Series(OFFSET, offsets, pl.Float32)))
    facts = bank.facts | {CUT: {"within": list(within), "of": len(bank), "groups": cut.taxa.height,
                                "group_rank": group_rank.label}}  # fmt: skip
    order = taxa["old"].to_numpy()
    taxa = taxa.drop("old").with_columns(taxon_id=pl.int_range(pl.len(), dtype=pl.Int32))
    return replace(bank, taxa=taxa, vectors=vectors[order], facts=facts)


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The rows of a bank that are cut, in groups that follow one another."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    """The place in ``rows`` of the first row of each group."""
    taxa: pl.DataFrame
    """The taxon of each group."""

    @classmethod
    def of(cls, bank: LabelBank, kept: Bool[ndarray, "K"], rank: Rank) -> "_Cut":  # noqa: F821
        names = list(RANK_LABELS[: rank + 1])
        lineages = bank.taxa.select(pl.col(names).fill_null("")).with_row_index("row").filter(~pl.Series(kept))
        firsts = lineages.with_row_index("place").unique(names, keep="first", maintain_order=True)
        lowest = lowest_name(names)
        taxa = firsts.select(
            *names,
            *(pl.lit("").alias(label) for label in RANK_LABELS[rank + 1 :]),
            common_name=pl.when(lowest.is_null()).then(pl.lit(OTHERS)).otherwise(pl.lit("")),
            scientific_name=lowest.fill_null(""),
        )
        rows, starts = lineages["row"].to_numpy().astype(np.int64), firsts["place"].to_numpy().astype(np.int64)
        if TRAINED in bank.taxa.columns:
            taxa = taxa.with_columns(pl.lit(value=True).alias(TRAINED))
        if N_PHOTOGRAPHS in bank.taxa.columns and len(firsts):
            taxa = taxa.with_columns(pl.Series(N_PHOTOGRAPHS, np.add.reduceat(bank.n_photographs[rows], starts)))
        return cls(rows=rows, starts=starts, taxa=taxa)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Yield ranges of ``rows`` that hold whole groups, and the places of the groups in them."""
        first = 0
        while first < len(self.starts):
            last = max(first + 1, int(np.searchsorted(self.starts, self.starts[first] + ROWS_AT_ONCE)))
            end = int(self.starts[last]) if last < len(self.starts) else len(self.rows)
            start = int(self.starts[first])
            yield slice(start, end), self.starts[first:last] - start
            first = last


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A ridge regression on the vectors of pictures, solved once for all groups."""

    picture_PE: NDArray[np.float64]
    scale: float
    mean_E: NDArray[np.float64]
    solve_EP: NDArray[np.float64]
    """The matrix that turns the residuals of a group into the change of its vector."""

    @classmethod
    def to(cls, picture_PE: Float32[ndarray, "P E"], scale: float) -> "_Fit":
        pictures = picture_PE.astype(np.float64)
        mean = pictures.mean(axis=0)
        centred = pictures - mean
        gram = centred @ centred.T
        penalty = RIDGE * np.trace(gram) / len(gram) + 1e-12
        solve = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred).T
        return cls(picture_PE=pictures, scale=scale, mean_E=mean, solve_EP=solve)

    def rows(
        self, bank: LabelBank, rows: NDArray[np.int64], starts: NDArray[np.int64], weight_K: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the vector ``[G, E]`` and the offset of each group of rows; both are added up as cosines."""
        vectors = np.asarray(bank.vectors[rows], np.float32)
        sizes = np.diff(np.append(starts, len(rows)))
        logits = self.scale * (self.picture_PE.astype(np.float32) @ vectors.T).astype(np.float64)
        logits += np.log(weight_K[rows])
        if (known := bank.offsets) is not None:
            logits += self.scale * known[rows]
        largest = np.maximum.reduceat(logits, starts, axis=1)
        np.exp(logits - np.repeat(largest, sizes, axis=1), out=logits)
        wanted_PG = (largest + np.log(np.add.reduceat(logits, starts, axis=1))) / self.scale
        mean_GE = np.add.reduceat(vectors.astype(np.float64), starts, axis=0) / sizes[:, None]
        residual_PG = wanted_PG - self.picture_PE @ mean_GE.T
        offset_G = residual_PG.mean(axis=0)
        change_GE = (self.solve_EP @ (residual_PG - offset_G)).T
        return (mean_GE + change_GE).astype(np.float32), offset_G - change_GE @ self.mean_E
