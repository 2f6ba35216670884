"""The rules for copies within a data set: all are kept, only one is kept, or all stay in one split."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.hashes import DistinctHashes, Hashes, HashTable
from linnaea.data.copies.links import connect, lead
from linnaea.data.copies.search import THRESHOLD
from linnaea.data.plan import DETAIL

Fate = Literal["keep", "drop", "group"]

LINK_SCHEMA: dict[str, Any] = {"first": pl.Int64, "row": pl.Int64, "distance": pl.Int64, "kind": pl.String}
REASON_SCHEMA: dict[str, Any] = {"row": pl.Int64, "reason": pl.String}

_MAX_THRESHOLD = 63
DROP_THRESHOLD = 12
"""Nine of ten true copies lie within it, and one in six frames of a fixed camera with an animal on 2% of the picture
(``benchmarks/copies.py``)."""


@dataclass(frozen=True, kw_only=True)
class DuplicateRule:
    """The treatment of pictures that occur several times, in one source or in several.

    ``drop`` keeps the first picture by key and rejects its copies. ``group`` gives a cluster of copies (with further
    photographs of the same individuals) one group, so that training and test never share it. A near copy differs in
    at most ``threshold`` of the 256 bits of its perceptual hash; exact copies are near copies too.

    Of near copies, ``drop`` rejects only those with the same name that differ in at most ``drop_threshold`` bits from
    one that is kept, because the frames of a fixed camera are near copies of one another whatever they show. It groups
    the others.
    """

    exact: Fate = "keep"
    """Copies with the same bytes or the same pixels."""
    near: Fate = "keep"
    """Copies that were resized, saved again or slightly changed."""
    threshold: int = THRESHOLD
    """Maximum Hamming distance of near copies, of 256 bits."""
    drop_threshold: int = DROP_THRESHOLD
    """Maximum Hamming distance of near copies that are dropped; ``threshold``, if that is lower."""

    def __post_init__(self) -> None:
        if self.drop_threshold < 0:
            raise ValueError(f"drop_threshold {self.drop_threshold}: must be at least 0")
        if not 0 <= self.threshold <= _MAX_THRESHOLD:
            raise ValueError(f"threshold {self.threshold}: must be between 0 and {_MAX_THRESHOLD}")

    @property
    def is_on(self) -> bool:
        return self.exact != "keep" or self.near != "keep"


@dataclass(frozen=True, kw_only=True)
class Copies:
    """The result of a rule for copies."""

    rejected: pl.DataFrame
    """The rejected copies: ``row, reason``."""
    grouped: pl.DataFrame
    """``row, cluster``: the lowest row of the cluster of every picture with a copy, or in the group of a copy."""
    n_under_other_names: int = 0
    """The number of pictures in clusters of near copies with several names."""


HashesOf = Callable[[NDArray[np.int64]], Hashes]
"""Returns the perceptual hashes ``[n, 4]`` of rows that have one."""


def settle_copies(
    records: pl.DataFrame, rule: DuplicateRule, links: pl.DataFrame, alive: NDArray[np.bool_], hashes_of: HashesOf
) -> Copies:
    """Apply the rule to the records (sorted by key, with ``taxon_id``) that are ``alive``.

    ``links`` has :data:`LINK_SCHEMA`; its near links connect all near copies, but are not all pairs.
    """
    exact, near = (links.filter((pl.col("kind") == kind) & _both(alive)) for kind in ("exact", "near"))
    dropped = _drop(exact) if rule.exact == "drop" else exact.clear()
    alive = alive.copy()
    alive[dropped["row"].to_numpy()] = False
    near = near.filter(_both(alive)) if rule.near != "keep" else near.clear()
    clusters = _cluster(near, records)
    if rule.near == "drop":
        close = _drop_close(clusters, min(rule.threshold, rule.drop_threshold), hashes_of)
        dropped = pl.concat([dropped, close])
        alive[close["row"].to_numpy()] = False
        near = _relink(clusters.filter(_is(alive, "row")))
    together = pl.concat([exact.filter(_both(alive)) if rule.exact == "group" else exact.clear(), near])
    n_names = pl.col("taxon_id").n_unique().over("cluster")
    return Copies(
        rejected=_explain(dropped, records),
        grouped=_group(records, together, alive),
        n_under_other_names=clusters.filter(n_names > 1).height,
    )


def link_exact(hashes: HashTable, alive: NDArray[np.bool_]) -> pl.DataFrame:
    """Return links from every alive picture to the first with the same bytes and the first with the same pixels."""
    rows = pl.Series("row", np.flatnonzero(alive), dtype=pl.Int64)
    found = [pl.DataFrame(schema=LINK_SCHEMA)]
    for kind in ("sha256", "pixels"):
        table = pl.DataFrame({"row": rows, "digest": hashes.digests(kind).filter(pl.Series(alive))}).drop_nulls()
        linked = table.with_columns(first=pl.col("row").min().over("digest")).filter(pl.col("first") != pl.col("row"))
        found.append(linked.select("first", "row", distance=pl.lit(0, pl.Int64), kind=pl.lit("exact")))
    return pl.concat(found)


def link_near(hashes: DistinctHashes, hits: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return links between the pictures of ``hashes`` that are near one another.

    ``hits`` are links of distinct hashes (:func:`~linnaea.data.copies.links.search_links`); the first picture with a
    hash represents the others. Pictures with equal hashes are linked to their first at distance 0, so ten thousand
    copies of one picture are ten thousand links and not their square.
    """
    rows, number = hashes.rows, hashes.number
    first = np.full(number.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, number, rows)
    twins = rows != first[number]
    found = [_links(first[number[twins]], rows[twins], np.zeros(int(twins.sum()), dtype=np.int64))]
    for block in hits:
        one, other = first[block["query"].to_numpy()], first[block["target"].to_numpy()]
        found.append(_links(np.minimum(one, other), np.maximum(one, other), block["distance"].to_numpy()))
    return pl.concat(found)


