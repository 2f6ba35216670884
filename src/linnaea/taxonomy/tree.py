"""The tree of a table of taxa: depth-first nodes, ancestors, common ancestors, sums over every rank.

Rows in depth-first order make each taxon of each rank one contiguous range of rows ("leaves"), so that scores
of all ranks are segment sums and the common ancestor of two rows is a comparison of seven integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """The rows of ``taxa`` sorted into depth-first order (by the seven ranks, then by common name if there is one)."""
    keys = [pl.col(label).fill_null("") for label in RANK_LABELS]
    if "common_name" in taxa.columns:
        keys.append(pl.col("common_name").fill_null(""))
    return taxa.sort(keys, maintain_order=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaxonTree:
    """A tree of taxa as arrays. Leaf ``i`` is row ``i`` of the table it was made from.

    Nodes are numbered depth-first (a parent before its children, ``ROOT`` first). Two names are one node only if
    all their named ancestors agree, so homonyms stay apart. A row may be of any rank, may lack ranks in between
    (then its parent is the nearest named ancestor), and several rows may share one node (names in two languages).
    """

    name: pl.Series
    """[n_nodes] the node's own name; of a species the epithet alone (see :meth:`scientific_names`)."""
    parent: Int32s
    """[n_nodes] -1 for the root."""
    rank: npt.NDArray[np.int8]
    """[n_nodes] a :class:`Rank`, -1 for the root."""
    depth: npt.NDArray[np.int8]
    """[n_nodes] edges up to the root."""
    first_leaf: Int32s
    """[n_nodes]"""
    last_leaf: Int32s
    """[n_nodes] the last leaf itself, not one past it; :meth:`leaves` gives the slice."""
    lineage: Int32s
    """[n_leaves, 7] the node at each rank, or the nearest one above where the rank is not named."""

    @classmethod
    def of(cls, taxa: pl.DataFrame) -> Self:
        """The tree of ``taxa``: seven columns named after the ranks, null or "" where unknown, depth-first rows.

        About a second per million rows.

        Raises:
            LinnaeaError: a rank's column is missing, or the rows are not in depth-first order.
        """
        if missing := [label for label in RANK_LABELS if label not in taxa.columns]:
            raise LinnaeaError(f"the taxa have no column {missing[0]!r}; a tree needs {', '.join(RANK_LABELS)}")
        columns = [taxa[label].cast(pl.String).fill_null("") for label in RANK_LABELS]
        starts = [np.flatnonzero(begins) for begins in _group_begins(columns, taxa.height)]
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
        """Nodes, the root among them."""
        return len(self.parent)

    @property
    def n_leaves(self) -> int:
        """Rows of the table."""
        return len(self.lineage)

    def __repr__(self) -> str:
        return f"TaxonTree({self.n_leaves:,} leaves, {self.n_nodes:,} nodes)"

    # Going up and down.

    def leaves(self, node: int) -> slice:
        """The leaves at or below ``node`` as a slice of rows."""
        return slice(int(self.first_leaf[node]), int(self.last_leaf[node]) + 1)

    def subtree(self, node: int) -> slice:
        """The nodes at or below ``node`` as a slice of nodes."""
        after = np.searchsorted(self.first_leaf, self.last_leaf[node], side="right") if self.n_leaves else self.n_nodes
        return slice(node, max(int(after), node + 1))

    def children(self, node: int) -> Int32s:
        """The nodes right below ``node``, in order."""
        inside = self.subtree(node)
        return (np.flatnonzero(self.parent[inside] == node) + node).astype(np.int32)

    def ancestors(self, node: int) -> list[int]:
        """The nodes above ``node``, from the root down to its parent."""
        path = []
        while (node := int(self.parent[node])) != -1:
            path.append(node)
        return path[::-1]

    def node_of_leaf(self, rank: Rank = Rank.SPECIES) -> Int32s:
        """[n_leaves] each leaf's node at ``rank``, or the nearest one above where that rank is not named."""
        return self.lineage[:, rank]

    def ancestor_at(self, nodes: Nodes, rank: Rank) -> Int32s:
        """Each node's ancestor (or itself) at ``rank``, or the nearest one above where there is none."""
        nodes = np.asarray(nodes)
        found = self.lineage[self.first_leaf[nodes], np.minimum(rank, self.rank[nodes])]
        return np.where(self.rank[nodes] < 0, ROOT, found).astype(np.int32)

    def scientific_names(self, nodes: Nodes) -> pl.Series:
        """The names of ``nodes``, of species the binomial."""
        nodes = np.atleast_1d(np.asarray(nodes))
        own, above = self.name.gather(nodes), self.name.gather(np.maximum(self.parent[nodes], 0))
        species = pl.Series(self.rank[nodes] == Rank.SPECIES)
        frame = pl.DataFrame({"own": own, "above": above, "species": species})
        return frame.select(
            pl.when("species").then(pl.col("above") + " " + pl.col("own")).otherwise("own").alias("name")
        )["name"]

    # Two taxa.

    def lca(self, a: Nodes, b: Nodes) -> Int32s:
        """The lowest common ancestor of each pair of nodes; broadcasts; about three million pairs per second."""
        a, b = np.broadcast_arrays(np.asarray(a), np.asarray(b))
        if not self.n_leaves:
            return np.zeros(a.shape, np.int32)
        first_a, first_b = self.first_leaf[a], self.first_leaf[b]
        # Lineages agree down to some rank and nowhere below, so the number of agreements is that rank.
        shared = (self.lineage[first_a] == self.lineage[first_b]).sum(axis=-1, dtype=np.int8) - np.int8(1)
        lowest = np.minimum(np.minimum(self.rank[a], self.rank[b]), shared)
        found = self.lineage[first_a, np.maximum(lowest, 0)]
        return np.where(lowest < 0, ROOT, found).astype(np.int32)

    def tree_distance(self, a: Nodes, b: Nodes) -> Int32s:
        """Edges on the way from ``a`` to ``b``; a rank that is not named in between is no edge."""
        met = self.lca(a, b)
        depth = self.depth.astype(np.int32)
        return np.asarray(depth[np.asarray(a)] + depth[np.asarray(b)] - 2 * depth[met], np.int32)

    def lca_height(self, a: Nodes, b: Nodes) -> Int32s:
        """Ranks from species up to where two lineages meet: 0 same species, 1 same genus, ..., 7 other kingdom.

        The severity of a mistake (Bertinetto et al., "Making Better Mistakes", CVPR 2020, section 3).
        """
        return np.asarray(int(Rank.SPECIES) - self.rank[self.lca(a, b)].astype(np.int32))

    # Sums over ranks.

    def groups(self, rank: Rank) -> Int32s:
        """[n_groups] the nodes that the leaves fall into at ``rank``, in order of leaves.

        Every leaf is in one group: where its ``rank`` is not named, that of its nearest ancestor.
        """
        return np.asarray(self.lineage[self._group_starts(rank), rank], np.int32)

    def group_of_leaf(self, rank: Rank) -> Int32s:
        """[n_leaves] the number of each leaf's group at ``rank``: its place in :meth:`groups`."""
        column = self.lineage[:, rank]
        return np.cumsum(np.append(False, column[1:] != column[:-1])[: self.n_leaves], dtype=np.int32)

    def group_sums(self, scores: npt.ArrayLike, rank: Rank) -> npt.NDArray[Any]:
        """Sums of ``scores`` [..., n_leaves] over the groups at ``rank``: [..., n_groups] (see :meth:`groups`).

        Half precision is summed in single; the result of probabilities adds up to what they add up to.
        """
        values = self._scores(scores)
        starts = self._group_starts(rank)
        if not len(starts):
            return np.zeros((*values.shape[:-1], 0), values.dtype)
        return np.add.reduceat(values, starts, axis=-1)

    def group_log_sums(self, log_scores: npt.ArrayLike, rank: Rank) -> npt.NDArray[Any]:
        """Log of the summed exponentials over the groups at ``rank``, without overflow: [..., n_groups].

        Group log-probabilities from leaf log-probabilities; a group of -inf alone is -inf.
        """
        values = self._scores(log_scores)
        starts = self._group_starts(rank)
        if not len(starts):
            return np.zeros((*values.shape[:-1], 0), values.dtype)
        top = np.maximum.reduceat(values, starts, axis=-1)
        finite = np.where(np.isfinite(top), top, 0)
        shifted = np.exp(values - finite[..., self.group_of_leaf(rank)])
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.add.reduceat(shifted, starts, axis=-1)) + finite)

    def all_group_sums(self, scores: npt.ArrayLike) -> dict[Rank, npt.NDArray[Any]]:
        """:meth:`group_sums` at every rank; each is summed from the one below, so seven cost little more than one."""
        sums: dict[Rank, npt.NDArray[Any]] = {}
        values, starts_below = self._scores(scores), np.arange(self.n_leaves)
        for rank in reversed(Rank):
            starts = self._group_starts(rank)
            if len(starts):
                values = np.add.reduceat(values, np.searchsorted(starts_below, starts), axis=-1)
            else:
                values = np.zeros((*values.shape[:-1], 0), values.dtype)
            sums[rank], starts_below = values, starts
        return sums

    def restrict(self, leaves: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | slice) -> Self:
        """The tree of some leaves alone (a mask, ascending row numbers, or ``tree.leaves(node)``), ancestors kept."""
        kept = self.lineage[leaves]
        nodes = np.union1d([ROOT], kept).astype(np.int32)
        lineage = np.searchsorted(nodes, kept).astype(np.int32)
        first_leaf = np.zeros(len(nodes), np.int32)
        for column in lineage.T[::-1]:
            found, first = np.unique(column, return_index=True)
            first_leaf[found] = first
        first_leaf[ROOT] = 0
        return type(self)._from_lineage(self.name.gather(nodes), first_leaf, self.rank[nodes], lineage)

    def _group_starts(self, rank: Rank) -> npt.NDArray[np.int64]:
        column = self.lineage[:, rank]
        return np.flatnonzero(np.append(True, column[1:] != column[:-1])[: self.n_leaves])

    def _scores(self, scores: npt.ArrayLike) -> npt.NDArray[Any]:
        values = np.asarray(scores)
        if values.shape[-1:] != (self.n_leaves,):
            raise ValueError(f"scores of shape {values.shape} do not end with the tree's {self.n_leaves} leaves")
        return values.astype(np.float32) if values.dtype in (np.float16, np.bool_) else values


def _group_begins(columns: Sequence[pl.Series], n_rows: int) -> list[npt.NDArray[np.bool_]]:
    """For each rank, the rows where the lineage down to that rank is another than in the row before."""
    begins = np.zeros(n_rows, bool)
    begins[:1] = True
    found = []
    for label, column in zip(RANK_LABELS, columns, strict=True):
        group_above = np.cumsum(begins, dtype=np.int64)
        begins = begins | (column != column.shift(1)).fill_null(True).to_numpy()
        # Depth-first means that each (group above, name) is one run; a run more is a taxon in two places.
        pairs = pl.DataFrame({"above": group_above, "name": column}).filter(pl.Series(begins))
        if (repeated := pairs.is_duplicated()).any():
            name = pairs.filter(repeated)["name"][0]
            raise LinnaeaError(
                f"the taxa are not in depth-first order: {label} {name!r} has rows in two places; sort the table first"
            )
        found.append(begins)
    return found


def _preorder(
    named: Sequence[npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.int64], Int32s, npt.NDArray[np.int8]]:
    """Order of nodes (the root, then those of each rank), and first leaf and rank in that order."""
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
    """[n_rows, 7] node numbers, filled from above where a rank is not named."""
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
