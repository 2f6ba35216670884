"""The rules for copies within a data set: all are kept, only one is kept, or all stay in one split."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.data.copies.hashes import DistinctHashes, HashTable
from linnaea.data.copies.search import THRESHOLD
from linnaea.data.plan import DETAIL

Fate = Literal["keep", "drop", "group"]

LINK_SCHEMA: dict[str, Any] = {"first": pl.Int64, "row": pl.Int64, "distance": pl.Int64, "kind": pl.String}
REASON_SCHEMA: dict[str, Any] = {"row": pl.Int64, "reason": pl.String}

_MAX_THRESHOLD = 63


@dataclass(frozen=True, kw_only=True)
class DuplicateRule:
    """How a build handles pictures that occur several times, in one source or in several.

    ``drop`` keeps the first picture by key and rejects its copies. ``group`` gives a cluster of copies (with further
    photographs of the same individuals) one group, so that training and test never share it. A near copy differs in
    at most ``threshold`` of the 256 bits of its perceptual hash; exact copies are near copies too.
    """

    exact: Fate = "keep"
    """Copies with the same bytes or the same pixels."""
    near: Fate = "keep"
    """Copies that were resized, saved again or slightly changed."""
    threshold: int = THRESHOLD
    """Maximum Hamming distance of near copies, of 256 bits."""

    def __post_init__(self) -> None:
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


def settle_copies(records: pl.DataFrame, rule: DuplicateRule, links: pl.DataFrame, alive: NDArray[np.bool_]) -> Copies:
    """Apply the rule to the records (sorted by key) that are ``alive``; ``links`` has :data:`LINK_SCHEMA`."""
    fate = {"exact": rule.exact, "near": rule.near}
    links = links.filter(_is(alive, "first") & _is(alive, "row")).with_columns(
        fate=pl.col("kind").replace_strict(fate, return_dtype=pl.String)
    )
    dropped = _drop(links.filter(pl.col("fate") == "drop"))
    alive = alive.copy()
    alive[dropped["row"].to_numpy()] = False
    together = links.filter((pl.col("fate") == "group") & _is(alive, "first") & _is(alive, "row"))
    return Copies(rejected=_explain(dropped, records), grouped=_group(records, together, alive))


def link_exact(hashes: HashTable, alive: NDArray[np.bool_]) -> pl.DataFrame:
    """Return links from every alive picture to the first with the same bytes and the first with the same pixels."""
    rows = pl.Series("row", np.flatnonzero(alive), dtype=pl.Int64)
    found = [pl.DataFrame(schema=LINK_SCHEMA)]
    for kind in ("sha256", "pixels"):
        table = pl.DataFrame({"row": rows, "digest": hashes.digests(kind).filter(pl.Series(alive))}).drop_nulls()
        linked = table.with_columns(first=pl.col("row").min().over("digest")).filter(pl.col("first") != pl.col("row"))
        found.append(linked.select("first", "row", distance=pl.lit(0, pl.Int64), kind=pl.lit("exact")))
    return pl.concat(found)


def link_near(hashes: DistinctHashes, hits: Iterable[pl.DataFrame], alive: NDArray[np.bool_]) -> pl.DataFrame:
    """Return links between alive pictures with near hashes.

    ``hits`` are pairs of distinct hashes; the first picture with a hash represents the others. Pictures with equal
    hashes are linked to their first at distance 0, so ten thousand copies of one picture are ten thousand links and
    not their square.
    """
    rows, number = hashes.table.rows, hashes.number
    rows, number = rows[alive[rows]], number[alive[rows]]
    first = np.full(hashes.number.max(initial=-1) + 1, len(alive), dtype=np.int64)
    np.minimum.at(first, number, rows)
    twins = rows != first[number]
    found = [_links(first[number[twins]], rows[twins], np.zeros(int(twins.sum()), dtype=np.int64))]
    for block in hits:
        one, other = first[block["query"].to_numpy()], first[block["target"].to_numpy()]
        low, high = np.minimum(one, other), np.maximum(one, other)
        living = high < len(alive)
        found.append(_links(low[living], high[living], block["distance"].to_numpy()[living]))
    return pl.concat(found)


def _links(first: NDArray[np.int64], row: NDArray[np.int64], distance: NDArray[np.int64]) -> pl.DataFrame:
    table = pl.DataFrame({"first": first, "row": row, "distance": distance}).with_columns(kind=pl.lit("near"))
    return table.cast(LINK_SCHEMA)  # type: ignore[arg-type]


def _is(mask: NDArray[np.bool_], column: str) -> pl.Expr:
    return pl.col(column).map_batches(lambda rows: pl.Series(mask[rows.to_numpy()]), return_dtype=pl.Boolean)


def _drop(links: pl.DataFrame) -> pl.DataFrame:
    """Return, for every dropped picture, its link to one kept picture.

    Rows are processed in order, so every earlier row is decided already. In a chain a - b - c whose ends are not
    copies of each other, b is dropped and c is kept. At distance 0 a row is treated as its first row is.
    """
    dropped: dict[int, tuple[int, int, str]] = {}
    for first, row, distance, kind in links.select(*LINK_SCHEMA).sort("row", "kind", "distance", "first").iter_rows():
        if row in dropped:
            continue
        if first not in dropped:
            dropped[row] = (first, distance, kind)
        elif distance == 0:
            dropped[row] = dropped[first]
    rows = [(first, row, distance, kind) for row, (first, distance, kind) in dropped.items()]
    return pl.DataFrame(rows, schema=LINK_SCHEMA, orient="row")


def _explain(dropped: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    kept = records.select("source", "record_id")[dropped["first"]]
    what = pl.when(pl.col("kind") == "exact").then(pl.lit("exact copy")).otherwise(pl.lit("near copy"))
    far = pl.when(pl.col("kind") == "exact").then(pl.lit("")).otherwise(pl.format(", distance {}", "distance"))
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