def _links(first: NDArray[np.int64], row: NDArray[np.int64], distance: NDArray[np.int64]) -> pl.DataFrame:
    table = pl.DataFrame({"first": first, "row": row, "distance": distance}).with_columns(kind=pl.lit("near"))
    return table.cast(LINK_SCHEMA)  # type: ignore[arg-type]


def _both(mask: NDArray[np.bool_]) -> pl.Expr:
    return _is(mask, "first") & _is(mask, "row")


def _is(mask: NDArray[np.bool_], column: str) -> pl.Expr:
    return pl.col(column).map_batches(lambda rows: pl.Series(mask[rows.to_numpy()]), return_dtype=pl.Boolean)


def _drop(links: pl.DataFrame) -> pl.DataFrame:
    """Return, for every exact copy that is dropped, its link to one kept picture.

    Rows are processed in order, so every earlier row is decided already. A row is treated as its first row is.
    """
    dropped: dict[int, tuple[int, int, str]] = {}
    for first, row, distance, kind in links.select(*LINK_SCHEMA).sort("row", "kind", "distance", "first").iter_rows():
        if row in dropped:
            continue
        dropped[row] = dropped.get(first, (first, distance, kind))
    rows = [(first, row, distance, kind) for row, (first, distance, kind) in dropped.items()]
    return pl.DataFrame(rows, schema=LINK_SCHEMA, orient="row")


def _cluster(near: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Return ``row``, ``cluster`` and ``taxon_id`` of every picture with a near copy, in order."""
    rows = pl.concat([near["first"], near["row"]]).unique().sort()
    names = connect(records.height, [(near["first"].to_numpy(), near["row"].to_numpy())])[rows.to_numpy()]
    return pl.DataFrame({"row": rows, "cluster": names, "taxon_id": records["taxon_id"].gather(rows)})


def _drop_close(clusters: pl.DataFrame, threshold: int, hashes_of: HashesOf) -> pl.DataFrame:
    """Return a link to the first kept picture with the same name for each one within the threshold of it."""
    found = [pl.DataFrame(schema=LINK_SCHEMA)]
    for _, part in clusters.group_by("cluster", "taxon_id", maintain_order=True):
        rows = part["row"].to_numpy()
        leader, distance = lead(hashes_of(rows), threshold)
        close = np.flatnonzero(leader != np.arange(len(rows)))
        if len(close):
            found.append(_links(rows[leader[close]], rows[close], distance[close]))
    return pl.concat(found).sort("row")


def _relink(clusters: pl.DataFrame) -> pl.DataFrame:
    """Return a link from the first row of each cluster to each of its others."""
    table = clusters.with_columns(first=pl.col("row").min().over("cluster")).filter(pl.col("first") != pl.col("row"))
    return _links(table["first"].to_numpy(), table["row"].to_numpy(), np.zeros(table.height, np.int64))


def _explain(dropped: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    kept = records.select("source", "record_id")[dropped["first"]]
    what = pl.when(pl.col("kind") == "exact").then(pl.lit("exact copy")).otherwise(pl.lit("near copy"))
    far = (
        pl.when(pl.col("kind") == "exact")
        .then(pl.lit(""))
        .otherwise(pl.concat_str(pl.lit(", distance "), pl.col("distance").cast(pl.String)))
    )
    reason = pl.concat_str(what, pl.lit(f"{DETAIL}of "), "source", pl.lit(" "), "record_id", far)
    return dropped.hstack(kept).select("row", reason=reason).cast(REASON_SCHEMA)  # type: ignore[arg-type]


def _group(records: pl.DataFrame, links: pl.DataFrame, alive: NDArray[np.bool_]) -> pl.DataFrame:
    """Return the clusters of copies, joined with the pictures in a copy's group (an individual, an observation)."""
    if links.is_empty():
        return pl.DataFrame(schema={"row": pl.Int64, "cluster": pl.Int64})
    named = records.select("source", "group").with_row_index("row").cast({"row": pl.Int64})
    named = named.filter(pl.Series(alive) & (pl.col("group") != ""))
    named = named.with_columns(first=pl.col("row").min().over("source", "group"))
    both = [(table["first"].to_numpy(), table["row"].to_numpy()) for table in (links, named)]
    clusters = connect(records.height, both)
    copied = np.unique(clusters[links["row"].to_numpy()])
    rows = np.flatnonzero(np.isin(clusters, copied) & alive)
    return pl.DataFrame({"row": rows, "cluster": clusters[rows]}, schema={"row": pl.Int64, "cluster": pl.Int64})
