"""The tree of taxa: depth-first order, sums over the groups of each rank, nodes, ancestors, common ancestors.

In depth-first order, each taxon of each rank is one contiguous range of rows, so scores of all ranks are segment sums
(:class:`RankGroups`). The lowest common ancestor of two lineages is found by comparing seven integers
(:func:`lca_heights`). :class:`TaxonTree` has nodes for traversal and drawing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank

Int32s: TypeAlias = npt.NDArray[np.int32]
Nodes: TypeAlias = "npt.NDArray[np.int32] | npt.NDArray[np.int64] | Sequence[int] | int"

ROOT = 0
"""The node above all kingdoms; its rank is -1, its name empty."""
ROOT_RANK = -1


def depth_first(taxa: pl.DataFrame) -> pl.DataFrame:
    """Return ``taxa`` sorted into depth-first order (by the seven ranks, then by common name if there is one)."""
    keys = [pl.col(label).fill_null("") for label in RANK_LABELS]
    if "common_name" in taxa.columns:
        keys.append(pl.col("common_name").fill_null(""))
    return taxa.sort(keys, maintain_order=True)


def number_lineages(lineages: Iterable[Sequence[str]]) -> Int32s:
    """Number the ancestors of each lineage: ``[N, 7]``, from 0 in order of appearance at each rank, -1 if unnamed.

    Two lineages have the same number at a rank only if they agree from the kingdom down to that rank.
    """
    every = [tuple(lineage) for lineage in lineages]
    known: list[dict[tuple[str, ...], int]] = [{} for _ in Rank]
    rows = {
        lineage: [
            known[rank].setdefault(lineage[: rank + 1], len(known[rank])) if lineage[rank] else -1 for rank in Rank
        ]
        for lineage in dict.fromkeys(every)
    }
    return np.array([rows[lineage] for lineage in every], np.int32).reshape(len(every), N_RANKS)


def lca_heights(number_NR: npt.NDArray[Any], other_NR: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the height ``[N]`` of the lowest common ancestor: 0 same species, 1 same genus, ..., 7 nothing in common.

    Two lineages meet at the lowest rank at which both have the same name and all ranks above agree. The height is the
    severity of a mistake (Bertinetto et al., "Making Better Mistakes", CVPR 2020, section 3). Both arrays are rows of
    the result of :func:`number_lineages`.
    """
    agree = (number_NR == other_NR) & (number_NR >= 0)
    return np.asarray(N_RANKS - (agree * np.arange(1, N_RANKS + 1)).max(axis=-1), np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class RankGroups:
    """The groups of depth-first rows at each rank: contiguous ranges of rows, numbered in order.

    Rows belong to the same group at a rank if their lineages agree from the kingdom down to that rank, including
    unnamed ranks. So each row is in one group at each rank, and groups lie within those of the rank above.
    """

    n_rows: int
    starts: tuple[npt.NDArray[np.int64], ...]
    """The first row of each group, ``[n_groups]``, for each rank."""

    @classmethod
    def of(cls, taxa: pl.DataFrame) -> Self:
        """Find the groups of ``taxa``, which has seven columns named after the ranks and depth-first rows.

        Rows that only their common names distinguish are groups of their own at species rank, if there is that column:
        rows without a species, and classes of one species (:func:`~linnaea.taxonomy.remarks.is_class_of_its_own`).
        """
        columns = [taxa[label].fill_null("") for label in RANK_LABELS]
        starts = [np.flatnonzero(begins) for begins in _iter_begins(columns, taxa.height)]
        if "common_name" in taxa.columns:
            apart, classes = (columns[Rank.SPECIES] == "").to_numpy().copy(), find_classes(taxa)
            apart[classes] = True
            apart[np.minimum(classes + 1, taxa.height - 1)] = True  # the row after a class is none of it
            if apart.any():
                differs = _differs_from_above(taxa["common_name"].fill_null(""))
                starts[-1] = np.union1d(starts[-1], np.flatnonzero(apart & differs))
        return cls(n_rows=taxa.height, starts=tuple(starts))

    def edges(self, rank: Rank) -> npt.NDArray[np.int64]:
        """Return ``[n_groups + 1]``: the first row of each group at ``rank``, and the number of rows."""
        return np.append(self.starts[rank], self.n_rows)

    def of_rows(self, rank: Rank) -> npt.NDArray[np.int64]:
        """Return ``[n_rows]``: the group of each row at ``rank``."""
        return np.repeat(np.arange(len(self.starts[rank])), np.diff(self.edges(rank)))

    @cached_property
    def of_species(self) -> npt.NDArray[np.int64]:
        """``[n_rows]``: the group of each row at species rank."""
        return self.of_rows(Rank.SPECIES)

    def parents(self, rank: Rank) -> npt.NDArray[np.int64]:
        """Return ``[n_groups]``: the group at the rank above of each group at ``rank``; 0 (the root) for kingdoms."""
        return self._parents[rank]

    @cached_property
    def _parents(self) -> tuple[npt.NDArray[np.int64], ...]:
        above = (np.zeros(1, np.int64), *self.starts[:-1])
        return tuple(
            np.searchsorted(upper, own, side="right") - 1 for upper, own in zip(above, self.starts, strict=True)
        )

    @cached_property
    def first_children(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each rank, the first group within each group of the rank above, ``[n_groups of the rank above]``."""
        return tuple(np.flatnonzero(np.diff(parent, prepend=-1)) for parent in self._parents)

    @cached_property
    def edges_of_children(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each rank, ``[n_groups of the rank above + 1]``: where the children of each group begin, and the end."""
        return tuple(
            np.append(first, len(starts)) for first, starts in zip(self.first_children, self.starts, strict=True)
        )

    def children(self, rank: Rank, rows: tuple[int, int]) -> tuple[int, int]:
        """Return the groups at ``rank`` that begin within ``rows``; both are pairs of first and one past the last."""
        first, last = np.searchsorted(self.starts[rank], rows)
        return int(first), int(last)

    def rows(self, rank: Rank, group: int) -> tuple[int, int]:
        """Return the rows of a group: first, one past the last."""
        starts = self.starts[rank]
        return int(starts[group]), int(starts[group + 1]) if group + 1 < len(starts) else self.n_rows

    def sums(self, values: npt.NDArray[Any], highest: Rank = Rank.KINGDOM) -> dict[Rank, npt.NDArray[Any]]:
        """Sum ``values`` ``[..., n_rows]`` over the groups of each rank, from species up to ``highest``.

        Each rank sums the rank below, which is fast and keeps float32 sums of a million rows accurate to 1e-6.
        """
        starts = self.starts[Rank.SPECIES]
        if len(starts) < self.n_rows:
            values = np.add.reduceat(values, starts, axis=-1)
        return self.sums_of_groups(values, Rank.SPECIES, highest)

    def sums_of_groups(
        self, values: npt.NDArray[Any], lowest: Rank, highest: Rank = Rank.KINGDOM
    ) -> dict[Rank, npt.NDArray[Any]]:
        """Sum ``values`` ``[..., n_groups]`` of the groups at ``lowest`` over those of each rank up to ``highest``."""
        sums = {lowest: values}
        for rank in reversed(list(Rank)[highest:lowest]):
            first = self.first_children[rank + 1]
            if len(first) < values.shape[-1]:
                values = np.add.reduceat(values, first, axis=-1)
            sums[rank] = values
        return sums


@dataclass(frozen=True, kw_only=True, eq=False)
class TaxonTree:
    """A tree of taxa as arrays. Leaf ``i`` is row ``i`` of the table that it was made from.

    Nodes are numbered depth-first (parents before children, ``ROOT`` first). Equal names are one node only if all their
    named ancestors agree, so homonyms stay separate. A row may have any rank and may lack ranks in between; its parent
    is then the nearest named ancestor. Several rows may share one node (names in two languages).
    """

    name: pl.Series
    """[n_nodes] the node's own name; for species only the epithet (see :meth:`scientific_names`)."""
    parent: Int32s
    """[n_nodes] -1 for the root."""
    rank: npt.NDArray[np.int8]
    """[n_nodes] a :class:`Rank`, -1 for the root."""
    depth: npt.NDArray[np.int8]
    """[n_nodes] edges up to the root."""
    first_leaf: Int32s
    """[n_nodes] the first leaf at or below the node."""
    last_leaf: Int32s
    """[n_nodes] the last leaf, not one past it; :meth:`leaves` returns the slice."""
    lineage: Int32s
    """[n_leaves, 7] the node at each rank, or the nearest node above if the rank has no name."""

    @classmethod
    def of(cls, taxa: pl.DataFrame) -> Self:
        """Return the tree of ``taxa``, which has seven columns named after the ranks and depth-first rows.

        Unknown names are null or "". The tree takes about a second per million rows.

        Raises:
            LinnaeaError: The column of a rank is missing, or the rows are not in depth-first order.
        """
        if missing := [label for label in RANK_LABELS if label not in taxa.columns]:
            raise LinnaeaError(f"the taxa have no column {missing[0]!r}; the tree needs {', '.join(RANK_LABELS)}")
        columns = [taxa[label].cast(pl.String).fill_null("") for label in RANK_LABELS]
        starts = [np.flatnonzero(begins) for begins in _iter_begins(columns, taxa.height)]
        _check_order(columns, starts, taxa.height)
        named = [start[(column.gather(start) != "").to_numpy()] for column, start in zip(columns, starts, strict=True)]
        order, first_leaf, rank = _preorder(named)
        lineage = _lineage(starts, named, order, taxa.height)
        names = pl.concat([pl.Series([""]), *(c.gather(n) for c, n in zip(columns, named, strict=True))])
        return cls._from_lineage(names.gather(order).alias("name"), first_leaf, rank, lineage)

    @classmethod
    def _from_lineage(cls, name: pl.Series, first_leaf: Int32s, rank: npt.NDArray[np.int8], lineage: Int32s) -> Self:
        n_nodes, n_leaves = len(rank), len(lineage)
        last_leaf = np.full(n_nodes, -1, np.int32)
        last_leaf[ROOT] = n_leaves - 1
        parent = np.full(n_nodes, ROOT, np.int32)
        depth = np.zeros(n_nodes, np.int8)
        above = np.full(n_leaves, ROOT, np.int32)
        for column in lineage.T:
            ends = np.flatnonzero(np.append(column[1:] != column[:-1], True)) if n_leaves else np.empty(0, np.int64)
            nodes = column[ends]
            last_leaf[nodes] = np.maximum(last_leaf[nodes], ends)
            new = nodes != above[ends]
            parent[nodes[new]] = above[ends][new]
            depth[nodes[new]] = depth[above[ends][new]] + 1
            above = column
        parent[ROOT] = -1
        return cls(
            name=name,
            parent=parent,
            rank=rank,
            depth=depth,
            first_leaf=first_leaf,
            last_leaf=last_leaf,
            lineage=np.ascontiguousarray(lineage),
        )

    @property
    def n_nodes(self) -> int:
        """The number of nodes, including the root."""
        return len(self.parent)

    @property
    def n_leaves(self) -> int:
        """The number of leaves, which are the rows of the table."""
        return len(self.lineage)

    def __repr__(self) -> str:
        return f"TaxonTree({self.n_leaves:,} leaves, {self.n_nodes:,} nodes)"

    def leaves(self, node: int) -> slice:
        """Return the leaves at or below ``node`` as a slice of rows."""
        return slice(int(self.first_leaf[node]), int(self.last_leaf[node]) + 1)

    def subtree(self, node: int) -> slice:
        """Return the nodes at or below ``node`` as a slice of nodes."""
        after = np.searchsorted(self.first_leaf, self.last_leaf[node], side="right") if self.n_leaves else self.n_nodes
        return slice(node, max(int(after), node + 1))

    def children(self, node: int) -> Int32s:
        """Return the nodes directly below ``node``, in order."""
        inside = self.subtree(node)
        return (np.flatnonzero(self.parent[inside] == node) + node).astype(np.int32)

    def ancestors(self, node: int) -> list[int]:
        """Return the nodes above ``node``, from the root down to its parent."""
        path = []
        while (node := int(self.parent[node])) != -1:
            path.append(node)
        return path[::-1]

    def scientific_names(self, nodes: Nodes) -> pl.Series:
        """Return the names of ``nodes``, with binomials for species."""
        nodes = np.atleast_1d(np.asarray(nodes))
        own, above = self.name.gather(nodes), self.name.gather(np.maximum(self.parent[nodes], 0))
        species = pl.Series(self.rank[nodes] == Rank.SPECIES)
        frame = pl.DataFrame({"own": own, "above": above, "species": species})
        return frame.select(
            pl.when("species").then(pl.col("above") + " " + pl.col("own")).otherwise("own").alias("name")
        )["name"]


def _differs_from_above(column: pl.Series) -> npt.NDArray[np.bool_]:
    """Return whether each row's value differs from that of the row before; the first row always does."""
    return (column != column.shift(1)).fill_null(True).to_numpy()


def find_classes(taxa: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Return the rows that are one of several classes of their species, by the names in the column ``common_name``.

    The rule is that of :func:`linnaea.taxonomy.remarks.is_class_of_its_own`.
    """
    if "common_name" not in taxa.columns:
        return np.zeros(0, np.int64)
    genus, species, name = (pl.col(column).fill_null("") for column in ("genus", "species", "common_name"))
    rows = taxa.select("genus", "species", "common_name").with_row_index("row")
    begin_alike = rows.filter((species != "") & name.str.starts_with(genus))  # few, so that names are made for these
    whole = begin_alike.filter(name.str.starts_with(pl.concat_str(genus, species, pl.lit(""), separator=" ")))
    return whole["row"].to_numpy().astype(np.int64)


def _iter_begins(columns: Sequence[pl.Series], n_rows: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield for each rank whether each row's lineage down to that rank differs from that of the row before."""
    begins = np.zeros(n_rows, bool)
    begins[:1] = True
    for column in columns:
        begins = begins | _differs_from_above(column)
        yield begins


def _check_order(columns: Sequence[pl.Series], starts: Sequence[npt.NDArray[np.int64]], n_rows: int) -> None:
    """Raise LinnaeaError unless each name within a group of the rank above is one run of rows."""
    group_above = np.zeros(n_rows, np.int64)
    for label, column, start in zip(RANK_LABELS, columns, starts, strict=True):
        pairs = pl.DataFrame({"above": group_above[start], "name": column.gather(start)})
        if (repeated := pairs.is_duplicated()).any():
            name = pairs.filter(repeated)["name"][0]
            raise LinnaeaError(
                f"the taxa are not in depth-first order: {label} {name!r} has rows in two places; sort the table first"
            )
        group_above = np.repeat(np.arange(len(start)), np.diff(np.append(start, n_rows)))


def _preorder(
    named: Sequence[npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.int64], Int32s, npt.NDArray[np.int8]]:
    """Return the depth-first order of nodes (from the root and the nodes per rank), and their first leaf and rank."""
    first = np.concatenate([[0], *named]).astype(np.int64)
    rank = np.repeat(np.arange(ROOT_RANK, N_RANKS), [1, *(len(starts) for starts in named)]).astype(np.int8)
    order = np.argsort(first * (N_RANKS + 1) + rank + 1, kind="stable")
    return order, first[order].astype(np.int32), rank[order]


def _lineage(
    starts: Sequence[npt.NDArray[np.int64]],
    named: Sequence[npt.NDArray[np.int64]],
    order: npt.NDArray[np.int64],
    n_rows: int,
) -> Int32s:
    """Return ``[n_rows, 7]``: node numbers, filled from the rank above if a rank has no name."""
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    lineage = np.empty((n_rows, N_RANKS), np.int32)
    above, done = np.full(n_rows, ROOT, np.int32), 1
    for column, (start, own) in enumerate(zip(starts, named, strict=True)):
        at_start = above[start]
        at_start[np.searchsorted(start, own)] = number[done : done + len(own)]
        lineage[:, column] = above = np.repeat(at_start, np.diff(np.append(start, n_rows)))
        done += len(own)
    return lineage
