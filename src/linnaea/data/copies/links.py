"""The links among near hashes of one table: a forest, so that k frames of one camera give k links and not k squared.

Two rows are linked if they differ in at most ``threshold`` bits, and links chain. Pairs are compared block by block;
of each block only those links are kept that join two clusters. So the memory is that of one block and of one number
per row, about 100 MB and at most 300 MB, however many rows are near one another.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.hashes import Hashes
from linnaea.data.copies.search import HIT_SCHEMA, Hits, Indices, Rows, SearchIndex, SearchTask, empty_hits
from linnaea.data.shards import write_parquet

ALL_PAIRS_UP_TO = 60_000
"""Up to this number of rows, all pairs are compared (2.7e9 a second); above, an index finds the candidates."""
BLOCK_PAIRS = 500_000
"""The number of pairs that are compared at once."""


class Forest:
    """The clusters of rows so far; :meth:`join` returns the links that join two of them."""

    def __init__(self, n_rows: int) -> None:
        self.cluster_of: NDArray[np.int64] = np.arange(n_rows)
        """The cluster of each row, given by its lowest row."""

    def are_apart(self, query: Indices, target: Indices) -> NDArray[np.bool_]:
        """Tell for each pair whether its rows are in different clusters."""
        return np.asarray(self.cluster_of[query] != self.cluster_of[target])

    def join(self, hits: Hits) -> Hits:
        """Join the clusters of each pair, and return the links that do it: k clusters become one by k - 1 links."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import minimum_spanning_tree

        apart = np.flatnonzero(self.are_apart(hits.query, hits.target))
        if not len(apart):
            return empty_hits()
        n, one, other = len(self.cluster_of), self.cluster_of[hits.query[apart]], self.cluster_of[hits.target[apart]]
        pairs, first = np.unique(np.minimum(one, other) * n + np.maximum(one, other), return_index=True)
        graph = coo_array((np.arange(1, len(pairs) + 1), (pairs // n, pairs % n)), shape=(n, n))
        kept = apart[first[np.sort(minimum_spanning_tree(graph).data).astype(np.int64) - 1]]
        self.cluster_of = connect(n, [(one, other)])[self.cluster_of]
        return Hits(hits.query[kept], hits.target[kept], hits.distance[kept])


def connect_near(hashes: Hashes, threshold: int) -> NDArray[np.int64]:
    """Return the cluster of each row of ``hashes`` (``[N, 4]``), given by its lowest row.

    Raises:
        ValueError: the threshold is outside the range that can be searched (0 to 63).
    """
    forest = Forest(len(hashes))
    for _ in iter_links(hashes, threshold, forest=forest):
        pass
    return forest.cluster_of


def iter_links(
    hashes: Hashes, threshold: int, *, start: int = 0, length: int | None = None, forest: Forest | None = None
) -> Iterator[Hits]:
    """Yield links from rows ``start`` to ``start + length`` to later rows; they join the clusters that near pairs join.

    Raises:
        ValueError: the threshold is outside the range that can be searched (0 to 63).
    """
    if not 0 <= threshold < 64:
        raise ValueError(f"threshold {threshold}: must be between 0 and 63")
    forest = forest or Forest(len(hashes))
    end = len(hashes) if length is None else min(start + length, len(hashes))
    if len(hashes) <= ALL_PAIRS_UP_TO:
        found = _iter_all(hashes, threshold, start, end)
    else:
        found = SearchIndex(hashes).iter_later(start, end, threshold, forest.are_apart)
    for hits in found:
        links = forest.join(hits)
        if len(links.query):
            yield links


def _iter_all(hashes: Hashes, threshold: int, start: int, end: int) -> Iterator[Hits]:
    step = max(1, BLOCK_PAIRS // max(len(hashes), 1))
    for low in range(start, end, step):
        some = hashes[low : min(low + step, end)]
        distance = np.zeros((len(some), len(hashes) - low), dtype=np.uint16)
        for word in range(4):
            distance += np.bitwise_count(some[:, None, word] ^ hashes[None, low:, word])
        query, target = np.nonzero(distance <= threshold)
        later = query < target
        query, target = query[later], target[later]
        yield Hits(query + low, target + low, distance[query, target].astype(np.int64))


def search_links(task: SearchTask) -> int:
    """Search a file of hashes in itself for one slice, and write the links to later rows."""
    hashes = np.load(task.targets, mmap_mode="r")
    found = [pl.DataFrame(schema=HIT_SCHEMA)]
    for hits in iter_links(hashes, task.threshold, start=task.start, length=task.length):
        links = {"query": hits.query, "target": hits.target, "distance": hits.distance}
        found.append(pl.DataFrame(links, schema=HIT_SCHEMA))
    write_parquet(pl.concat(found), task.part)
    return task.length


def lead(hashes: Hashes, threshold: int) -> tuple[Rows, Rows]:
    """Return the leader of each row and its distance: the first earlier leader within the threshold, or itself.

    No two leaders are within the threshold of each other.
    """
    leaders, n_leaders = np.empty(len(hashes), np.int64), 0
    led, leader_of, distance_to = np.empty_like(hashes), np.arange(len(hashes)), np.zeros(len(hashes), np.int64)
    for row in range(len(hashes)):
        distances = np.bitwise_count(led[:n_leaders] ^ hashes[row]).sum(axis=1, dtype=np.int64)
        near = np.flatnonzero(distances <= threshold)
        if len(near):
            leader_of[row], distance_to[row] = leaders[near[0]], distances[near[0]]
        else:
            leaders[n_leaders], led[n_leaders] = row, hashes[row]
            n_leaders += 1
    return leader_of, distance_to


def connect(n: int, links: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> NDArray[np.int64]:
    """Return the cluster of each of ``n`` rows, given by its lowest row.

    Args:
        n: number of rows
        links: pairs of row arrays of equal length; the rows of a pair are in one cluster
    """
    empty = np.empty(0, np.int64)
    ones, others = (np.concatenate([empty, *side]) for side in zip((empty, empty), *links, strict=True))
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(ones), np.int8), (ones, others)), shape=(n, n))
    _, number = connected_components(graph, directed=False)
    lowest = np.unique(number, return_index=True)[1]
    return np.asarray(lowest[number], dtype=np.int64)
